// Where a sampling position falls on one axis: the one definition of trilinear and nearest sampling, for CPU and CUDA.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define MASR_HOST_DEVICE __host__ __device__
#else
#define MASR_HOST_DEVICE
#endif

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// A position between the voxels `lower` and `lower + 1` of an axis: value = (1 - fraction) f[lower] + fraction f[lower + 1].
struct Cell {
  std::int32_t lower;
  float fraction;
  float slope;  ///< d(position used) / d(position given): 1, or 0 where it was clamped
};

/// padding = "border": the position is clamped to [0, n - 1]; NaN gives voxel 0 with slope 0. 0 <= lower <= max(n - 2, 0);
/// with n == 1 the fraction is 0 and voxel lower + 1 does not exist: read voxel 0 instead.
MASR_HOST_DEVICE inline Cell border_cell(float position, std::int32_t n) {
  const float last = float(n - 1);
  const bool inside = position >= 0.0f && position <= last;
  const float clamped = position > 0.0f ? (position < last ? position : last) : 0.0f;
  std::int32_t lower = std::int32_t(clamped);
  if (lower > n - 2) lower = n > 1 ? n - 2 : 0;
  return {lower, clamped - float(lower), inside && n > 1 ? 1.0f : 0.0f};
}

/// padding = "zeros": -2 <= lower <= n; corners outside 0 ... n - 1 count as 0. NaN and far positions lie outside.
MASR_HOST_DEVICE inline Cell zeros_cell(float position, std::int32_t n) {
  const float low = -2.0f, high = float(n) + 1.0f;
  const bool inside = position >= low && position <= high;
  const float clamped = position > low ? (position < high ? position : high) : low;
  const float below = std::floor(clamped);
  return {std::int32_t(below), clamped - below, inside ? 1.0f : 0.0f};
}

/// mode = "nearest": the voxel whose centre is nearest, halves upwards; outside it is clamped ("border") or -1 ("zeros").
MASR_HOST_DEVICE inline std::int32_t nearest_voxel(float position, std::int32_t n, bool zeros) {
  const float low = zeros ? -1.0f : 0.0f, high = zeros ? float(n) : float(n - 1);
  const float clamped = position > low ? (position < high ? position : high) : low;
  const std::int32_t voxel = std::int32_t(std::floor(clamped + 0.5f));
  return zeros && (voxel < 0 || voxel >= n) ? -1 : (voxel < n ? voxel : n - 1);
}

/// Whether a position lies within the voxel centres of the axis; false for NaN.
MASR_HOST_DEVICE inline bool within(float position, std::int32_t n) {
  return position >= 0.0f && position <= float(n - 1);
}

}  // namespace
}  // namespace masr
