// What the passes of warp share: element types, the two ways to lay out the work, and cells at the edge of the image.
#pragma once

#include "cpu/pieces.h"
#include "cpu/locate.h"
#include "cpu/warp.h"

namespace masr::MASR_ISA {

/// Calls f(T{}) with the C++ type of `type`.
template <class F>
void with_type(DType type, F&& f) {
  switch (type) {
    case DType::float16: return f(Float16{});
    case DType::bfloat16: return f(BFloat16{});
    default: return f(float{});
  }
}

template <Padding padding>
struct PaddingIs {
  static constexpr Padding value = padding;
};

template <class F>
void with_padding(Padding padding, F&& f) {
  if (padding == Padding::border) return f(PaddingIs<Padding::border>{});
  f(PaddingIs<Padding::zeros>{});
}

/// Blocks of `lanes` voxels that are located at once by the passes along x: long enough runs of one channel to keep the
/// channels, whose planes often lie a multiple of the cache's way apart, from evicting one another.
inline constexpr int blocks_at_once = 256 / lanes;

static inline int at_most(std::int64_t count, int limit) { return count < limit ? int(count) : limit; }

/// Elements `offset[i]` of `p`, one a lane.
static inline vec gather(const float* p, const std::int64_t (&offset)[lanes]) {
  vec v;
  for (int i = 0; i < lanes; ++i) v[i] = p[offset[i]];
  return v;
}
template <class T>
static inline vec gather(const T* p, const std::int64_t (&offset)[lanes]) {
  T values[lanes];
  for (int i = 0; i < lanes; ++i) values[i] = p[offset[i]];
  return Piece<lanes>{}.load(values);
}

/// `count` elements of a row, `stride` apart; the remaining lanes are 0.
template <class T>
static inline vec load_row(const T* p, std::int64_t stride, int count) {
  if (stride == 1 && count == lanes) return Piece<lanes>{}.load(p);
  float values[lanes] = {};
  for (int i = 0; i < count; ++i) values[i] = to_float(p[i * stride]);
  return load(values);
}
template <class T>
static inline void store_row(T* p, std::int64_t stride, int count, vec v) {
  if (stride == 1 && count == lanes) return Piece<lanes>{}.store(p, v);
  for (int i = 0; i < count; ++i) assign(p[i * stride], v[i]);
}

/// The corners of a cell that exist, for cells that reach beyond the image with zeros around it.
struct Corners {
  int count;
  std::int64_t voxel[8][3];
  float weight[8];
  float slope[8][3];  ///< d weight / d position

  std::int64_t offset(int i, const std::int64_t (&stride)[3]) const {
    return voxel[i][0] * stride[0] + voxel[i][1] * stride[1] + voxel[i][2] * stride[2];
  }
};

static inline Corners existing_corners(const Cells& cells, int lane, const Grid& grid) {
  Corners corners;
  corners.count = 0;
  for (int corner = 0; corner < 8; ++corner) {
    const int at = corners.count;
    float factor[3], sign[3];
    bool exists = true;
    for (int k = 0; k < 3; ++k) {
      const int upper = corner >> (2 - k) & 1;
      const std::int32_t voxel = cells.lower[k][lane] + upper;
      exists = exists && voxel >= 0 && voxel < grid.size[k];
      corners.voxel[at][k] = voxel;
      factor[k] = upper ? cells.fraction[k][lane] : 1.0f - cells.fraction[k][lane];
      sign[k] = upper ? cells.slope[k][lane] : -cells.slope[k][lane];
    }
    if (!exists) continue;
    corners.weight[at] = factor[0] * factor[1] * factor[2];
    corners.slope[at][0] = sign[0] * factor[1] * factor[2];
    corners.slope[at][1] = factor[0] * sign[1] * factor[2];
    corners.slope[at][2] = factor[0] * factor[1] * sign[2];
    ++corners.count;
  }
  return corners;
}

/// Brings the four rows of a cell's corners, `bytes` a voxel, near: its upper voxels along x; the voxel before it in the
/// output's row has most often brought the lower ones.
static inline void prefetch_cell(const char* lower, const std::int64_t (&step)[3], std::int64_t bytes) {
  for (int corner = 0; corner < 4; ++corner) {
    const char* upper = lower + (corner & 2 ? step[0] : 0) + (corner & 1 ? step[1] : 0) + step[2];
    for (std::int64_t i = 0; i < bytes; i += 64) prefetch(upper + i);
    prefetch(upper + bytes - 1);
  }
}

/// f(n, z, y) for every row of `view`, in tiles of rows through which the planes of an image with `row_bytes` bytes a row
/// stay in the cache from one z to the next.
template <class F>
void for_rows(const View& view, std::int64_t row_bytes, F&& f) {
  const std::int64_t fitting = 131072 / (row_bytes > 0 ? row_bytes : 1);
  const std::int64_t rows = fitting < 4 ? 4 : (fitting > 64 ? 64 : fitting), planes = 16;
  const std::int64_t across = (view.height() + rows - 1) / rows, along = (view.depth() + planes - 1) / planes;
  parallel_for(view.batch() * along * across, [&](std::int64_t task) {
    const std::int64_t n = task / (along * across), z0 = task / across % along * planes, y0 = task % across * rows;
    const std::int64_t z1 = z0 + planes < view.depth() ? z0 + planes : view.depth();
    const std::int64_t y1 = y0 + rows < view.height() ? y0 + rows : view.height();
    for (std::int64_t z = z0; z < z1; ++z) {
      for (std::int64_t y = y0; y < y1; ++y) f(n, z, y);
    }
  });
}

}  // namespace masr::MASR_ISA
