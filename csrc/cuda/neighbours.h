// The six neighbours of a voxel, and the adjoint of comparing them in pairs: what DNS and MIND-SSC share.
#pragma once

#include <algorithm>

#include "cuda/element.h"
#include "cuda/volume.h"
#include "math/dns.h"
#include "math/neighbours.h"

namespace masr::cuda {

constexpr int channels_at_once = 4;

MASR_INLINE int clamp_index(int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; }

/// Where the six neighbours of a voxel lie, from the first voxel of a channel on.
template <class T, class Index>
struct Neighbours {
  Index at[6];

  MASR_INLINE Neighbours(const Volume<const T, Index>& features, int dilation, int z, int y, int x) {
    const int voxel[3] = {z, y, x};
    for (int i = 0; i < 6; ++i) {
      int moved[3] = {z, y, x};
      const int axis = neighbour_axis(i);
      moved[axis] = clamp_index(voxel[axis] + neighbour_sign(i) * dilation, features.size[axis]);
      at[i] = features.offset(moved[0], moved[1], moved[2]);
    }
  }
  MASR_INLINE void read(const T* channel, float (&f)[6]) const {
    for (int i = 0; i < 6; ++i) f[i] = to_float(channel[at[i]]);
  }
};

/// Adds to `total` what the features of channels c ... c + channels_at_once - 1 of a voxel get as neighbour number
/// `role` of another one.
template <int role, class T, class Index>
__device__ void collect(const Volume<const T, Index>& features, const Volume<const float, Index>& weights,
                        std::int64_t n, int c, int channels, bool per_channel, int dilation, const int (&voxel)[3],
                        const float (&own)[channels_at_once], float (&total)[channels_at_once]) {
  constexpr int axis = neighbour_axis(role);
  const int size = features.size[axis];
  const int reach = dilation < size - 1 ? dilation : size - 1;
  const Readers<int> readers(voxel[axis], neighbour_sign(role) * reach, size);
  for (int i = readers.begin; i < readers.end; ++i) {
    const int u[3] = {axis == 0 ? i : voxel[0], axis == 1 ? i : voxel[1], axis == 2 ? i : voxel[2]};
    const Neighbours<T, Index> neighbours(features, dilation, u[0], u[1], u[2]);
    for_each_pair([&](auto pair) {
      constexpr NeighbourPair p = dns_pairs[pair];
      if constexpr (p.first == role || p.second == role) {
        const Index partner = neighbours.at[p.first == role ? p.second : p.first];
        for (int k = 0; k < channels_at_once; ++k) {
          if (c + k >= channels) continue;
          const float weight = *weights.at(n, 12 * (per_channel ? c + k : 0) + pair, u[0], u[1], u[2]);
          total[k] += weight * (own[k] - to_float(*(features.at(n, c + k, 0, 0, 0) + partner)));
        }
      }
    });
  }
}

/// The gradient to the features, `before` (no data: 0) being that of the layouts done so far.
template <class T, class Out, class Index>
__global__ void __launch_bounds__(block_threads, 1)
    feature_gradients(Volume<const T, Index> features, Volume<const float, Index> weights, int channels,
                      bool per_channel, int dilation, Volume<const float, Index> before, Tiles tiles,
                      Volume<Out, Index> out) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  const std::int64_t n = tile.item;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const int voxel[3] = {z, y, x};
    for (int c = 0; c < channels; c += channels_at_once) {
      float own[channels_at_once] = {}, total[channels_at_once] = {};
      for (int k = 0; k < channels_at_once; ++k) {
        if (c + k < channels) own[k] = to_float(*features.at(n, c + k, z, y, x));
      }
      collect<0>(features, weights, n, c, channels, per_channel, dilation, voxel, own, total);
      collect<1>(features, weights, n, c, channels, per_channel, dilation, voxel, own, total);
      collect<2>(features, weights, n, c, channels, per_channel, dilation, voxel, own, total);
      collect<3>(features, weights, n, c, channels, per_channel, dilation, voxel, own, total);
      collect<4>(features, weights, n, c, channels, per_channel, dilation, voxel, own, total);
      collect<5>(features, weights, n, c, channels, per_channel, dilation, voxel, own, total);
      for (int k = 0; k < channels_at_once; ++k) {
        if (c + k >= channels) continue;
        const float sum = before.data ? *before.at(n, c + k, z, y, x) + total[k] : total[k];
        assign(*out.at(n, c + k, z, y, x), sum);
      }
    }
  }
}

/// Beyond the longest axis the replicated border shows every voxel the same.
inline int at_most_longest(std::int64_t dilation, const View& features) {
  const std::int64_t longest = std::max({features.depth(), features.height(), features.width()});
  return int(std::min(dilation, longest));
}

}  // namespace masr::cuda
