// MIND-SSC and its adjoint.
//
// Forward: a block takes a tile of 32 x 8 columns and goes along z. For each plane it computes the 12 squared
// differences once, the tile's surroundings included, sums them along y and x through shared memory, and keeps the sums
// of the last planes in registers, so that a box of (2 radius + 1)^3 costs three short sums. 52 bytes a voxel must
// move. The bounds of V are known only at the end: V is kept, and what is out of bounds is put right afterwards by
// taking exp(-D / V) to the power V / bound.
//
// Backward, in sweeps over 12 volumes: the gradient to the patch sums, from distances that are computed again; its sums
// along x, y and z, which make it that to the squared differences; and every voxel of the image collects from those
// that read it. Nothing is summed in an order that could change.
#include "math/mind.h"

#include "cuda/neighbours.h"
#include "cuda/ops.h"
#include "cuda/reduce.h"

namespace masr::cuda {
namespace {

constexpr int planes = 24;
constexpr int largest_tiled_radius = 3;
constexpr int staged = 13;  ///< floats of a voxel; odd, so that lanes meet in no bank
constexpr float log2_e = 1.44269504f;

/// (f(x + i) - f(x + j))^2 for the 12 pairs.
template <class Index>
__device__ void squared_differences(const float* image, const Neighbours<float, Index>& neighbours,
                                    float (&squared)[12]) {
  float f[6];
  neighbours.read(image, f);
  for (int pair = 0; pair < 12; ++pair) squared[pair] = 0.0f;
  dns_add_channel(f, squared);
}

/// Subtracts the least of the 12 sums over the patch from all; returns V, the mean of what is left, times `scale`.
__device__ inline float relative_distances(float scale, float (&distance)[12]) {
  float least = distance[0], total = 0.0f;
  for (int k = 1; k < 12; ++k) least = least < distance[k] ? least : distance[k];
  for (int k = 0; k < 12; ++k) {
    distance[k] -= least;
    total += distance[k];
  }
  return total * (scale / 12.0f);
}

/// Where a block is, for those that use the patch sums of its voxels.
struct Place {
  std::int64_t n;
  int z, y, x;
  int width;    ///< voxels of the row that the warp has
  bool inside;  ///< whether this thread has a voxel
};

/// Writes the descriptor with V as each voxel has it, and V.
template <bool adjacent, class Out, class Index>
struct Describe {
  Volume<Out, Index> out;
  Volume<float, Index> variance;
  float scale;  ///< of sums over the patch to means
  double* partials;
  double total;

  /// `stage` has room for `staged` floats a thread of the block. Warps take part as a whole.
  __device__ void take(const Place& at, float (&distance)[12], float* stage) {
    const float mean = relative_distances(scale, distance);
    const float factor = -scale * log2_e / (mind_smallest_variance > mean ? mind_smallest_variance : mean);
    for (int k = 0; k < 12; ++k) distance[k] = exp2f(distance[k] * factor);
    if (at.inside) {
      *variance.at(at.n, 0, at.z, at.y, at.x) = mean;
      total += double(mean);
    }
    if constexpr (adjacent) {
      float* const row = stage + int(threadIdx.y) * block_width * staged;
      for (int k = 0; k < 12; ++k) row[int(threadIdx.x) * staged + k] = distance[k];
      __syncwarp();
      const int first = at.x - int(threadIdx.x);
      for (int i = int(threadIdx.x); i < 12 * at.width; i += block_width) {
        assign(*out.at(at.n, i % 12, at.z, at.y, first + i / 12), row[i / 12 * staged + i % 12]);
      }
      __syncwarp();
    } else if (at.inside) {
      for (int k = 0; k < 12; ++k) assign(*out.at(at.n, k, at.z, at.y, at.x), distance[k]);
    }
  }

  /// Leaves the sum of V. All threads of the block must call it.
  __device__ void leave() {
    double sum[1] = {total};
    block_sum(sum);
    if (thread_index() == 0) partials[blockIdx.x] = sum[0];
  }
};

/// Writes twice the gradient to the sums over the patch.
template <class Given, class Index>
struct SumGradients {
  Volume<const Given, Index> gradient;
  Volume<float, Index> out;
  float scale;
  const float* mean;
  std::int64_t mean_stride;

