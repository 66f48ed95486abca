#pragma once

#include "cpu/isa.h"
#include "masr/search.h"

namespace masr {

/// Keeps the numbers of displacements, and the squares of their lengths, within 32 bits.
inline constexpr std::int64_t search_max_radius = 32;

}  // namespace masr

MASR_CPU_KERNEL(void displacement_search(const DisplacementSearch& input, const View& displacement, const View& cost);)
