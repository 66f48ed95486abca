// What the forward and the backward pass of MIND-SSC share: how a volume is cut, and the arithmetic of a vector of voxels.
#pragma once

#include "cpu/patch_distances.h"

namespace masr::MASR_ISA {

inline constexpr float log2_of_e = 1.4426950408889634f;

struct Tile {
  Index z_begin, z_end, y_begin, y_end;
};

/// A volume in tiles of a few rows and many planes: rows so that what a tile keeps stays in the L2 cache, planes so that
/// filling the ring at the start of a tile matters little. Depends on the volume alone, never on the threads.
class Tiles {
 public:
  explicit Tiles(const Lattice& g) : g_(g), planes_((g.size[0] + tile_planes - 1) / tile_planes) {}
  Index count() const { return planes_ * ((g_.size[1] + tile_rows - 1) / tile_rows); }
  Tile operator[](Index task) const {
    const Index z = task % planes_ * tile_planes, y = task / planes_ * tile_rows;
    return {z, smaller(z + tile_planes, g_.size[0]), y, smaller(y + tile_rows, g_.size[1])};
  }

 private:
  static constexpr Index tile_planes = 64;
  const Lattice& g_;
  const Index planes_;
};

/// Sums over the patch less the least of the 12, at x, x + 1, ...; returns V, their mean times `scale`.
static inline vec relative_distances(const float* const (&rows)[12], Index x, float scale, vec (&distance)[12]) {
  for (int k = 0; k < 12; ++k) distance[k] = load(rows[k] + x);
  vec least = distance[0];
  for (int k = 1; k < 12; ++k) least = minimum(least, distance[k]);
  vec total = splat(0.0f);
  for (int k = 0; k < 12; ++k) {
    distance[k] -= least;
    total += distance[k];
  }
  return total * (scale / 12.0f);
}

/// log2 of normal numbers above 0, exactly 0 at 1; absolute error below 2e-7 near 1, relative elsewhere.
static inline vec log2_positive(vec v) {
  const ivec offset = ((ivec)v - 0x3F3504F3) >> 23;  // the exponent, for a mantissa in [sqrt(1/2), sqrt(2))
  const vec mantissa = (vec)((ivec)v - offset * (1 << 23));
  const vec s = (mantissa - 1.0f) / (mantissa + 1.0f), square = s * s;
  vec p = splat(2.0f / 9.0f * log2_of_e);
  p = p * square + 2.0f / 7.0f * log2_of_e;
  p = p * square + 2.0f / 5.0f * log2_of_e;
  p = p * square + 2.0f / 3.0f * log2_of_e;
  p = p * square + 2.0f * log2_of_e;
  return p * s + __builtin_convertvector(offset, vec);
}

}  // namespace masr::MASR_ISA
