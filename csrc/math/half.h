// float16 and bfloat16 storage as plain integers, rounding to nearest even; the path
// where there is no instruction.
#pragma once

#include <cstdint>
#include <cstring>

#include "math/host_device.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace masr {
namespace {  // internal linkage: this header is compiled for several instruction sets

MASR_HOST_DEVICE inline float half_to_float(std::uint16_t half) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(half));
#else
  const std::uint32_t sign = std::uint32_t(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu, mantissa = half & 0x3FFu;
  std::uint32_t bits;
  float value;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    value = float(mantissa) * 5.9604644775390625e-8f;
    std::memcpy(&bits, &value, 4);
    bits |= sign;
  } else if (exponent == 31) {
    bits = sign | 0x7F800000u | (mantissa << 13);
  } else {
    bits = sign | ((exponent + 112u) << 23) | (mantissa << 13);
  }
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

MASR_HOST_DEVICE inline std::uint16_t float_to_half(float value) {
#if defined(__CUDA_ARCH__)
  return __half_as_ushort(__float2half_rn(value));
#else
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const std::uint16_t sign = std::uint16_t((bits >> 16) & 0x8000u);
  bits &= 0x7FFFFFFFu;
  if (bits > 0x7F800000u) return sign | 0x7E00u;   // NaN
  if (bits >= 0x477FF000u) return sign | 0x7C00u;  // rounds to infinity
  if (bits < 0x38800000u) {                        // subnormal: let the float adder round to a multiple of 2^-24
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return sign | std::uint16_t(bits - 0x3F000000u);
  }
  const std::uint32_t odd = (bits >> 13) & 1u;
  return sign | std::uint16_t((bits - 0x38000000u + 0xFFFu + odd) >> 13);
#endif
}

MASR_HOST_DEVICE inline float bfloat16_to_float(std::uint16_t value) {
  const std::uint32_t bits = std::uint32_t(value) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

MASR_HOST_DEVICE inline std::uint16_t float_to_bfloat16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return std::uint16_t((bits >> 16) | 0x40u);
  return std::uint16_t((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace
}  // namespace masr
