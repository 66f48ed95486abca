// Warp: a gather of eight corners, forward and backward to the displacement, and a scatter to them, backward to the
// image.
//
// With 12 channels of float32 108 bytes a voxel must move forward. Neighbouring voxels share corners, which stay in the
// L1 cache. Sums of the scatter are atomic additions of float32; in the deterministic mode they are atomic additions of
// integers instead, multiples of a unit so small that rounding to it loses nothing float32 would keep, whose sum does
// not depend on the order.
#include "cuda/ops.h"
#include "cuda/sampling.h"

namespace masr::cuda {
namespace {

constexpr int planes = 4, adjacent = 4;

template <class T, class Index>
__global__ void __launch_bounds__(block_threads)
    warp_voxels(Volume<const T, Index> image, Sampling<Index> sampling, Positions<Index> positions,
                Volume<T, Index> out, int channels, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    float position[3];
    positions(tile.item, z, y, x, position);
    const Located<Index> cell = sampling.locate(position);
    for (int c = 0; c < channels; ++c) {
      float corner[1][8];
      read_corners(image.at(tile.item, c, 0, 0, 0) + cell.offset, sampling, cell.corners, corner);
      assign(*out.at(tile.item, c, z, y, x), sampling.nearest ? corner[0][0] : cell.value(corner[0]));
    }
  }
}

/// Adjacent channels: `width` of them a lane.
template <int width, class T, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    warp_channels(Volume<const T, Index> image, Sampling<Index> sampling, Positions<Index> positions,
                  Volume<T, Index> out, int channels, Groups groups, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), lane = int(threadIdx.x);
  if (y >= tiles.size[1]) return;  // the whole warp
  const int count = tiles.size[2] - tile.x < block_width ? tiles.size[2] - tile.x : block_width;
  const T* const source = image.at(tile.item, 0, 0, 0, 0);
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    Located<Index> mine;
    if (lane < count) {
      float position[3];
      positions(tile.item, z, y, tile.x + lane, position);
      mine = sampling.locate(position);
    }
    for (int first = 0; first < count; first += groups.voxels()) {
      const int voxel = first + groups.voxel(lane);
      const Located<Index> cell = located_by(mine, voxel);
      if (voxel >= count) continue;
      T* const target = out.at(tile.item, 0, z, y, tile.x + voxel);
      for (int c = groups.part(lane) * width; c < channels; c += groups.size() * width) {
        float corner[width][8], value[width];
        read_corners(source + cell.offset + c, sampling, cell.corners, corner);
        for (int i = 0; i < width; ++i) value[i] = sampling.nearest ? corner[i][0] : cell.value(corner[i]);
        store(target + c, value);
      }
    }
  }
}

template <class T, class Index>
__global__ void __launch_bounds__(block_threads)
    field_gradient_voxels(Volume<const T, Index> image, Sampling<Index> sampling, Positions<Index> positions,
                          Volume<const T, Index> gradient, Volume<float, Index> out, int channels, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    float position[3], total[3] = {};
    positions(tile.item, z, y, x, position);
    const Located<Index> cell = sampling.locate(position);
    for (int c = 0; c < channels; ++c) {
      float corner[1][8];
      read_corners(image.at(tile.item, c, 0, 0, 0) + cell.offset, sampling, cell.corners, corner);
      const auto slopes = cell.value_and_slopes(corner[0]);
      const float g = to_float(*gradient.at(tile.item, c, z, y, x));
      total[0] += g * slopes.z;
      total[1] += g * slopes.y;
      total[2] += g * slopes.x;
    }
    for (int k = 0; k < 3; ++k) *out.at(tile.item, k, z, y, x) = total[k] * cell.slope[k];
  }
}

