// A view as kernels take it, and how its voxels are shared out among blocks of threads.
#pragma once

#include <initializer_list>

#include "cuda/launch.h"
#include "math/host_device.h"

namespace masr::cuda {

/// `Index` is std::int32_t where all offsets fit, see with_index.
template <class T, class Index>
struct Volume {
  T* data;
  Index batch, channel, stride[3];
  int size[3];

  MASR_INLINE Index offset(int z, int y, int x) const {
    return Index(z) * stride[0] + Index(y) * stride[1] + Index(x) * stride[2];
  }
  /// Voxel (z, y, x) of channel c of item n.
  MASR_INLINE T* at(std::int64_t n, std::int64_t c, int z, int y, int x) const {
    return data + (Index(n) * batch + Index(c) * channel + offset(z, y, x));
  }
};

/// A stride along an axis of size 1 is never taken and may have any value: 0 keeps it out of 32-bit products.
template <class T, class Index>
Volume<T, Index> volume(const View& view) {
  const auto stride = [&](int axis) { return view.shape[axis] > 1 ? Index(view.stride[axis]) : Index(0); };
  return {static_cast<T*>(view.data), stride(0), stride(1), {stride(2), stride(3), stride(4)},
          {int(view.shape[2]), int(view.shape[3]), int(view.shape[4])}};
}

/// Calls f(Index{}): 32-bit where the offset of every voxel of every view fits, also two voxels beyond its borders.
template <class F>
void with_index(std::initializer_list<const View*> views, F&& f) {
  bool narrow = true;
  for (const View* view : views) {
    double farthest = 0;
    for (int axis = 0; axis < 5; ++axis) {
      const double stride = view->shape[axis] > 1 ? double(view->stride[axis]) : 0.0;
      farthest += double(view->shape[axis] + 2) * (stride < 0 ? -stride : stride);
    }
    narrow = narrow && farthest < double(INT32_MAX);
  }
  if (narrow) return f(std::int32_t{});
  f(std::int64_t{});
}

/// First voxel of a tile of `item`: a batch item, or a channel of one.
struct Tile {
  int item, z, y, x;
};

/// Cuts volumes into tiles of block_width x block_height columns of `planes` voxels, one for each block.
struct Tiles {
  int size[3], planes;
  int across, down;
  std::int64_t per_item, count;

  Tiles(const View& view, int planes, std::int64_t items)
      : size{int(view.depth()), int(view.height()), int(view.width())}, planes(planes),
        across(blocks(size[2], block_width)), down(blocks(size[1], block_height)),
        per_item(std::int64_t(across) * down * blocks(size[0], planes)), count(items * per_item) {}

  /// Of a block of a launch, whose number fits in 31 bits: divisions of 64 bits would take as long as a voxel.
  MASR_INLINE Tile operator[](unsigned tile) const {
    const unsigned each = unsigned(per_item), in_plane = unsigned(across) * unsigned(down);
    const unsigned item = tile / each, rest = tile - item * each;
    const unsigned slab = rest / in_plane, place = rest - slab * in_plane;
    const unsigned row = place / unsigned(across), column = place - row * unsigned(across);
    return {int(item), int(slab) * planes, int(row) * block_height, int(column) * block_width};
  }
  /// One beyond the last plane of a tile.
  MASR_INLINE int end(const Tile& tile) const {
    return size[0] - tile.z < planes ? size[0] : tile.z + planes;
  }

  static int blocks(int voxels, int block) { return int((std::int64_t(voxels) + block - 1) / block); }
};

/// Grid of blocks that goes through `count` elements, one a thread.
inline std::int64_t linear_blocks(std::int64_t count) { return (count + block_threads - 1) / block_threads; }
__device__ inline std::int64_t linear_index() { return std::int64_t(blockIdx.x) * block_threads + thread_index(); }

}  // namespace masr::cuda
