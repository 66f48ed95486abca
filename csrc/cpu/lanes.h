// Loops over a row written once for whole vectors and for the few elements left over.
#pragma once

#include "cpu/simd.h"

namespace masr::MASR_ISA {

/// step(vec{}, i) for whole vectors from `begin` on, then step(float{}, i) for what is left before `end`. The type of
/// the first argument tells the generic `step` whether to work on a vector or on one element.
template <class Step>
static inline void for_lanes(std::int64_t begin, std::int64_t end, Step&& step) {
  std::int64_t i = begin;
  for (; i + lanes <= end; i += lanes) step(vec{}, i);
  for (; i < end; ++i) step(float{}, i);
}

template <class V>
static inline V get(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

template <class V>
static inline void put(float* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}

/// How a step reads its neighbours along x: freely, or replicating the first and the last voxel.
struct Interior {
  static constexpr bool at_border = false;
};
struct Border {
  static constexpr bool at_border = true;
};

template <class V, class Place>
static inline V neighbour(Place, const float* row, std::int64_t x, std::int64_t width) {
  if constexpr (Place::at_border) {
    return row[x < 0 ? 0 : x < width ? x : width - 1];
  } else {
    return get<V>(row + x);
  }
}

/// For stencils that reach `margin` voxels to either side: step(Border{}, float{}, x, 0) near the ends of a row,
/// step(Interior{}, vec{}, x, done) between. The last vector is moved back to end with the interior, so its first `done`
/// lanes were worked on before.
template <class Step>
static inline void for_row(std::int64_t width, std::int64_t margin, Step&& step) {
  const auto border = [&](std::int64_t begin, std::int64_t end) __attribute__((noinline)) {
    for (std::int64_t x = begin; x < end; ++x) step(Border{}, float{}, x, 0);
  };
  const std::int64_t end = width - margin;
  if (end - margin < lanes) return border(0, width);
  border(0, margin);
  std::int64_t x = margin;
  for (; x + lanes <= end; x += lanes) step(Interior{}, vec{}, x, 0);
  if (x < end) step(Interior{}, vec{}, end - lanes, int(x - (end - lanes)));
  border(end, width);
}

}  // namespace masr::MASR_ISA
