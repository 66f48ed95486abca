#pragma once

#include "cpu/isa.h"

MASR_CPU_KERNEL(
    /// target = factor * source
    void scale_field(const View& source, float factor, const View& target);
    /// target += source
    void add_field(const View& source, const View& target);)
