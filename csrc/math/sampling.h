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

/// A position between the voxels `lower` and `lower + 1` of an axis: value = (1 - fraction) f[lower] + fraction f[lower + 1].
template <class Float>
struct CellOf {
  typename Numbers<Float>::Int lower;
  Float fraction;
  Float slope;  ///< d(position used) / d(position given): 1, or 0 where it was clamped
};
using Cell = CellOf<float>;

/// padding = "border": the position is clamped to [0, n - 1]; NaN gives voxel 0 with slope 0. 0 <= lower <= max(n - 2, 0);
/// with n == 1 the fraction is 0 and voxel lower + 1 does not exist: read voxel 0 instead.
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

/// mode = "nearest": the voxel whose centre is nearest, halves upwards; outside it is clamped ("border") or -1 ("zeros").
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
