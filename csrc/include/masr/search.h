// Dense displacement search: the discrete start of a deformable registration.
#pragma once

#include <array>

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

/// What displacement_search compares. A view without data is an argument not given.
///
/// The cost of the displacement d at cell v is a mean over the cells u of the 3 x 3 x 3 cells around v. A cell u counts
/// with its weight w[u], and at d only where its partner u + d is valid: in the grid, moving_mask above 0.5, all
/// features finite. With s(u, d) = mean_c (fixed[u] - moving[u + d])^2 and the share q(v, d) = sum of w[u] over the
/// cells with a valid partner / sum over all,
///
///   cost(v, d) = sqrt(q) mean of s(u, d) over the cells with a valid partner + (1 - sqrt(q)) level(v),
///   level(v)   = mean over the cells u of the mean of s(u, d') over all d' with a valid partner.
///
/// The mean over fewer cells is noisier and would be the least more often than its due: drawn towards the level it
/// varies as much as all others, so that what lies outside neither attracts nor repels. d is a candidate at v where v +
/// d is valid itself and some cell counts.
struct DisplacementSearch {
  View fixed;                         ///< (N, C, D, H, W) float32, float16 or bfloat16
  View moving;                        ///< the shape and type of fixed
  View weights;                       ///< (N, 1, D, H, W) float32, what is not above 0 counts as 0; default 1
  View moving_mask;                   ///< (N, 1, D, H, W) uint8 or float32; default: all of moving
  View coupling;                      ///< u (N, 3, D, H, W) float32, cells, component k along array axis k; default 0
  double theta = 0;                   ///< weight of the coupling, not negative
  std::array<std::int64_t, 3> radius;  ///< d runs over -radius .. radius along z, y, x
};

/// displacement (N, 3, D, H, W) float32: the candidate with the least cost + theta |d - u|^2; of equal ones the one of
/// least |d|^2, then the first in the order of d (z, y, x); at borders and masks rounding, which differs between the
/// backends, decides between equal costs. cost (N, 1, D, H, W) float32: the cost alone. Where a cell
/// has no candidate: the displacement nearest to u, and NaN. Any strides are read and written. Never holds all costs:
/// on the CPU per thread about 0.5 MB (twice that with weights or a mask), more only where a row of them needs it, and
/// three to four float32 copies of a volume; on CUDA 4 C + 11 float32 volumes of one channel (of one item of a batch).
void displacement_search(const DisplacementSearch& input, const View& displacement, const View& cost,
                         const Execution& execution = {});

}  // namespace masr
