// Squared differences of a field around a voxel and what they give its gradient. `V` is a float, or a vector of floats
// that holds as many voxels.
//
// Differences are taken of differences, never as a weighted sum of values: neighbours in a smooth field are close, so
// their difference is exact. Neighbours beyond the border are replicated, so that differences there are 0.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// First differences along an axis, to the neighbours `before` and `after`. Adds half the gradient, returns the energy
/// of the latter.
template <class V>
MASR_INLINE V add_slope(V before, V here, V after, float weight, V& gradient) {
  const V d0 = here - before, d1 = after - here;
  gradient += (d0 - d1) * weight;
  return d1 * d1 * weight;
}

/// Weights of the [1 -2 1] differences centred on i - 1, i and i + 1: 0 where they would leave the axis.
struct Curvature {
  float before, here, after;

  MASR_INLINE Curvature(std::int64_t i, std::int64_t n, double weight)
      : before(inside(i - 1, n) ? float(weight) : 0.0f), here(inside(i, n) ? float(weight) : 0.0f),
        after(inside(i + 1, n) ? float(weight) : 0.0f) {}

  MASR_INLINE static bool inside(std::int64_t i, std::int64_t n) { return i >= 1 && i <= n - 2; }

  /// `u` holds five neighbours along the axis. Adds half the gradient, returns the energy.
  template <class V>
  MASR_INLINE V add(const V (&u)[5], V& gradient) const {
    const V d01 = u[1] - u[0], d12 = u[2] - u[1], d23 = u[3] - u[2], d34 = u[4] - u[3];
    const V middle = d23 - d12;
    gradient += (d12 - d01) * before - middle * (2.0f * here) + (d34 - d23) * after;
    return middle * middle * here;
  }
};

/// The mixed differences on the four cells around the middle of 3 x 3 neighbours. Adds half the gradient, returns the
/// energy of the last cell.
template <class V>
MASR_INLINE V add_mixed(const V (&u)[3][3], float weight, V& gradient) {
  V low[3], high[3];
  for (int k = 0; k < 3; ++k) {
    low[k] = u[k][1] - u[k][0];
    high[k] = u[k][2] - u[k][1];
  }
  const V last = high[2] - high[1];
  gradient += ((last - (high[1] - high[0])) - ((low[2] - low[1]) - (low[1] - low[0]))) * weight;
  return last * last * weight;
}

}  // namespace
}  // namespace masr
