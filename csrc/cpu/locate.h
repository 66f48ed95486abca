// Where `lanes` neighbouring voxels of an output row fall in the sampled image.
//
//   const PositionRow row = position_row(matrix, displacement, n, z, y);
//   positions(row, x, count, position);                    // M (z, y, x, 1) + u
//   locate<Padding::border>(position, grid, cells);        // corner offsets, fractions, slopes
//
// The arithmetic is that of math/sampling.h, on vectors: one definition, to the bit, for every instruction set.
#pragma once

#include "cpu/simd.h"
#include "masr/sampling.h"
#include "masr/view.h"
#include "math/sampling.h"

namespace masr {
namespace {
template <>
struct Numbers<MASR_ISA::vec> {
  using Int = MASR_ISA::ivec;
  static Int truncate(MASR_ISA::vec value) { return __builtin_convertvector(value, Int); }
  static MASR_ISA::vec to_float(Int value) { return __builtin_convertvector(value, MASR_ISA::vec); }
};
}  // namespace
}  // namespace masr

namespace masr::MASR_ISA {

typedef float half_vec __attribute__((vector_size(lanes * 2)));
typedef double double_vec __attribute__((vector_size(lanes * 4)));  // as many as a half_vec has
typedef std::int32_t unaligned_ivec __attribute__((vector_size(lanes * 4), aligned(4), may_alias));

static inline ivec load(const std::int32_t* p) { return *reinterpret_cast<const unaligned_ivec*>(p); }
static inline void store(std::int32_t* p, ivec v) { *reinterpret_cast<unaligned_ivec*>(p) = v; }

/// The spatial axes (z, y, x) of a sampled image. Strides are in elements, so both layouts look alike.
struct Grid {
  std::int32_t size[3];
  std::int64_t stride[3];
  std::int64_t step[3];  ///< from a cell's lower corner to its upper one: the stride, or 0 along an axis of size 1
  bool narrow;           ///< offsets fit in 32 bits
};

static inline Grid grid_of(const View& image) {
  Grid grid;
  std::int64_t farthest = 0;
  for (int k = 0; k < 3; ++k) {
    grid.size[k] = std::int32_t(image.shape[2 + k]);
    grid.stride[k] = image.stride[2 + k];
    grid.step[k] = grid.size[k] > 1 ? grid.stride[k] : 0;
    farthest += (grid.size[k] - 1) * (grid.stride[k] < 0 ? -grid.stride[k] : grid.stride[k]);
  }
  grid.narrow = farthest < INT32_MAX;
  // A stride that is never taken may have any value: keep it out of 32-bit products.
  for (int k = 0; k < 3; ++k) {
    if (grid.size[k] == 1) grid.stride[k] = 0;
  }
  return grid;
}

/// Sampling positions of one row of the output: base + x step + u[x], component by component.
struct PositionRow {
  double base[3], step[3];
  const float* displacement[3];  ///< at x = 0; null when there is none
  std::int64_t stride;           ///< between neighbouring voxels of `displacement`
  bool on_grid;                  ///< no matrix: base and step are whole numbers
};

/// Row (n, z, y). `matrix`: the 12 entries of M row by row, null for the identity; `displacement`: (N, 3, d, h, w)
/// float32 of any strides, or an empty View for none.
static inline PositionRow position_row(const double* matrix, const View& displacement, std::int64_t n, std::int64_t z,
                                       std::int64_t y) {
  PositionRow row;
  for (int k = 0; k < 3; ++k) {
    const double m[4] = {k == 0 ? 1.0 : 0.0, k == 1 ? 1.0 : 0.0, k == 2 ? 1.0 : 0.0, 0.0};
    const double* entries = matrix ? matrix + 4 * k : m;
    row.base[k] = entries[0] * double(z) + entries[1] * double(y) + entries[3];
    row.step[k] = entries[2];
    row.displacement[k] = displacement ? displacement.at<float>(n, k, z, y, 0) : nullptr;
  }
  row.stride = displacement.stride[4];
  row.on_grid = matrix == nullptr;
  return row;
}

/// Positions of voxels x ... x + count - 1, rounded to float32 once; the lanes from `count` on repeat the position
/// without displacement and mean nothing.
static inline void positions(const PositionRow& row, std::int64_t x, int count, float (&position)[3][lanes]) {
  for (int k = 0; k < 3; ++k) {
    float u[lanes];
    const float* source = row.displacement[k] ? row.displacement[k] + x * row.stride : nullptr;
    if (source && count == lanes && row.stride == 1) {
      std::memcpy(u, source, sizeof(u));
    } else {
      for (int i = 0; i < lanes; ++i) u[i] = source && i < count ? source[i * row.stride] : 0.0f;
    }
    if (row.on_grid) {  // exact in float32 but for the last addition
      vec index;
      for (int i = 0; i < lanes; ++i) index[i] = float(i);
      const vec voxel = k < 2 ? splat(float(row.base[k])) : index + float(x);
      store(position[k], voxel + load(u));
      continue;
    }
    for (int half = 0; half < lanes; half += lanes / 2) {
      half_vec here;
      std::memcpy(&here, u + half, sizeof(here));
      double_vec index;
      for (int i = 0; i < lanes / 2; ++i) index[i] = i;
      index += double(x + half);
      const double_vec sum = (row.base[k] + index * row.step[k]) + __builtin_convertvector(here, double_vec);
      here = __builtin_convertvector(sum, half_vec);
      std::memcpy(position[k] + half, &here, sizeof(here));
    }
  }
}

/// The cells of `lanes` voxels; arrays indexed by axis hold (z, y, x).
struct Cells {
  std::int64_t offset[lanes];     ///< elements from the image's first voxel to the lower corner (nearest: to the voxel)
  float fraction[3][lanes];
  float slope[3][lanes];          ///< d(position used) / d(position given), 0 or 1
  std::int32_t lower[3][lanes];
  std::int32_t whole[lanes];      ///< zeros: 0 where a corner lies outside (`offset` is then clamped); border: 1
};

static inline void locate_offsets(const ivec (&voxel)[3], const Grid& grid, std::int64_t (&offset)[lanes]) {
  if (grid.narrow) {  // a 32-bit product is one instruction
    std::int32_t narrow[lanes];
    store(narrow, voxel[0] * std::int32_t(grid.stride[0]) + voxel[1] * std::int32_t(grid.stride[1]) +
                      voxel[2] * std::int32_t(grid.stride[2]));
    for (int i = 0; i < lanes; ++i) offset[i] = narrow[i];
  } else {
    for (int i = 0; i < lanes; ++i) {
      offset[i] = voxel[0][i] * grid.stride[0] + voxel[1][i] * grid.stride[1] + voxel[2][i] * grid.stride[2];
    }
  }
}

template <Padding padding>
static inline void locate(const float (&position)[3][lanes], const Grid& grid, Cells& cells) {
  ivec lower[3], whole = ivec{} + 1;
  for (int k = 0; k < 3; ++k) {
    const vec here = load(position[k]);
    const std::int32_t n = grid.size[k];
    const CellOf<vec> cell = padding == Padding::border ? border_cell(here, n) : zeros_cell(here, n);
    store(cells.fraction[k], cell.fraction);
    store(cells.slope[k], cell.slope);
    store(cells.lower[k], cell.lower);
    if constexpr (padding == Padding::border) {
      lower[k] = cell.lower;
    } else {
      whole &= (cell.lower >= 0) & (cell.lower <= n - 2);
      lower[k] = clamp<ivec>(cell.lower, ivec{}, ivec{} + (n > 1 ? n - 2 : 0));
    }
  }
  store(cells.whole, whole);
  locate_offsets(lower, grid, cells.offset);
}

/// Offset of the nearest voxel, -1 where it lies outside (zeros only), and its plane in `plane`.
template <Padding padding>
static inline void locate_nearest(const float (&position)[3][lanes], const Grid& grid, std::int64_t (&offset)[lanes],
                                  std::int32_t (&plane)[lanes]) {
  ivec voxel[3], outside = {};
  for (int k = 0; k < 3; ++k) {
    voxel[k] = nearest_voxel(load(position[k]), grid.size[k], padding == Padding::zeros);
    outside |= voxel[k] < 0;
    voxel[k] = voxel[k] < 0 ? ivec{} : voxel[k];
  }
  locate_offsets(voxel, grid, offset);
  store(plane, voxel[0]);
  if constexpr (padding == Padding::zeros) {
    for (int i = 0; i < lanes; ++i) offset[i] = outside[i] ? -1 : offset[i];
  }
}

/// 1 where a position lies within the voxel centres of the image, else 0.
static inline void locate_inside(const float (&position)[3][lanes], const Grid& grid, float (&inside)[lanes]) {
  const ivec mask = within(load(position[0]), grid.size[0]) & within(load(position[1]), grid.size[1]) &
                    within(load(position[2]), grid.size[2]);
  store(inside, mask ? splat(1.0f) : vec{});
}

}  // namespace masr::MASR_ISA
