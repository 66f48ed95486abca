// Rows of float32, float16 or bfloat16 to float32 and back: lets a kernel compute in float32 whatever the storage.
#pragma once

#include "cpu/simd.h"
#include "masr/view.h"
#include "math/half.h"

namespace masr::MASR_ISA {

#if defined(__AVX512F__)
static inline vec load_half(const std::uint16_t* p) { return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
static inline void store_half(std::uint16_t* p, vec v) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(__F16C__)
static inline vec load_half(const std::uint16_t* p) { return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
static inline void store_half(std::uint16_t* p, vec v) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#else
static inline vec load_half(const std::uint16_t* p) {
  vec v;
  for (int i = 0; i < lanes; ++i) v[i] = half_to_float(p[i]);
  return v;
}
static inline void store_half(std::uint16_t* p, vec v) {
  for (int i = 0; i < lanes; ++i) p[i] = float_to_half(v[i]);
}
#endif

static inline void store_bfloat16(std::uint16_t* p, vec v) {
  typedef std::uint16_t narrow_vec __attribute__((vector_size(lanes * 2), aligned(2), may_alias));
  typedef std::uint32_t bits_vec __attribute__((vector_size(lanes * 4)));
  const bits_vec bits = (bits_vec)v;
  const bits_vec rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const bits_vec quiet = (bits >> 16) | 0x40;  // NaN
  *reinterpret_cast<narrow_vec*>(p) = __builtin_convertvector(v == v ? rounded : quiet, narrow_vec);
}

/// `count` elements of type `type`, `stride` elements apart from `source` on, as float32 into `target`.
static inline void widen(float* target, const void* source, DType type, std::int64_t count, std::int64_t stride) {
  if (type == DType::float32) {
    const float* p = static_cast<const float*>(source);
    if (stride == 1) {
      std::memcpy(target, p, count * sizeof(float));
    } else {
      for (std::int64_t i = 0; i < count; ++i) target[i] = p[i * stride];
    }
  } else if (type == DType::float16) {
    const std::uint16_t* p = static_cast<const std::uint16_t*>(source);
    std::int64_t i = 0;
    if (stride == 1) {
      for (; i + lanes <= count; i += lanes) store(target + i, load_half(p + i));
    }
    for (; i < count; ++i) target[i] = half_to_float(p[i * stride]);
  } else {
    const std::uint16_t* p = static_cast<const std::uint16_t*>(source);
    for (std::int64_t i = 0; i < count; ++i) target[i] = bfloat16_to_float(p[i * stride]);
  }
}

/// The way back: `count` floats rounded to `type`, `stride` elements apart from `target` on.
static inline void narrow(void* target, const float* source, DType type, std::int64_t count, std::int64_t stride) {
  if (type == DType::float32) {
    float* p = static_cast<float*>(target);
    if (stride == 1) {
      std::memcpy(p, source, count * sizeof(float));
    } else {
      for (std::int64_t i = 0; i < count; ++i) p[i * stride] = source[i];
    }
  } else if (type == DType::float16) {
    std::uint16_t* p = static_cast<std::uint16_t*>(target);
    std::int64_t i = 0;
    if (stride == 1) {
      for (; i + lanes <= count; i += lanes) store_half(p + i, load(source + i));
    }
    for (; i < count; ++i) p[i * stride] = float_to_half(source[i]);
  } else {
    std::uint16_t* p = static_cast<std::uint16_t*>(target);
    std::int64_t i = 0;
    if (stride == 1) {
      for (; i + lanes <= count; i += lanes) store_bfloat16(p + i, load(source + i));
    }
    for (; i < count; ++i) p[i * stride] = float_to_bfloat16(source[i]);
  }
}

/// Row (n, c, z, y) of `view` as float32: the row itself where it is stored so, else a converted copy in `scratch`
/// (which holds view.width() floats).
static inline const float* row(const View& view, std::int64_t n, std::int64_t c, std::int64_t z, std::int64_t y,
                               float* scratch) {
  if (view.dtype == DType::float32) {
    const float* p = view.at<float>(n, c, z, y, 0);
    if (view.planar()) return p;
    widen(scratch, p, view.dtype, view.width(), view.stride[4]);
  } else {
    widen(scratch, view.at<std::uint16_t>(n, c, z, y, 0), view.dtype, view.width(), view.stride[4]);
  }
  return scratch;
}

}  // namespace masr::MASR_ISA
