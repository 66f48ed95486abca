// Where voxels fall in the image they sample, and reading its cells: what warp.cu and warp_ssd.cu share.
//
// Two kinds of kernel. A thread takes a voxel, whatever the strides; or, where the channels of a voxel are adjacent in
// memory, a warp takes 32 voxels of a row: each lane locates one of them, and then groups of lanes go through the
// voxels, a few adjacent channels a lane, so that loads and stores of neighbouring lanes are next to each other.
#pragma once

#include "cuda/element.h"
#include "cuda/reduce.h"
#include "cuda/volume.h"
#include "masr/sampling.h"
#include "math/sampling.h"

namespace masr::cuda {

/// The 3 x 4 matrices of a batch, float64; no data for the identity.
struct Matrices {
  const double* data;
  std::int64_t item, row, column;

  explicit Matrices(const View& view)
      : data(static_cast<const double*>(view.data)), item(view.batch() > 1 ? view.stride[0] : 0), row(view.stride[3]),
        column(view.stride[4]) {}
};

/// Positions of the output's voxels in the sampled image: M (v, 1) + u[v].
template <class Index>
struct Positions {
  Matrices matrix;
  Volume<const float, Index> displacement;  ///< no data: 0

  MASR_INLINE void operator()(std::int64_t n, int z, int y, int x, float (&position)[3]) const {
    const int voxel[3] = {z, y, x};
    for (int k = 0; k < 3; ++k) {
      const float u = displacement.data ? *displacement.at(n, k, z, y, x) : 0.0f;
      if (matrix.data) {
        const double* m = matrix.data + n * matrix.item + k * matrix.row;
        const double row[4] = {m[0], m[matrix.column], m[2 * matrix.column], m[3 * matrix.column]};
        position[k] = sampling_position(row, double(z), double(y), double(x), u);
      } else {
        position[k] = float(voxel[k]) + u;
      }
    }
  }
};

/// A cell of the sampled image, `offset` elements from its first voxel. Corner i (see interpolate) exists when bit i of
/// `corners` is set; those beyond the image count as 0.
template <class Index>
struct Located {
  Index offset = 0;
  unsigned corners = 0;
  float fraction[3] = {}, slope[3] = {};

  MASR_INLINE float value(const float (&corner)[8]) const {
    return interpolate(corner, fraction[0], fraction[1], fraction[2]);
  }
  MASR_INLINE ValueAndSlopes<float> value_and_slopes(const float (&corner)[8]) const {
    return interpolate_with_slopes(corner, fraction[0], fraction[1], fraction[2]);
  }
};

/// How an image is sampled.
template <class Index>
struct Sampling {
  Index stride[3], step[3];  ///< step: from a cell's lower corner to its upper one
  int size[3];
  bool zeros, nearest;

  template <class T>
  Sampling(const Volume<T, Index>& image, Padding padding, Interpolation mode)
      : zeros(padding == Padding::zeros), nearest(mode == Interpolation::nearest) {
    for (int k = 0; k < 3; ++k) {
      size[k] = image.size[k];
      stride[k] = image.stride[k];
      step[k] = size[k] > 1 || zeros ? stride[k] : Index(0);
    }
  }

  /// The nearest voxel counts as a cell of one corner.
  MASR_INLINE Located<Index> locate(const float (&position)[3]) const {
    Located<Index> found;
    found.corners = nearest ? 1u : 0xFFu;
    // The corners whose index has bit 2 - k set are the upper ones along axis k.
    const unsigned lower_corners[3] = {0x0Fu, 0x33u, 0x55u};
    for (int k = 0; k < 3; ++k) {
      if (nearest) {
        const int voxel = nearest_voxel(position[k], size[k], zeros);
        if (voxel < 0) found.corners = 0;
        found.offset += Index(voxel) * stride[k];
        continue;
      }
      const Cell cell = zeros ? zeros_cell(position[k], size[k]) : border_cell(position[k], size[k]);
      found.offset += Index(cell.lower) * stride[k];
      found.fraction[k] = cell.fraction;
      found.slope[k] = cell.slope;
      if (zeros) {
        if (cell.lower < 0 || cell.lower >= size[k]) found.corners &= ~lower_corners[k];
        if (cell.lower < -1 || cell.lower >= size[k] - 1) found.corners &= lower_corners[k];
      }
    }
    return found;
  }

  MASR_INLINE Index corner_offset(int corner) const {
    return (corner & 4 ? step[0] : Index(0)) + (corner & 2 ? step[1] : Index(0)) + (corner & 1 ? step[2] : Index(0));
  }
};

/// Corners of `channels` adjacent channels of a cell; `p` is the lower corner.
template <int channels, class T, class Index>
__device__ void read_corners(const T* p, const Sampling<Index>& sampling, unsigned corners,
                             float (&value)[channels][8]) {
  for (int i = 0; i < 8; ++i) {
    float adjacent[channels] = {};
    if (corners >> i & 1u) load(p + sampling.corner_offset(i), adjacent);
    for (int c = 0; c < channels; ++c) value[c][i] = adjacent[c];
  }
}

/// How a warp's lanes go through 32 voxels: groups of 2^log lanes, each lane `channels` adjacent channels of a voxel.
struct Groups {
  int log;

  MASR_INLINE int size() const { return 1 << log; }
  MASR_INLINE int voxels() const { return 32 >> log; }  ///< at once
  MASR_INLINE int voxel(int lane) const { return lane >> log; }
  MASR_INLINE int part(int lane) const { return lane & (size() - 1); }

  /// Groups of at most `largest` lanes for so many parts.
  static Groups of(std::int64_t parts, int largest) {
    int log = 0;
    while ((1 << log) < largest && (1 << log) < parts) ++log;
    return {log};
  }
};

template <class Index>
__device__ Located<Index> located_by(const Located<Index>& mine, int lane) {
  Located<Index> found;
  found.offset = __shfl_sync(all_lanes, mine.offset, lane);
  found.corners = __shfl_sync(all_lanes, mine.corners, lane);
  for (int k = 0; k < 3; ++k) found.fraction[k] = __shfl_sync(all_lanes, mine.fraction[k], lane);
  return found;
}

/// Sums `part` over the lanes of each group and gives it to the lane that located the group's voxel. `first` is the
/// voxel of the first group.
__device__ inline void give_to_owner(float part, Groups groups, int first, float& owned) {
  for (int step = groups.size() / 2; step > 0; step /= 2) part += __shfl_xor_sync(all_lanes, part, step);
  const int group = int(threadIdx.x) - first;
  const bool mine = group >= 0 && group < groups.voxels();
  const float sum = __shfl_sync(all_lanes, part, mine ? group << groups.log : 0);
  if (mine) owned = sum;
}

/// Whether `channels` adjacent elements can be read at once wherever a voxel lies.
inline bool adjacent_channels(const View& view, int channels) {
  if (view.channels() > 1 && view.stride[1] != 1) return false;
  const std::int64_t bytes = channels * item_size(view.dtype);
  bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % bytes == 0 && view.channels() % channels == 0;
  for (int axis : {0, 2, 3, 4}) aligned = aligned && (view.shape[axis] <= 1 || view.stride[axis] % channels == 0);
  return aligned;
}

}  // namespace masr::cuda