  __device__ void take(const Place& at, float (&distance)[12], float*) {
    if (!at.inside) return;
    const float own = relative_distances(scale, distance);
    const float variance = Bounds(mean[at.n * mean_stride]).apply(own), inverse = 1.0f / variance;
    float weight[12], product = 0.0f;
    for (int k = 0; k < 12; ++k) {
      const float ratio = distance[k] * (scale * inverse);
      weight[k] = to_float(*gradient.at(at.n, k, at.z, at.y, at.x)) * exp2f(-log2_e * ratio) * inverse;
      product += weight[k] * ratio;
    }
    const float through_variance = variance == own ? product * (1.0f / 12.0f) : 0.0f;
    float total = 0.0f;
    for (int k = 0; k < 12; ++k) {
      weight[k] = (through_variance - weight[k]) * (2.0f * scale);
      total += weight[k];
    }
    bool found = false;  // the least distance was subtracted from all; of equal ones the first
    for (int k = 0; k < 12; ++k) {
      const bool least = distance[k] == 0.0f && !found;
      found = found || least;
      *out.at(at.n, k, at.z, at.y, at.x) = least ? weight[k] - total : weight[k];
    }
  }
  __device__ void leave() {}
};

/// Floats of shared memory of patch_sums.
template <int radius>
struct Shared {
  static constexpr int columns = block_width + 2 * radius, rows = block_height + 2 * radius;
  static constexpr int differences = 12 * rows * columns, stage = block_threads * staged;
  static constexpr int first = differences > stage ? differences : stage;  // they follow each other in one place
  static constexpr int count = first + 12 * block_height * columns;
};

/// Sums over the patch, the squared differences replicated at the border.
template <int radius, class Use, class Index>
__global__ void __launch_bounds__(block_threads, radius < largest_tiled_radius ? few_blocks : 1)
    patch_sums(Volume<const float, Index> image, int dilation, Tiles tiles, Use use) {
  using Sizes = Shared<radius>;
  constexpr int columns = Sizes::columns, rows = Sizes::rows, taps = 2 * radius + 1;
  float* const differences = shared_memory<float>();          // [12][rows][columns] of one plane
  float* const along_y = differences + Sizes::first;  // [12][block_height][columns], summed along y
  const Tile tile = tiles[blockIdx.x];
  const float* const item = image.at(tile.item, 0, 0, 0, 0);
  const int depth = tiles.size[0], height = tiles.size[1], width = tiles.size[2];
  Place at = {tile.item, 0, tile.y + int(threadIdx.y), tile.x + int(threadIdx.x), 0, false};
  at.width = at.y < height ? (width - tile.x < block_width ? width - tile.x : block_width) : 0;
  at.inside = at.y < height && at.x < width;
  float plane[taps][12];  // sums of the last planes along y and x
  for (int z = tile.z - radius; z < tiles.end(tile) + radius; ++z) {
    const int here = clamp_index(z, depth);
    for (int i = thread_index(); i < rows * columns; i += block_threads) {
      const int y = clamp_index(tile.y - radius + i / columns, height);
      const int x = clamp_index(tile.x - radius + i % columns, width);
      float squared[12];
      squared_differences(item, Neighbours<float, Index>(image, dilation, here, y, x), squared);
      for (int k = 0; k < 12; ++k) differences[k * rows * columns + i] = squared[k];
    }
    __syncthreads();
    for (int i = thread_index(); i < 12 * columns; i += block_threads) {
      const float* const column = differences + i / columns * (rows * columns) + i % columns;
      float* const target = along_y + i / columns * (block_height * columns) + i % columns;
      float value[rows];
      for (int row = 0; row < rows; ++row) value[row] = column[row * columns];
      for (int row = 0; row < block_height; ++row) {
        float sum = value[row];
        for (int t = 1; t < taps; ++t) sum += value[row + t];
        target[row * columns] = sum;
      }
    }
    __syncthreads();
    for (int k = 0; k < 12; ++k) {
      for (int t = 0; t + 1 < taps; ++t) plane[t][k] = plane[t + 1][k];
      const float* const row = along_y + (k * block_height + int(threadIdx.y)) * columns + int(threadIdx.x);
      float sum = row[0];
      for (int t = 1; t < taps; ++t) sum += row[t];
      plane[taps - 1][k] = sum;
    }
    if (z - radius < tile.z) continue;  // the same for all threads
    at.z = z - radius;
    float distance[12];
    for (int k = 0; k < 12; ++k) {
      distance[k] = plane[0][k];
      for (int t = 1; t < taps; ++t) distance[k] += plane[t][k];
    }
    use.take(at, distance, differences);
    __syncthreads();  // the stage was where the next differences go
  }
  use.leave();
}

/// The same for any radius, every sum taken tap by tap: slow, for radii that nobody uses.
template <class Use, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    patch_sums_of_any_radius(Volume<const float, Index> image, int radius, int dilation, Tiles tiles, Use use) {
  const Tile tile = tiles[blockIdx.x];
  const float* const item = image.at(tile.item, 0, 0, 0, 0);
  Place at = {tile.item, 0, tile.y + int(threadIdx.y), tile.x + int(threadIdx.x), 0, false};
  at.width = at.y < tiles.size[1] ? (tiles.size[2] - tile.x < block_width ? tiles.size[2] - tile.x : block_width) : 0;
  at.inside = at.y < tiles.size[1] && at.x < tiles.size[2];
  for (at.z = tile.z; at.z < tiles.end(tile); ++at.z) {
    float distance[12] = {};
    for (int dz = -radius; dz <= radius && at.inside; ++dz) {
      for (int dy = -radius; dy <= radius; ++dy) {
        for (int dx = -radius; dx <= radius; ++dx) {
          const Neighbours<float, Index> neighbours(image, dilation, clamp_index(at.z + dz, tiles.size[0]),
                                                clamp_index(at.y + dy, tiles.size[1]),
                                                clamp_index(at.x + dx, tiles.size[2]));
          float squared[12];
          squared_differences(item, neighbours, squared);
          for (int k = 0; k < 12; ++k) distance[k] += squared[k];
        }
      }
    }
    use.take(at, distance, shared_memory<float>());
  }
  use.leave();
}

/// A block for each batch item.
__global__ void __launch_bounds__(block_threads)
    mean_of_blocks(const double* partials, std::int64_t blocks, double voxels, float* mean, std::int64_t stride) {
  double total[1];
  sum_partials(partials + blockIdx.x * blocks, blocks, total);
  if (thread_index() == 0) mean[blockIdx.x * stride] = float(total[0] / voxels);
}

/// Puts the descriptor right where V is out of bounds.
template <class Out, class Index>
__global__ void __launch_bounds__(block_threads)
    correct(Volume<const float, Index> variance, const float* mean, std::int64_t mean_stride, Volume<Out, Index> out,
            Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  const Bounds bounds(mean[tile.item * mean_stride]);
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const float v = *variance.at(tile.item, 0, z, y, x);
    const float ratio = (mind_smallest_variance > v ? mind_smallest_variance : v) / bounds.apply(v);
    // where V is 0 the descriptor is 1, whatever the bounds
    if (ratio == 1.0f || (v == 0.0f && ratio == ratio)) continue;
    for (int k = 0; k < 12; ++k) {
      Out& value = *out.at(tile.item, k, z, y, x);
      const float exponent = log2f(to_float(value)) * ratio;
      assign(value, exp2f(-126.0f > exponent ? -126.0f : exponent));
    }
  }
}

/// Sums along an axis: the adjoint of the box filter with replicated border.
template <class Index>
__global__ void __launch_bounds__(block_threads)
    spread(Volume<const float, Index> in, int axis, int size, Index step, int radius, Tiles tiles,
           Volume<float, Index> out) {
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item / 12, k = tile.item % 12;
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const int here = axis == 0 ? z : axis == 1 ? y : x;
    const float* const source = in.at(n, k, z, y, x);
    const int low = here > radius ? here - radius : 0, high = size - 1 - here > radius ? here + radius : size - 1;
    float total = 0.0f;
    for (int i = low; i <= high; ++i) {
      total += float(times_read(here, i, size, radius)) * source[Index(i - here) * step];
    }
    *out.at(n, k, z, y, x) = total;
  }
}

