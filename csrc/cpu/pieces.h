// The channels of one voxel, adjacent in memory, as vectors: full ones while they fit, smaller or masked ones for the
// rest; never a byte beyond the last channel.
#pragma once

#include <type_traits>
#include <utility>

#include "cpu/convert.h"

namespace masr::MASR_ISA {

// Storage types; arithmetic is in float32.
struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

static inline float to_float(float value) { return value; }
static inline float to_float(BFloat16 value) { return bfloat16_to_float(value.bits); }
static inline void assign(float& target, float value) { target = value; }
static inline void assign(BFloat16& target, float value) { target.bits = float_to_bfloat16(value); }
#if defined(__F16C__)
static inline float to_float(Float16 value) { return _cvtsh_ss(value.bits); }
static inline void assign(Float16& target, float value) { target.bits = _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT); }
#else
static inline float to_float(Float16 value) { return half_to_float(value.bits); }
static inline void assign(Float16& target, float value) { target.bits = float_to_half(value); }
#endif

template <int N>
struct VectorOf {
  typedef float type __attribute__((vector_size(N * 4)));
};
template <>
struct VectorOf<1> {
  using type = float;
};

/// N adjacent channels.
template <int N>
struct Piece {
  using Vec = typename VectorOf<N>::type;

  Vec load(const float* p) const {
    Vec v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  void store(float* p, Vec v) const { std::memcpy(p, &v, sizeof(v)); }
  template <class T>
  Vec load(const T* p) const {
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, Float16> && N == lanes) return load_half(&p->bits);
    if constexpr (std::is_same_v<T, Float16> && N == 4) return (Vec)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p));
#endif
    float values[N];
    for (int i = 0; i < N; ++i) values[i] = to_float(p[i]);
    return load(values);
  }
  template <class T>
  void store(T* p, Vec v) const {
#if defined(__F16C__)
    if constexpr (std::is_same_v<T, Float16> && N == lanes) return store_half(&p->bits, v);
#endif
    float values[N];
    store(values, v);
    for (int i = 0; i < N; ++i) assign(p[i], values[i]);
  }
  static Vec splat(float value) { return value - Vec{}; }
  /// Zeros after the last channel.
  static vec extend(Vec v) {
    if constexpr (N == lanes) {
      return v;
#if defined(__AVX2__)
    } else if constexpr (N == 4 && lanes == 8) {
      return (vec)_mm256_zextps128_ps256((__m128)v);
#endif
    } else {
      return vec{v};
    }
  }
};

#if defined(__AVX512F__)
/// Fewer channels than a vector has lanes; the other lanes are 0.
struct MaskedPiece {
  using Vec = vec;
  __mmask16 mask;

  vec load(const float* p) const { return (vec)_mm512_maskz_loadu_ps(mask, p); }
  vec load(const Float16* p) const { return (vec)_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p)); }
  vec load(const BFloat16* p) const {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16);
  }
  void store(float* p, vec v) const { _mm512_mask_storeu_ps(p, mask, (__m512)v); }
  void store(Float16* p, vec v) const {
    _mm256_mask_storeu_epi16(p, mask, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  void store(BFloat16* p, vec v) const {
    float values[lanes];
    masr::MASR_ISA::store(values, v);
    for (int i = 0; mask >> i; ++i) assign(p[i], values[i]);
  }
  static vec splat(float value) { return masr::MASR_ISA::splat(value); }
  static vec extend(vec v) { return v; }
};
#endif

/// Calls f(piece, first channel) until all are done. `channels` is an integer, or a constant type for unrolled code.
template <class Count, class F>
__attribute__((always_inline)) static inline void for_channels(Count channels, F&& f) {
  const std::int64_t count = channels;
  std::int64_t c = 0;
  for (; c + lanes <= count; c += lanes) f(Piece<lanes>{}, c);
#if defined(__AVX512F__)
  if (c < count) f(MaskedPiece{__mmask16((1u << (count - c)) - 1)}, c);
#else
  if (lanes > 4 && c + 4 <= count) {
    f(Piece<4>{}, c);
    c += 4;
  }
  for (; c < count; ++c) f(Piece<1>{}, c);
#endif
}

typedef float quad __attribute__((vector_size(16)));

/// The sum of a vector's lanes, four partial sums of it.
static inline quad fold(quad v) { return v; }
#if defined(__AVX2__)
typedef float octet __attribute__((vector_size(32)));
static inline quad fold(octet v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
#endif
#if defined(__AVX512F__)
static inline quad fold(vec v) {
  return fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif

/// Lanes i, j, k and l (of b: + lanes) of the first quads, and the same of the others.
template <int i, int j, int k, int l, int... lane>
static inline vec in_quads(vec a, vec b, std::integer_sequence<int, lane...>) {
  constexpr int from[4] = {i, j, k, l};
  return __builtin_shufflevector(a, b, (from[lane % 4] + lane / 4 * 4)...);
}
template <int i, int j, int k, int l>
static inline vec in_quads(vec a, vec b) {
  return in_quads<i, j, k, l>(a, b, std::make_integer_sequence<int, lanes>());
}
static inline vec low_pairs(vec a, vec b) { return in_quads<0, lanes, 1, lanes + 1>(a, b); }
static inline vec high_pairs(vec a, vec b) { return in_quads<2, lanes + 2, 3, lanes + 3>(a, b); }
static inline vec low_halves(vec a, vec b) { return in_quads<0, 1, lanes, lanes + 1>(a, b); }
static inline vec high_halves(vec a, vec b) { return in_quads<2, 3, lanes + 2, lanes + 3>(a, b); }

/// (sum a, sum b, sum c, sum d)
static inline quad sum4(vec a, vec b, vec c, vec d) {
  const vec ab = low_pairs(a, b) + high_pairs(a, b), cd = low_pairs(c, d) + high_pairs(c, d);
  const vec abcd = low_halves(ab, cd) + high_halves(ab, cd);
  return fold(abcd);
}

/// Transposes every four by four block that the quads of `v` make.
static inline void transpose4(vec (&v)[4]) {
  const vec a = low_pairs(v[0], v[1]), b = high_pairs(v[0], v[1]), c = low_pairs(v[2], v[3]), d = high_pairs(v[2], v[3]);
  v[0] = low_halves(a, c);
  v[1] = high_halves(a, c);
  v[2] = low_halves(b, d);
  v[3] = high_halves(b, d);
}

}  // namespace masr::MASR_ISA
