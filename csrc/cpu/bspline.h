#pragma once

#include "cpu/isa.h"

MASR_CPU_KERNEL(void bspline_upsample(const View& control, const std::int64_t* spacing, const View& out);
                void bspline_adjoint(const View& gradient, const std::int64_t* spacing, const View& out);)