template <class Index, class Use>
void sum_patches(const Call& call, const View& image, std::int64_t radius, int dilation, const Tiles& tiles, Use use) {
  const auto f = volume<const float, Index>(image);
  const auto run = [&](auto kernel, int floats) {
    call.launch(kernel, tiles.count, std::size_t(floats) * sizeof(float), f, dilation, tiles, use);
  };
  switch (radius) {
    case 0: return run(patch_sums<0, Use, Index>, Shared<0>::count);
    case 1: return run(patch_sums<1, Use, Index>, Shared<1>::count);
    case 2: return run(patch_sums<2, Use, Index>, Shared<2>::count);
    case largest_tiled_radius: return run(patch_sums<3, Use, Index>, Shared<3>::count);
    default:
      call.launch(patch_sums_of_any_radius<Use, Index>, tiles.count, block_threads * staged * sizeof(float), f,
                  int(std::min(radius, longest_axis)), dilation, tiles, use);
  }
}

float scale_of(std::int64_t radius) {
  const float taps = float(2 * radius + 1);
  return 1.0f / (taps * taps * taps);
}

/// Planar float32 scratch volumes, `channels` for each item.
View scratch_volumes(const Call& call, const View& image, std::int64_t channels) {
  auto shape = image.shape;
  shape[1] = channels;
  View view = contiguous_view(nullptr, DType::float32, shape);
  view.data = call.scratch<float>(view.elements());
  return view;
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    widen(Volume<const T, std::int64_t> image, Volume<float, std::int64_t> out, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    *out.at(tile.item, 0, z, y, x) = to_float(*image.at(tile.item, 0, z, y, x));
  }
}

