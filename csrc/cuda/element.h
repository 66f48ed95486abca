// Storage types of feature volumes, and vectors of adjacent channels.
#pragma once

#include "masr/view.h"
#include "math/half.h"
#include "math/host_device.h"

namespace masr::cuda {

struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

MASR_INLINE float to_float(float value) { return value; }
MASR_INLINE float to_float(Float16 value) { return half_to_float(value.bits); }
MASR_INLINE float to_float(BFloat16 value) { return bfloat16_to_float(value.bits); }
MASR_INLINE void assign(float& target, float value) { target = value; }
MASR_INLINE void assign(Float16& target, float value) { target.bits = float_to_half(value); }
MASR_INLINE void assign(BFloat16& target, float value) { target.bits = float_to_bfloat16(value); }

/// `count` adjacent elements, read and written at once.
template <class T, int count>
struct alignas(sizeof(T) * count) Pack {
  T element[count];
};

template <int count, class T>
MASR_INLINE void load(const T* p, float (&value)[count]) {
  const Pack<T, count> pack = *reinterpret_cast<const Pack<T, count>*>(p);
  for (int i = 0; i < count; ++i) value[i] = to_float(pack.element[i]);
}
template <int count, class T>
MASR_INLINE void store(T* p, const float (&value)[count]) {
  Pack<T, count> pack;
  for (int i = 0; i < count; ++i) assign(pack.element[i], value[i]);
  *reinterpret_cast<Pack<T, count>*>(p) = pack;
}

/// Calls f(T{}) with the type that stores `type`.
template <class F>
void with_type(DType type, F&& f) {
  switch (type) {
    case DType::float16: return f(Float16{});
    case DType::bfloat16: return f(BFloat16{});
    default: return f(float{});
  }
}

}  // namespace masr::cuda
