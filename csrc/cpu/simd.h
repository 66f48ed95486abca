// One vector type for all instruction sets, on the compilers' vector extensions: `vec` has `lanes` floats, and the
// operators + - * / and comparisons work lane by lane. Included only by the files of this directory.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef MASR_ISA
#error "compile this file through CMakeLists.txt, which defines MASR_ISA"
#endif

namespace masr::MASR_ISA {

#if defined(__AVX512F__)
inline constexpr int lanes = 16;
#elif defined(__AVX2__)
inline constexpr int lanes = 8;
#else
inline constexpr int lanes = 4;
#endif

typedef float vec __attribute__((vector_size(lanes * 4)));
typedef std::int32_t ivec __attribute__((vector_size(lanes * 4)));
typedef float unaligned_vec __attribute__((vector_size(lanes * 4), aligned(4), may_alias));

static inline vec load(const float* p) { return *reinterpret_cast<const unaligned_vec*>(p); }
static inline void store(float* p, vec v) { *reinterpret_cast<unaligned_vec*>(p) = v; }
static inline vec splat(float value) { return value - vec{}; }

/// Stores past the caches; `p` must be aligned to the vector. Follow with stream_fence() before the data is read.
static inline void stream(float* p, vec v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__x86_64__)
  _mm_stream_ps(p, (__m128)v);
#else
  store(p, v);
#endif
}
static inline void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

static inline void prefetch(const void* p) { __builtin_prefetch(p); }

/// a < b ? a : b, so a NaN in either gives b.
static inline vec minimum(vec a, vec b) {
#if defined(__AVX512F__)
  return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
  return (vec)_mm_min_ps((__m128)a, (__m128)b);
#else
  return a < b ? a : b;
#endif
}
/// a > b ? a : b, so a NaN in either gives b.
static inline vec maximum(vec a, vec b) {
#if defined(__AVX512F__)
  return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
  return (vec)_mm_max_ps((__m128)a, (__m128)b);
#else
  return a > b ? a : b;
#endif
}

static inline float sum(vec v) {
  float total[lanes];
  store(total, v);
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) total[i] += total[i + width];
  }
  return total[0];
}

/// 2^t for t in [-126, 0], relative error below 2e-7 (minimax polynomial on [-1/2, 1/2], exponent by integer add).
static inline vec exp2_nonpositive(vec t) {
  const vec magic = splat(12582912.0f);  // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer
  const vec shifted = t + magic;
  const vec fraction = t - (shifted - magic);
  vec p = splat(1.5403530e-4f);
  p = p * fraction + 1.3333558e-3f;
  p = p * fraction + 9.6181291e-3f;
  p = p * fraction + 5.5504109e-2f;
  p = p * fraction + 2.4022651e-1f;
  p = p * fraction + 6.9314718e-1f;
  p = p * fraction + 1.0f;
  const ivec exponent = ((ivec)shifted - (ivec)magic) << 23;
  return (vec)((ivec)p + exponent);
}

}  // namespace masr::MASR_ISA