/// The image in float32: itself, or a copy. That keeps the kernels few.
View in_float32(const Call& call, const View& image, const Tiles& tiles) {
  if (image.dtype == DType::float32) return image;
  const View copy = scratch_volumes(call, image, 1);
  with_type(image.dtype, [&](auto element) {
    using T = decltype(element);
    call.launch(widen<T>, tiles.count, 0, volume<const T, std::int64_t>(image), volume<float, std::int64_t>(copy),
                tiles);
  });
  return copy;
}

}  // namespace

void mind_ssc(const View& stored, std::int64_t radius, std::int64_t dilation, const View& out, const View& mean,
              const Execution& execution) {
  const Call call("mind_ssc", stored, execution);
  const Tiles tiles(stored, planes, stored.batch());
  const View image = in_float32(call, stored, tiles);
  const int distance = at_most_longest(dilation, image);
  const View variance = scratch_volumes(call, image, 1);
  double* partials = call.scratch<double>(tiles.count);
  float* means = static_cast<float*>(mean.data);
  const auto with_types = [&](auto&& f) {
    with_type(out.dtype, [&](auto element) {
      with_index({&image, &variance, &out}, [&](auto index) { f(element, index); });
    });
  };
  with_types([&](auto out_element, auto index) {
    using Out = decltype(out_element);
    using Index = decltype(index);
    const auto run = [&](auto use) { sum_patches<Index>(call, image, radius, distance, tiles, use); };
    const auto target = volume<Out, Index>(out);
    const auto v = volume<float, Index>(variance);
    if (out.stride[1] == 1) {
      run(Describe<true, Out, Index>{target, v, scale_of(radius), partials, 0.0});
    } else {
      run(Describe<false, Out, Index>{target, v, scale_of(radius), partials, 0.0});
    }
  });
  call.launch(mean_of_blocks, image.batch(), 0, partials, tiles.per_item, double(image.voxels()), means,
              mean.stride[0]);
  with_types([&](auto out_element, auto index) {
    using Out = decltype(out_element);
    using Index = decltype(index);
    call.launch(correct<Out, Index>, tiles.count, 0, volume<const float, Index>(variance), means, mean.stride[0],
                volume<Out, Index>(out), tiles);
  });
}

void mind_ssc_backward(const View& stored, std::int64_t radius, std::int64_t dilation, const View& mean,
                       const View& gradient, const View& out, const Execution& execution) {
  const Call call("mind_ssc_backward", stored, execution);
  const Tiles tiles(stored, planes, stored.batch());
  const View image = in_float32(call, stored, tiles);
  const int distance = at_most_longest(dilation, image);
  const float* means = static_cast<const float*>(mean.data);
  View from = scratch_volumes(call, image, 12);
  with_index({&image, &gradient, &from, &out}, [&](auto index) {
    using Index = decltype(index);
    with_type(gradient.dtype, [&](auto given_element) {
      using Given = decltype(given_element);
      const SumGradients<Given, Index> use{volume<const Given, Index>(gradient), volume<float, Index>(from),
                                           scale_of(radius), means, mean.stride[0]};
      sum_patches<Index>(call, image, radius, distance, tiles, use);
    });
    if (radius > 0) {
      View to = scratch_volumes(call, image, 12);
      const Tiles each(image, planes, 12 * image.batch());
      for (int axis : {2, 1, 0}) {
        call.launch(spread<Index>, each.count, 0, volume<const float, Index>(from), axis, int(from.shape[2 + axis]),
                    Index(from.stride[2 + axis]), int(std::min(radius, longest_axis)), each, volume<float, Index>(to));
        std::swap(from, to);
      }
    }
    with_type(out.dtype, [&](auto out_element) {
      using Out = decltype(out_element);
      call.launch(feature_gradients<float, Out, Index>, tiles.count, 0, volume<const float, Index>(image),
                  volume<const float, Index>(from), 1, false, distance, volume<const float, Index>(View{}), tiles,
                  volume<Out, Index>(out));
    });
  });
}

}  // namespace masr::cuda
