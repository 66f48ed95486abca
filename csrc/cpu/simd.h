// One vector type for all instruction sets, on the compilers' vector extensions: `vec` has `lanes` floats, and the
// operators + - * / and comparisons work lane by lane. Included only by the files of this directory.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push  // GCC 12 takes the undefined operands within its own header for an error of the caller
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
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

/// Four channels of `lanes` voxels, to where the channels of a voxel are adjacent and voxels lie `pitch` floats apart.
static inline void store_transposed(float* p, std::int64_t pitch, const vec* v) {
#if defined(__AVX512F__)
  const __m512 a = _mm512_unpacklo_ps((__m512)v[0], (__m512)v[1]), b = _mm512_unpackhi_ps((__m512)v[0], (__m512)v[1]);
  const __m512 c = _mm512_unpacklo_ps((__m512)v[2], (__m512)v[3]), d = _mm512_unpackhi_ps((__m512)v[2], (__m512)v[3]);
  const __m512 voxel[4] = {_mm512_shuffle_ps(a, c, 0x44), _mm512_shuffle_ps(a, c, 0xEE), _mm512_shuffle_ps(b, d, 0x44),
                           _mm512_shuffle_ps(b, d, 0xEE)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(p + i * pitch, _mm512_castps512_ps128(voxel[i]));
    _mm_storeu_ps(p + (i + 4) * pitch, _mm512_extractf32x4_ps(voxel[i], 1));
    _mm_storeu_ps(p + (i + 8) * pitch, _mm512_extractf32x4_ps(voxel[i], 2));
    _mm_storeu_ps(p + (i + 12) * pitch, _mm512_extractf32x4_ps(voxel[i], 3));
  }
#elif defined(__AVX2__)
  const __m256 a = _mm256_unpacklo_ps((__m256)v[0], (__m256)v[1]), b = _mm256_unpackhi_ps((__m256)v[0], (__m256)v[1]);
  const __m256 c = _mm256_unpacklo_ps((__m256)v[2], (__m256)v[3]), d = _mm256_unpackhi_ps((__m256)v[2], (__m256)v[3]);
  const __m256 voxel[4] = {_mm256_shuffle_ps(a, c, 0x44), _mm256_shuffle_ps(a, c, 0xEE), _mm256_shuffle_ps(b, d, 0x44),
                           _mm256_shuffle_ps(b, d, 0xEE)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(p + i * pitch, _mm256_castps256_ps128(voxel[i]));
    _mm_storeu_ps(p + (i + 4) * pitch, _mm256_extractf128_ps(voxel[i], 1));
  }
#elif defined(__x86_64__)
  __m128 a = (__m128)v[0], b = (__m128)v[1], c = (__m128)v[2], d = (__m128)v[3];
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(p, a);
  _mm_storeu_ps(p + pitch, b);
  _mm_storeu_ps(p + 2 * pitch, c);
  _mm_storeu_ps(p + 3 * pitch, d);
#else
  for (int i = 0; i < lanes; ++i) {
    for (int k = 0; k < 4; ++k) p[i * pitch + k] = v[k][i];
  }
#endif
}

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

static inline vec square_root(vec v) {
#if defined(__AVX512F__)
  return (vec)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
  return (vec)_mm256_sqrt_ps((__m256)v);
#elif defined(__x86_64__)
  return (vec)_mm_sqrt_ps((__m128)v);
#else
  for (int i = 0; i < lanes; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
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

/// 2^t for t in [-126, 0], relative error below 2e-7, 1 at 0: a minimax polynomial of the fraction, then the exponent.
static inline vec exp2_nonpositive(vec t) {
#if defined(__AVX512DQ__)
  const vec fraction = (vec)_mm512_reduce_ps((__m512)t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // in [0, 1)
  vec p = splat(1.8671557e-3f);
  p = p * fraction + 9.0169674e-3f;
  p = p * fraction + 5.5799969e-2f;
  p = p * fraction + 2.4016443e-1f;
  p = p * fraction + 6.9315130e-1f;
  p = p * fraction + 1.0f;
  return (vec)_mm512_scalef_ps((__m512)p, (__m512)t);
#else
  // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer; 127 more biases the exponent in the low bits
  const vec magic = splat(12582912.0f + 127.0f);
  const vec shifted = t + magic;
  const vec fraction = t - (shifted - magic);  // in [-1/2, 1/2]
  vec p = splat(1.3264653e-3f);
  p = p * fraction + 9.6715111e-3f;
  p = p * fraction + 5.5507340e-2f;
  p = p * fraction + 2.4022242e-1f;
  p = p * fraction + 6.9314700e-1f;
  p = p * fraction + 1.0f;
  return p * (vec)((ivec)shifted << 23);
#endif
}

}  // namespace masr::MASR_ISA