template <int width, class T, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    field_gradient_channels(Volume<const T, Index> image, Sampling<Index> sampling, Positions<Index> positions,
                            Volume<const T, Index> gradient, Volume<float, Index> out, int channels, Groups groups,
                            Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), lane = int(threadIdx.x);
  if (y >= tiles.size[1]) return;  // the whole warp
  const int count = tiles.size[2] - tile.x < block_width ? tiles.size[2] - tile.x : block_width;
  const T* const source = image.at(tile.item, 0, 0, 0, 0);
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    Located<Index> mine;
    if (lane < count) {
      float position[3];
      positions(tile.item, z, y, tile.x + lane, position);
      mine = sampling.locate(position);
    }
    float owned[3] = {};
    for (int first = 0; first < count; first += groups.voxels()) {
      const int voxel = first + groups.voxel(lane);
      const Located<Index> cell = located_by(mine, voxel);
      float total[3] = {};
      if (voxel < count) {
        const T* const g = gradient.at(tile.item, 0, z, y, tile.x + voxel);
        for (int c = groups.part(lane) * width; c < channels; c += groups.size() * width) {
          float corner[width][8], given[width];
          load(g + c, given);
          read_corners(source + cell.offset + c, sampling, cell.corners, corner);
          for (int i = 0; i < width; ++i) {
            const auto slopes = cell.value_and_slopes(corner[i]);
            total[0] += given[i] * slopes.z;
            total[1] += given[i] * slopes.y;
            total[2] += given[i] * slopes.x;
          }
        }
      }
      for (int k = 0; k < 3; ++k) give_to_owner(total[k], groups, first, owned[k]);
    }
    if (lane < count) {
      for (int k = 0; k < 3; ++k) *out.at(tile.item, k, z, y, tile.x + lane) = owned[k] * mine.slope[k];
    }
  }
}

/// Sums that many threads add to, `offset` elements on.
struct AtomicSums {
  float* data;

  template <class Index>
  MASR_INLINE void add(Index offset, float value) const {
    atomicAdd(data + offset, value);
  }
};

/// The unit of the integers of FixedSums: 2^-shift. No sum of `terms` terms of at most `largest` overflows.
__device__ inline int shift_for(unsigned largest, int terms_log) {
  const int exponent = int(largest >> 23) - 126;  // largest < 2^exponent, the bits of a float
  return 62 - terms_log - exponent;
}

struct FixedSums {
  float* data;  ///< takes what is not finite: its sum is the same in any order
  unsigned long long* fixed;
  const unsigned* largest;
  int terms_log;

  template <class Index>
  __device__ void add(Index offset, float value) const {
    if (value - value == 0.0f) {
      const long long multiple = llrint(ldexp(double(value), shift_for(*largest, terms_log)));
      atomicAdd(fixed + offset, static_cast<unsigned long long>(multiple));
    } else {
      atomicAdd(data + offset, value);
    }
  }
};

/// The largest finite magnitude, as the bits of a float.
template <class T, class Index>
__global__ void __launch_bounds__(block_threads)
    find_largest(Volume<const T, Index> view, int channels, Tiles tiles, unsigned* largest) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  unsigned found = 0;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    for (int c = 0; c < channels; ++c) {
      const unsigned bits = unsigned(__float_as_int(to_float(*view.at(tile.item, c, z, y, x)))) & 0x7FFFFFFFu;
      if (bits < 0x7F800000u && bits > found) found = bits;
    }
  }
  if (found > 0) atomicMax(largest, found);
}

/// Weight of a corner of a cell.
template <class Index>
__device__ float corner_weight(const Located<Index>& cell, int corner) {
  return (corner & 4 ? cell.fraction[0] : 1.0f - cell.fraction[0]) *
         (corner & 2 ? cell.fraction[1] : 1.0f - cell.fraction[1]) *
         (corner & 1 ? cell.fraction[2] : 1.0f - cell.fraction[2]);
}

/// Groups of lanes, a channel a lane; with strides that are not adjacent groups are one lane. `sums` are laid out as
/// `sampling`, with `batch` and `channel` between items and channels.
template <class Sums, class T, class Index>
__global__ void __launch_bounds__(block_threads)
    scatter(Sums sums, Index batch, Index channel, Sampling<Index> sampling, Positions<Index> positions,
            Volume<const T, Index> gradient, int channels, Groups groups, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), lane = int(threadIdx.x);
  if (y >= tiles.size[1]) return;  // the whole warp
  const int count = tiles.size[2] - tile.x < block_width ? tiles.size[2] - tile.x : block_width;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    Located<Index> mine;
    if (lane < count) {
      float position[3];
      positions(tile.item, z, y, tile.x + lane, position);
      mine = sampling.locate(position);
    }
    for (int first = 0; first < count; first += groups.voxels()) {
      const int voxel = first + groups.voxel(lane);
      const Located<Index> cell = located_by(mine, voxel);
      if (voxel >= count) continue;
      for (int c = groups.part(lane); c < channels; c += groups.size()) {
        const float g = to_float(*gradient.at(tile.item, c, z, y, tile.x + voxel));
        const Index target = Index(tile.item) * batch + Index(c) * channel + cell.offset;
        for (int i = 0; i < 8; ++i) {
          if (!(cell.corners >> i & 1u)) continue;
          sums.add(target + sampling.corner_offset(i), sampling.nearest ? g : g * corner_weight(cell, i));
        }
      }
    }
  }
}

