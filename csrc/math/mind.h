// Which voxels MIND-SSC compares, and the bounds of its normalisation.
#pragma once

#include "math/neighbours.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// Neighbours are numbered -z, +z, -y, +y, -x, +x; the pairs i < j without opposites, in the order of the channels.
constexpr int mind_pairs[12][2] = {{0, 2}, {0, 3}, {0, 4}, {0, 5}, {1, 2}, {1, 3},
                                   {1, 4}, {1, 5}, {2, 4}, {2, 5}, {3, 4}, {3, 5}};

/// In how many of the 2 radius + 1 clamped places around voxel i of an axis of n voxels j lies: the adjoint of
/// replication.
template <class Int>
MASR_INLINE Int times_read(Int j, Int i, Int n, Int radius) {
  const Int low = j == 0 || j - i < -radius ? -radius : j - i;
  const Int high = j == n - 1 || j - i > radius ? radius : j - i;
  return high >= low ? high - low + 1 : 0;
}

/// Bounds of V as multiples of its mean over the volume, and the bound that keeps a constant image finite.
constexpr float mind_lower_bound = 0.001f, mind_upper_bound = 1000.0f, mind_smallest_variance = 1e-30f;

/// V within its bounds, for a given mean over the volume; a mean that is NaN makes everything NaN. `V` is a float, or a
/// vector of floats.
struct Bounds {
  float low, high;

  MASR_HOST_DEVICE explicit Bounds(float mean) : low(mind_lower_bound * mean), high(mind_upper_bound * mean) {}
  template <class V>
  MASR_INLINE V apply(V v) const {
    const V least = V{} + low, most = V{} + high, smallest = V{} + mind_smallest_variance;
    v = v >= least ? v : (v != v ? v : least);
    v = v > most ? most : v;
    return smallest > v ? smallest : v;
  }
};

}  // namespace
}  // namespace masr
