// Channels of one voxel, adjacent in memory, as whole vectors only, the last one masked or overlapping: for kernels that
// sum over the channels, where a lane left out costs nothing.
#pragma once

#include "cpu/pieces.h"

namespace masr::MASR_ISA {

static inline vec load_channels(const float* p) { return load(p); }
static inline vec load_channels(const Float16* p) { return load_half(&p->bits); }
static inline vec load_channels(const BFloat16* p) {
  typedef std::uint16_t short_vec __attribute__((vector_size(lanes * 2), aligned(2), may_alias));
  return (vec)(__builtin_convertvector(*reinterpret_cast<const short_vec*>(p), ivec) << 16);
}

#if defined(__AVX512F__)
static inline vec convert_channels(__m256i bits, const Float16*) { return (vec)_mm512_cvtph_ps(bits); }
static inline vec convert_channels(__m256i bits, const BFloat16*) {
  return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}
#endif

/// The last of the vectors that cover `channels` channels. Reads no memory of other voxels.
class LastVector {
 public:
  explicit LastVector(std::int64_t channels) {
    const int rest = int(channels % lanes);
    count_ = rest ? rest : lanes;
    offset_ = channels - count_;
#if !defined(__AVX512F__)
    if (channels >= lanes) {  // without masked loads of every type: overlap the vector before
      offset_ = channels - lanes;
      for (int i = 0; i < lanes; ++i) keep_[i] = i >= lanes - count_ ? -1 : 0;
      count_ = lanes;
      return;
    }
#endif
    for (int i = 0; i < lanes; ++i) keep_[i] = i < count_ ? -1 : 0;
  }

  std::int64_t offset() const { return offset_; }  ///< its first channel
  ivec keep() const { return keep_; }              ///< all bits set in lanes that no earlier vector holds

  /// Its channels, `p` being the first; lanes beyond the channels are 0.
  template <class T>
  vec load(const T* p) const {
#if defined(__AVX512F__)
    const auto mask = std::uint16_t((1u << count_) - 1u);
    if constexpr (sizeof(T) == 4) {
      return (vec)_mm512_maskz_loadu_ps(mask, p);
    } else {
      const __m256i bits = _mm256_maskz_loadu_epi16(mask, p);
      return convert_channels(bits, p);
    }
#else
    if (count_ == lanes) return load_channels(p);
    T first[lanes] = {};
    for (int i = 0; i < count_; ++i) first[i] = p[i];
    return load_channels(first);
#endif
  }

 private:
  std::int64_t offset_;
  int count_;
  ivec keep_{};
};

/// Brings the channels of one voxel into the cache; any address will do.
template <class T>
static inline void prefetch_channels(const T* p, std::int64_t channels) {
  const char* first = reinterpret_cast<const char*>(p);
  const std::int64_t bytes = channels * std::int64_t(sizeof(T));
  prefetch(first);
  for (std::int64_t line = 64; line <= bytes - 64; line += 64) prefetch(first + line);
  prefetch(first + bytes - 1);
}

/// sums[0 ... 3] = the sums of the lanes of a, b, c and d.
static inline void sum4(float* sums, vec a, vec b, vec c, vec d) {
#if defined(__x86_64__)
  const auto fold = [](vec v) {
#if defined(__AVX512F__)
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif defined(__AVX2__)
    return _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
#else
    return (__m128)v;
#endif
  };
  const __m128 a4 = fold(a), b4 = fold(b), c4 = fold(c), d4 = fold(d);
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(a4, b4), _mm_unpackhi_ps(a4, b4));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(c4, d4), _mm_unpackhi_ps(c4, d4));
  _mm_storeu_ps(sums, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
#else
  sums[0] = sum(a), sums[1] = sum(b), sums[2] = sum(c), sums[3] = sum(d);
#endif
}

}  // namespace masr::MASR_ISA
