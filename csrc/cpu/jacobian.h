#pragma once

#include "cpu/isa.h"

MASR_CPU_KERNEL(void jacobian_determinant(const View& displacement, const View& out);
                void jacobian_determinant_backward(const View& displacement, const View& gradient, const View& out);)