/// out = sums, element by element in the order (n, c, z, y, x) of the shape, or in that of memory where both are dense.
template <class T>
__global__ void __launch_bounds__(block_threads)
    finish(const float* sums, const unsigned long long* fixed, const unsigned* largest, int terms_log, bool same_layout,
           Volume<T, std::int64_t> out, int channels, std::int64_t count) {
  const std::int64_t i = linear_index();
  if (i >= count) return;
  float value = sums[i];
  if (fixed) {
    value += float(ldexp(double(static_cast<long long>(fixed[i])), -shift_for(*largest, terms_log)));
  }
  T* target = out.data + i;
  if (!same_layout) {
    const std::int64_t x = i % out.size[2], row = i / out.size[2], y = row % out.size[1], plane = row / out.size[1];
    const std::int64_t z = plane % out.size[0], series = plane / out.size[0];
    target = out.at(series / channels, series % channels, int(z), int(y), int(x));
  }
  assign(*target, value);
}

/// Whether the elements fill one piece of memory, each its own.
bool dense(const View& view) {
  std::int64_t last = 0;
  for (int axis = 0; axis < 5; ++axis) {
    if (view.shape[axis] > 1 && view.stride[axis] <= 0) return false;
    last += (view.shape[axis] - 1) * (view.shape[axis] > 1 ? view.stride[axis] : 0);
  }
  return last + 1 == view.elements();
}

/// The gradient to the image.
template <class T>
void to_image(const Call& call, const Warp& warp, const View& gradient, const View& out) {
  const std::int64_t elements = out.elements();
  const bool same_layout = dense(out);
  const bool direct = same_layout && out.dtype == DType::float32;
  View sums = same_layout ? out : contiguous_view(nullptr, DType::float32, out.shape);
  sums.data = direct ? out.data : call.scratch<float>(elements);
  call.clear(sums.data, elements * std::int64_t(sizeof(float)));
  unsigned long long* fixed = nullptr;
  unsigned* largest = nullptr;
  int terms_log = 0;
  if (call.deterministic()) {
    fixed = call.scratch<unsigned long long>(elements);
    largest = call.scratch<unsigned>(1);
    call.clear(fixed, elements * std::int64_t(sizeof(*fixed)));
    call.clear(largest, sizeof(*largest));
    while ((std::int64_t(1) << terms_log) < 8 * gradient.voxels()) ++terms_log;
  }
  const Tiles tiles(gradient, planes, gradient.batch());
  const int channels = int(gradient.channels());
  const Groups groups = Groups::of(sums.stride[1] == 1 && gradient.stride[1] == 1 ? channels : 1, 32);
  with_index({&sums, &gradient, &warp.displacement}, [&](auto index) {
    using Index = decltype(index);
    const auto target = volume<float, Index>(sums);
    const Sampling<Index> sampling(target, warp.padding, warp.mode);
    const Positions<Index> positions{Matrices(warp.matrix), volume<const float, Index>(warp.displacement)};
    const auto given = volume<const T, Index>(gradient);
    if (fixed) {
      call.launch(find_largest<T, Index>, tiles.count, 0, given, channels, tiles, largest);
      call.launch(scatter<FixedSums, T, Index>, tiles.count, 0, FixedSums{target.data, fixed, largest, terms_log},
                  target.batch, target.channel, sampling, positions, given, channels, groups, tiles);
    } else {
      call.launch(scatter<AtomicSums, T, Index>, tiles.count, 0, AtomicSums{target.data}, target.batch, target.channel,
                  sampling, positions, given, channels, groups, tiles);
    }
  });
  if (direct && !fixed) return;
  call.launch(finish<T>, linear_blocks(elements), 0, static_cast<const float*>(sums.data), fixed, largest, terms_log,
              same_layout, volume<T, std::int64_t>(out), int(out.channels()), elements);
}

/// The gradient to the displacement, or to M (v, 1).
template <class T>
void to_field(const Call& call, const Warp& warp, const View& gradient, const View& out) {
  const Tiles tiles(gradient, planes, gradient.batch());
  const int channels = int(gradient.channels());
  with_index({&warp.image, &gradient, &warp.displacement, &out}, [&](auto index) {
    using Index = decltype(index);
    const auto image = volume<const T, Index>(warp.image);
    const Sampling<Index> sampling(image, warp.padding, warp.mode);
    const Positions<Index> positions{Matrices(warp.matrix), volume<const float, Index>(warp.displacement)};
    const auto given = volume<const T, Index>(gradient);
    const auto target = volume<float, Index>(out);
    const auto both = [&](int width) {
      return channels > 1 && adjacent_channels(warp.image, width) && adjacent_channels(gradient, width);
    };
    if (both(adjacent)) {
      call.launch(field_gradient_channels<adjacent, T, Index>, tiles.count, 0, image, sampling, positions, given,
                  target, channels, Groups::of(channels / adjacent, 8), tiles);
    } else if (both(1)) {
      call.launch(field_gradient_channels<1, T, Index>, tiles.count, 0, image, sampling, positions, given, target,
                  channels, Groups::of(channels, 8), tiles);
    } else {
      call.launch(field_gradient_voxels<T, Index>, tiles.count, 0, image, sampling, positions, given, target, channels,
                  tiles);
    }
  });
}

