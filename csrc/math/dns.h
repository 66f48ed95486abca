// The relations of one voxel (arXiv 2402.18933, section 3.2): the one definition for all backends. `Value` is a float,
// or a vector of floats that holds as many voxels.
#pragma once

#include <utility>

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

struct NeighbourPair {
  int first, second;
};

/// Neighbours are numbered -z, +z, -y, +y, -x, +x; all pairs i < j but the three of opposites.
constexpr NeighbourPair dns_pairs[12] = {{0, 2}, {0, 3}, {0, 4}, {0, 5}, {1, 2}, {1, 3},
                                         {1, 4}, {1, 5}, {2, 4}, {2, 5}, {3, 4}, {3, 5}};

/// The number of a pair as a type, which a kernel on the GPU can convert too.
template <int number>
struct PairNumber {
  MASR_HOST_DEVICE constexpr operator int() const { return number; }
};

template <class F, int... pair>
MASR_HOST_DEVICE inline void for_each_pair(F&& f, std::integer_sequence<int, pair...>) {
  (f(PairNumber<pair>{}), ...);
}
/// f(0) ... f(11) with constant arguments: unrolled, so that arrays over the pairs live in registers.
template <class F>
MASR_HOST_DEVICE inline void for_each_pair(F&& f) {
  for_each_pair(f, std::make_integer_sequence<int, 12>{});
}

/// Adds one channel to the squared distances of the 12 pairs.
template <class Value>
MASR_HOST_DEVICE inline void dns_add_channel(const Value (&f)[6], Value (&distance)[12]) {
  for_each_pair([&](auto pair) {
    constexpr NeighbourPair p = dns_pairs[pair];
    const Value difference = f[p.first] - f[p.second];
    distance[pair] += difference * difference;
  });
}

/// V before its bound.
template <class Value>
MASR_HOST_DEVICE inline Value dns_mean(const Value (&distance)[12]) {
  const Value low = (distance[0] + distance[1]) + (distance[2] + distance[3]);
  const Value middle = (distance[4] + distance[5]) + (distance[6] + distance[7]);
  const Value high = (distance[8] + distance[9]) + (distance[10] + distance[11]);
  return ((low + middle) + high) * (1.0f / 12.0f);
}

/// Gradients to the 12 distances, doubled, from those to the relations:
/// dS_p/dD_q = -S_p / V ([p = q] - share D_p / V), where `share` is 1/12, or 0 where V is bounded; `inverse` is 1 / V.
template <class Value>
MASR_HOST_DEVICE inline void dns_distance_gradients(const Value (&distance)[12], const Value (&relation)[12],
                                                    Value inverse, Value share, Value (&gradient)[12]) {
  Value common{};
  for_each_pair([&](auto pair) {
    gradient[pair] *= relation[pair];
    common += gradient[pair] * distance[pair];
  });
  common *= inverse * share;
  const Value twice = inverse + inverse;
  for_each_pair([&](auto pair) { gradient[pair] = twice * (common - gradient[pair]); });
}

/// Gradients of one channel to its six neighbours, from dns_distance_gradients.
template <class Value>
MASR_HOST_DEVICE inline void dns_neighbour_gradients(const Value (&f)[6], const Value (&gradient)[12],
                                                     Value (&neighbour)[6]) {
  for (Value& value : neighbour) value = Value{};
  for_each_pair([&](auto pair) {
    constexpr NeighbourPair p = dns_pairs[pair];
    const Value step = gradient[pair] * (f[p.first] - f[p.second]);
    neighbour[p.first] += step;
    neighbour[p.second] -= step;
  });
}

}  // namespace
}  // namespace masr
