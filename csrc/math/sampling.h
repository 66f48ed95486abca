// Where a sampling position falls on one axis: the one definition of trilinear and nearest sampling, for CPU and CUDA.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

// Written for one position (Float = float) and for a vector of them alike: one select at a time, & for &&.

/// The integers that go with a type of numbers.
template <class Float>
struct Numbers;

template <>
struct Numbers<float> {
  using Int = std::int32_t;
  MASR_HOST_DEVICE static Int truncate(float value) { return Int(value); }
  MASR_HOST_DEVICE static float to_float(Int value) { return float(value); }
};

/// floor() by truncation, for what fits in 32 bits: exact, and not every instruction set can round down.
template <class Float>
MASR_HOST_DEVICE inline typename Numbers<Float>::Int floor_to_int(Float value) {
  const typename Numbers<Float>::Int truncated = Numbers<Float>::truncate(value);
  return value < Numbers<Float>::to_float(truncated) ? truncated - 1 : truncated;
}

template <class Number>
MASR_HOST_DEVICE inline Number clamp(Number value, Number low, Number high) {  // NaN gives low
  const Number above = value > low ? value : low;
  return above < high ? above : high;
}

/// Whether a position lies within the voxel centres of the axis; false for NaN. (A vector's mask: 0 or -1.)
template <class Float>
MASR_HOST_DEVICE inline auto within(Float position, std::int32_t n) {
  return (position >= 0.0f) & (position <= float(n - 1));
}

/// A position between the voxels `lower` and `lower + 1` of an axis: value = (1 - fraction) f[lower] + fraction f[lower
/// + 1].
template <class Float>
struct CellOf {
  typename Numbers<Float>::Int lower;
  Float fraction;
  Float slope;  ///< d(position used) / d(position given): 1, or 0 where it was clamped
};
using Cell = CellOf<float>;

/// padding = "border": the position is clamped to [0, n - 1]; NaN gives voxel 0 with slope 0. 0 <= lower <= max(n - 2,
/// 0); with n == 1 the fraction is 0 and voxel lower + 1 does not exist: read voxel 0 instead.
template <class Float>
MASR_HOST_DEVICE inline CellOf<Float> border_cell(Float position, std::int32_t n) {
  using Int = typename Numbers<Float>::Int;
  const Float zero = Float{}, movable = zero + (n > 1 ? 1.0f : 0.0f);
  const Float clamped = clamp<Float>(position, zero, zero + float(n - 1));
  const Int lower = clamp<Int>(Numbers<Float>::truncate(clamped), Int{}, Int{} + (n > 1 ? n - 2 : 0));
  return {lower, clamped - Numbers<Float>::to_float(lower), within(position, n) ? movable : zero};
}

/// padding = "zeros": -2 <= lower <= n + 1; corners outside 0 ... n - 1 count as 0. NaN and far positions lie outside.
template <class Float>
MASR_HOST_DEVICE inline CellOf<Float> zeros_cell(Float position, std::int32_t n) {
  const Float zero = Float{}, low = zero - 2.0f, high = zero + (float(n) + 1.0f);
  const Float clamped = clamp<Float>(position, low, high);
  const typename Numbers<Float>::Int lower = floor_to_int(clamped);
  const Float one = zero + 1.0f;
  return {lower, clamped - Numbers<Float>::to_float(lower), (position >= low) & (position <= high) ? one : zero};
}

/// Position along an axis, rounded to float32 once: M (z, y, x, 1) + u, `row` being that row of M.
MASR_HOST_DEVICE inline float sampling_position(const double (&row)[4], double z, double y, double x, float u) {
  return float(((row[0] * z + row[1] * y + row[3]) + x * row[2]) + double(u));
}

template <class V>
MASR_INLINE V lerp(V a, V b, V t) {
  return a + (b - a) * t;
}

/// The value within a cell. `corner`: 0 is the lower (z, y, x), 1 the upper x, 2 the upper y, 4 the upper z.
template <class V>
MASR_INLINE V interpolate(const V (&corner)[8], V fz, V fy, V fx) {
  const V below = lerp(lerp(corner[0], corner[1], fx), lerp(corner[2], corner[3], fx), fy);
  const V above = lerp(lerp(corner[4], corner[5], fx), lerp(corner[6], corner[7], fx), fy);
  return lerp(below, above, fz);
}

/// Value within a cell and its slopes along z, y, x.
template <class V>
struct ValueAndSlopes {
  V value, z, y, x;
};
template <class V>
MASR_INLINE ValueAndSlopes<V> interpolate_with_slopes(const V (&corner)[8], V fz, V fy, V fx) {
  const V x00 = corner[1] - corner[0], x01 = corner[3] - corner[2];
  const V x10 = corner[5] - corner[4], x11 = corner[7] - corner[6];
  const V f00 = corner[0] + x00 * fx, f01 = corner[2] + x01 * fx;
  const V f10 = corner[4] + x10 * fx, f11 = corner[6] + x11 * fx;
  const V y0 = f01 - f00, y1 = f11 - f10;
  const V f0 = f00 + y0 * fy, f1 = f10 + y1 * fy;
  const V dz = f1 - f0;
  return {f0 + dz * fz, dz, lerp(y0, y1, fz), lerp(lerp(x00, x01, fy), lerp(x10, x11, fy), fz)};
}

/// mode = "nearest": the voxel whose centre is nearest, halves upwards; outside it is clamped ("border") or -1
/// ("zeros").
template <class Float>
MASR_HOST_DEVICE inline typename Numbers<Float>::Int nearest_voxel(Float position, std::int32_t n, bool zeros) {
  using Int = typename Numbers<Float>::Int;
  const Float low = Float{} + (zeros ? -1.0f : 0.0f), high = Float{} + (zeros ? float(n) : float(n - 1));
  const Int voxel = floor_to_int(clamp<Float>(position, low, high) + 0.5f);
  const Int beyond = Int{} + (zeros ? -1 : n - 1);
  return voxel < n ? voxel : beyond;
}

}  // namespace
}  // namespace masr
