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

}  // namespace masr::MASR_ISA
