// Displacements of a search window, numbered so that the smaller number is the smaller displacement.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

struct SearchWindow {
  std::int32_t rz, ry, rx;

  MASR_HOST_DEVICE std::int32_t width() const { return 2 * rx + 1; }
  MASR_HOST_DEVICE std::int32_t count() const { return (2 * rz + 1) * (2 * ry + 1) * width(); }

  /// By |d|^2 first, then by z, y, x.
  MASR_HOST_DEVICE std::int32_t rank(std::int32_t dz, std::int32_t dy, std::int32_t dx) const {
    return (dz * dz + dy * dy + dx * dx) * count() + ((dz + rz) * (2 * ry + 1) + dy + ry) * width() + dx + rx;
  }

  MASR_HOST_DEVICE void displacement(std::int32_t rank, float (&d)[3]) const {
    const std::int32_t index = rank % count();
    d[0] = float(index / width() / (2 * ry + 1) - rz);
    d[1] = float(index / width() % (2 * ry + 1) - ry);
    d[2] = float(index % width() - rx);
  }
};

/// Mean, over `count` cells m of a window, of the squared difference per channel to a cell f, from |f|^2, the product of f
/// with the sum of m, and the sum of |m|^2. Of floats, or of vectors of them.
template <class V>
MASR_INLINE V mean_difference(V own, V product, V squares, V count, float channels) {
  return (own * count - 2.0f * product + squares) / (count * channels);
}

/// Cost of a displacement, see DisplacementSearch, from the weighted sum `total` of squared differences over cells that
/// count `count`; `share` is the root of their share, `scale` 1 / the number of channels.
template <class V>
MASR_INLINE V search_cost(V total, V count, V share, V level, float scale) {
  return total * scale / count * share + level * (1.0f - share);
}

/// The whole number in [-radius, radius] nearest to u, of two equally near ones the smaller; 0 for NaN.
MASR_HOST_DEVICE inline float nearest_step(float u, std::int32_t radius) {
  const float size = u < 0 ? -u : u;
  if (!(size >= 0)) return 0.0f;
  std::int32_t step = 0;
  while (step < radius && size > float(step) + 0.5f) ++step;
  return u < 0 ? -float(step) : float(step);
}

}  // namespace
}  // namespace masr