constexpr int matrix_planes = 8;

template <class Index>
__global__ void __launch_bounds__(block_threads)
    matrix_sums(Volume<const float, Index> gradient, Tiles tiles, double* partials) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  double total[12] = {};
  if (y < tiles.size[1] && x < tiles.size[2]) {
    for (int z = tile.z; z < tiles.end(tile); ++z) {
      for (int k = 0; k < 3; ++k) {
        const double g = *gradient.at(tile.item, k, z, y, x);
        total[4 * k] += g * z;
        total[4 * k + 3] += g;
      }
    }
    for (int k = 0; k < 3; ++k) {
      total[4 * k + 1] = total[4 * k + 3] * y;
      total[4 * k + 2] = total[4 * k + 3] * x;
    }
  }
  block_sum(total);
  if (thread_index() == 0) {
    for (int i = 0; i < 12; ++i) partials[std::int64_t(blockIdx.x) * 12 + i] = total[i];
  }
}

/// A block for each batch item.
__global__ void __launch_bounds__(block_threads)
    matrix_totals(const double* partials, std::int64_t blocks, double* out, std::int64_t stride) {
  double total[12];
  sum_partials(partials + blockIdx.x * blocks * 12, blocks, total);
  if (thread_index() == 0) {
    for (int i = 0; i < 12; ++i) out[blockIdx.x * stride + i] = total[i];
  }
}

}  // namespace

void warp(const Warp& warp, const View& out, const Execution& execution) {
  const Call call("warp", warp.image, execution);
  const Tiles tiles(out, planes, out.batch());
  const int channels = int(out.channels());
  with_type(warp.image.dtype, [&](auto element) {
    with_index({&warp.image, &warp.displacement, &out}, [&](auto index) {
      using T = decltype(element);
      using Index = decltype(index);
      const auto image = volume<const T, Index>(warp.image);
      const Sampling<Index> sampling(image, warp.padding, warp.mode);
      const Positions<Index> positions{Matrices(warp.matrix), volume<const float, Index>(warp.displacement)};
      const auto target = volume<T, Index>(out);
      const auto both = [&](int width) {
        return channels > 1 && adjacent_channels(warp.image, width) && adjacent_channels(out, width);
      };
      if (both(adjacent)) {
        call.launch(warp_channels<adjacent, T, Index>, tiles.count, 0, image, sampling, positions, target, channels,
                    Groups::of(channels / adjacent, 8), tiles);
      } else if (both(1)) {
        call.launch(warp_channels<1, T, Index>, tiles.count, 0, image, sampling, positions, target, channels,
                    Groups::of(channels, 8), tiles);
      } else {
        call.launch(warp_voxels<T, Index>, tiles.count, 0, image, sampling, positions, target, channels, tiles);
      }
    });
  });
}

void warp_backward(const Warp& warp, const View& gradient, const View& image_gradient,
                   const View& displacement_gradient, const Execution& execution) {
  const Call call("warp_backward", warp.image, execution);
  with_type(warp.image.dtype, [&](auto element) {
    using T = decltype(element);
    if (image_gradient) to_image<T>(call, warp, gradient, image_gradient);
    if (displacement_gradient) to_field<T>(call, warp, gradient, displacement_gradient);
  });
}

void warp_matrix_gradient(const View& gradient, const View& out, const Execution& execution) {
  const Call call("warp_matrix_gradient", gradient, execution);
  const Tiles tiles(gradient, matrix_planes, gradient.batch());
  double* partials = call.scratch<double>(12 * tiles.count);
  with_index({&gradient}, [&](auto index) {
    using Index = decltype(index);
    call.launch(matrix_sums<Index>, tiles.count, 0, volume<const float, Index>(gradient), tiles, partials);
  });
  call.launch(matrix_totals, gradient.batch(), 0, partials, tiles.per_item, static_cast<double*>(out.data),
              out.stride[0]);
}

}  // namespace masr::cuda
