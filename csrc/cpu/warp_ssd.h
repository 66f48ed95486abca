#pragma once

#include "cpu/isa.h"
#include "masr/warp_ssd.h"

namespace masr {

/// What one task adds up.
struct WarpSsdSums {
  double weight = 0, squared = 0;  ///< of w[v], and of w[v] sum_c (moving - fixed)^2
  double matrix[3][4] = {};        ///< of w[v] sum_c (moving - fixed) d moving (v, 1)^T
};

/// A task is a block of whole rows of one batch item, of a size that depends on nothing else.
inline constexpr std::int64_t warp_ssd_task_planes = 16, warp_ssd_task_rows = 16;

}  // namespace masr

// warp_ssd_task: sums of block (z0, y0) of batch item n. `gradient` (no data: none) takes scale w[v] sum_c (moving - fixed)
// d moving; with `matrix_gradient` sums.matrix is filled.
// warp_ssd_rescale: gradient[n, :, z] *= factor.
MASR_CPU_KERNEL(WarpSsdSums warp_ssd_task(const WarpSsd& input, std::int64_t n, std::int64_t z0, std::int64_t y0,
                                          const View& gradient, float scale, bool matrix_gradient);
                void warp_ssd_rescale(const View& gradient, std::int64_t n, std::int64_t z, float factor);)
