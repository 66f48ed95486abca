// Warp, squared difference and gradient in one pass over the feature volumes.
//
// With 12 channels of float32 120 bytes a voxel must move. The gradient to the displacement is divided by the total
// weight: where that is not known beforehand (weights, a mask, positions outside), a first pass over the positions sums
// it, so that the gradient is written once and nothing waits for the host. The sums of value and of the gradient to the
// matrix are taken in double, thread by thread, block by block, and the blocks by one more kernel.
#include "cuda/ops.h"
#include "cuda/sampling.h"

namespace masr::cuda {
namespace {

constexpr int planes = 4, adjacent = 4;

/// What a kernel asks of a voxel beside its features.
template <class Index>
struct Voxels {
  Positions<Index> positions;
  Sampling<Index> sampling;
  Volume<const float, Index> weights;       ///< no data: 1
  Volume<const void, Index> mask;           ///< no data: all of moving
  bool mask_is_float, exclude_outside;

  /// Where voxel (z, y, x) falls in the moving volume; returns its weight, 0 where it is not valid.
  __device__ float find(std::int64_t n, int z, int y, int x, Located<Index>& cell) const {
    float position[3];
    positions(n, z, y, x, position);
    cell = sampling.locate(position);
    bool valid = true;
    if (exclude_outside) {
      for (int k = 0; k < 3; ++k) valid = valid && within(position[k], sampling.size[k]);
    }
    if (!valid) return 0.0f;
    const float weight = weights.data ? *weights.at(n, 0, z, y, x) : 1.0f;
    return mask.data && !in_mask(n, position) ? 0.0f : weight;
  }

 private:
  __device__ bool in_mask(std::int64_t n, const float (&position)[3]) const {
    int voxel[3];
    for (int k = 0; k < 3; ++k) voxel[k] = nearest_voxel(position[k], sampling.size[k], false);
    const Index offset = Index(n) * mask.batch + mask.offset(voxel[0], voxel[1], voxel[2]);
    if (mask_is_float) return static_cast<const float*>(mask.data)[offset] > 0.5f;
    return static_cast<const std::uint8_t*>(mask.data)[offset] != 0;
  }
};

/// Sums over the channels of a voxel: of (moving - fixed)^2, and of (moving - fixed) d moving / d position.
struct Sums {
  float squared = 0.0f, slope[3] = {};

  template <class Index>
  __device__ void add(const float (&corner)[8], float fixed, const Located<Index>& cell) {
    const auto moving = cell.value_and_slopes(corner);
    const float residual = moving.value - fixed;
    squared += residual * residual;
    slope[0] += residual * moving.z;
    slope[1] += residual * moving.y;
    slope[2] += residual * moving.x;
  }
};

enum class Gradient { none, field, matrix };

/// A thread's sums over its voxels: of the weights, of the weighted squares, and of the gradient to the 12 entries of
/// M.
template <Gradient kind>
struct Totals {
  static constexpr int count = kind == Gradient::matrix ? 14 : 2;
  double value[count] = {};

  /// Takes a voxel and writes its entry of the gradient to the displacement, times `scale`.
  template <class Index>
  __device__ void take(const Sums& sums, float weight, const Located<Index>& cell, const Volume<float, Index>& gradient,
                       float scale, std::int64_t n, int z, int y, int x) {
    value[0] += double(weight);
    value[1] += double(weight) * double(sums.squared);
    if constexpr (kind != Gradient::none) {
      for (int k = 0; k < 3; ++k) {
        const float slope = sums.slope[k] * (cell.slope[k] * weight);
        if constexpr (kind == Gradient::field) {
          *gradient.at(n, k, z, y, x) = slope * scale;
        } else {
          const double g = slope;
          value[2 + 4 * k] += g * z;
          value[3 + 4 * k] += g * y;
          value[4 + 4 * k] += g * x;
          value[5 + 4 * k] += g;
        }
      }
    }
  }

  /// Leaves the block's sums in `partials`. All threads of the block must call it.
  __device__ void leave(double* partials) {
    block_sum(value);
    if (thread_index() == 0) {
      for (int i = 0; i < count; ++i) partials[std::int64_t(blockIdx.x) * count + i] = value[i];
    }
  }
};

/// Any strides: a thread a voxel. `scales` holds 2 / (C total weight) of each item for Gradient::field.
template <Gradient kind, class T, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    compare_voxels(Voxels<Index> voxels, Volume<const T, Index> fixed, Volume<const T, Index> moving,
                   Volume<float, Index> gradient, const float* scales, int channels, Tiles tiles, double* partials) {
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item;
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  const float scale = kind == Gradient::field ? scales[n] : 0.0f;
  Totals<kind> totals;
  if (y < tiles.size[1] && x < tiles.size[2]) {
    for (int z = tile.z; z < tiles.end(tile); ++z) {
      Located<Index> cell;
      const float weight = voxels.find(n, z, y, x, cell);
      Sums sums;
      for (int c = 0; c < channels && weight != 0.0f; ++c) {
        float corner[1][8];
        read_corners(moving.at(n, c, 0, 0, 0) + cell.offset, voxels.sampling, cell.corners, corner);
        sums.add(corner[0], to_float(*fixed.at(n, c, z, y, x)), cell);
      }
      totals.take(sums, weight, cell, gradient, scale, n, z, y, x);
    }
  }
  totals.leave(partials);
}

/// Adjacent channels, `width` of them a lane: a warp a row of 32 voxels, see sampling.h.
template <Gradient kind, int width, class T, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    compare_channels(Voxels<Index> voxels, Volume<const T, Index> fixed, Volume<const T, Index> moving,
                     Volume<float, Index> gradient, const float* scales, int channels, Groups groups, Tiles tiles,
                     double* partials) {
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item;
  const int y = tile.y + int(threadIdx.y), lane = int(threadIdx.x);
  const int inside = tiles.size[2] - tile.x < block_width ? tiles.size[2] - tile.x : block_width;
  const int count = y < tiles.size[1] ? inside : 0;
  const T* const source = moving.at(n, 0, 0, 0, 0);
  const float scale = kind == Gradient::field ? scales[n] : 0.0f;
  Totals<kind> totals;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    Located<Index> mine;
    const float weight = lane < count ? voxels.find(n, z, y, tile.x + lane, mine) : 0.0f;
    Sums owned;
    for (int first = 0; first < count; first += groups.voxels()) {
      const int voxel = first + groups.voxel(lane);
      const Located<Index> cell = located_by(mine, voxel);
      const bool counts = __shfl_sync(all_lanes, weight, voxel) != 0.0f;
      Sums sums;
      if (counts) {
        const T* const here = fixed.at(n, 0, z, y, tile.x + voxel);
        for (int c = groups.part(lane) * width; c < channels; c += groups.size() * width) {
          float corner[width][8], value[width];
          load(here + c, value);
          read_corners(source + cell.offset + c, voxels.sampling, cell.corners, corner);
          for (int i = 0; i < width; ++i) sums.add(corner[i], value[i], cell);
        }
      }
      give_to_owner(sums.squared, groups, first, owned.squared);
      if constexpr (kind != Gradient::none) {
        for (int k = 0; k < 3; ++k) give_to_owner(sums.slope[k], groups, first, owned.slope[k]);
      }
    }
    if (lane < count) totals.take(owned, weight, mine, gradient, scale, n, z, y, tile.x + lane);
  }
  totals.leave(partials);
}

/// Sums of the weights alone.
template <class Index>
__global__ void __launch_bounds__(block_threads) weigh(Voxels<Index> voxels, Tiles tiles, double* partials) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  double total[1] = {};
  if (y < tiles.size[1] && x < tiles.size[2]) {
    for (int z = tile.z; z < tiles.end(tile); ++z) {
      Located<Index> cell;
      total[0] += double(voxels.find(tile.item, z, y, x, cell));
    }
  }
  block_sum(total);
  if (thread_index() == 0) partials[blockIdx.x] = total[0];
}

/// What the gradient is multiplied with; 0 where no voxel is valid.
__device__ double gradient_scale(double total_weight, int channels) {
  return total_weight == 0.0 ? 0.0 : 2.0 / (channels * total_weight);
}

/// A block for each batch item: its scale, from partial sums of the weights or, without them, from their known sum.
__global__ void __launch_bounds__(block_threads)
    find_scales(const double* partials, std::int64_t blocks, double known, int channels, float* scales) {
  double total[1] = {known};
  if (partials) sum_partials(partials + blockIdx.x * blocks, blocks, total);
  if (thread_index() == 0) scales[blockIdx.x] = float(gradient_scale(total[0], channels));
}

struct Results {
  double *value, *total_weight, *gradient;
  std::int64_t value_stride, total_weight_stride, gradient_stride[3];
};

/// A block for each batch item.
template <Gradient kind>
__global__ void __launch_bounds__(block_threads)
    finish(const double* partials, std::int64_t blocks, int channels, Results results) {
  constexpr int count = Totals<kind>::count;
  const std::int64_t n = blockIdx.x;
  double total[count];
  sum_partials(partials + n * blocks * count, blocks, total);
  if (thread_index() != 0) return;
  results.value[n * results.value_stride] = total[1] / (channels * total[0]);  // 0 / 0 is NaN
  if (results.total_weight) results.total_weight[n * results.total_weight_stride] = total[0];
  if constexpr (kind == Gradient::matrix) {
    const double scale = gradient_scale(total[0], channels);
    for (int i = 0; i < 12; ++i) {
      double* const entry = results.gradient + n * results.gradient_stride[0] + i / 4 * results.gradient_stride[1] +
                            i % 4 * results.gradient_stride[2];
      *entry = total[0] == 0.0 ? 0.0 : total[2 + i] * scale;
    }
  }
}

template <Gradient kind, class T, class Index>
void run(const Call& call, const WarpSsd& in, const View& gradient, const Results& results) {
  const View& fixed = in.fixed;
  const int channels = int(fixed.channels());
  const Tiles tiles(fixed, planes, fixed.batch());
  const auto moving = volume<const T, Index>(in.moving);
  const Voxels<Index> voxels{{Matrices(in.matrix), volume<const float, Index>(in.displacement)},
                             {moving, Padding::border, Interpolation::linear},
                             volume<const float, Index>(in.weights),
                             volume<const void, Index>(in.moving_mask),
                             in.moving_mask.dtype == DType::float32,
                             in.exclude_outside};
  double* partials = call.scratch<double>(Totals<kind>::count * tiles.count);
  float* scales = nullptr;
  if (kind == Gradient::field) {
    scales = call.scratch<float>(fixed.batch());
    const bool known = !in.exclude_outside && !in.weights && !in.moving_mask;
    if (!known) call.launch(weigh<Index>, tiles.count, 0, voxels, tiles, partials);
    call.launch(find_scales, fixed.batch(), 0, known ? nullptr : partials, tiles.per_item, double(fixed.voxels()),
                channels, scales);
  }
  const auto target = volume<float, Index>(kind == Gradient::field ? gradient : View{});
  const auto both = [&](int width) {
    return channels > 1 && adjacent_channels(fixed, width) && adjacent_channels(in.moving, width);
  };
  if (both(adjacent)) {
    call.launch(compare_channels<kind, adjacent, T, Index>, tiles.count, 0, voxels, volume<const T, Index>(fixed),
                moving, target, scales, channels, Groups::of(channels / adjacent, 8), tiles, partials);
  } else if (both(1)) {
    call.launch(compare_channels<kind, 1, T, Index>, tiles.count, 0, voxels, volume<const T, Index>(fixed), moving,
                target, scales, channels, Groups::of(channels, 8), tiles, partials);
  } else {
    call.launch(compare_voxels<kind, T, Index>, tiles.count, 0, voxels, volume<const T, Index>(fixed), moving, target,
                scales, channels, tiles, partials);
  }
  call.launch(finish<kind>, fixed.batch(), 0, partials, tiles.per_item, channels, results);
}

}  // namespace

void warp_ssd(const WarpSsd& in, const View& value, const View& total_weight, const View& gradient,
              const Execution& execution) {
  const Call call("warp_ssd", in.fixed, execution);
  call.check_axes(in.moving);
  const auto doubles = [](const View& view) { return static_cast<double*>(view.data); };
  const bool to_matrix = gradient && gradient.dtype == DType::float64;
  const Results results{doubles(value), doubles(total_weight), to_matrix ? doubles(gradient) : nullptr, value.stride[0],
                        total_weight.stride[0], {gradient.stride[0], gradient.stride[3], gradient.stride[4]}};
  with_type(in.fixed.dtype, [&](auto element) {
    with_index({&in.fixed, &in.moving, &in.displacement, &in.weights, &in.moving_mask, &gradient}, [&](auto index) {
      using T = decltype(element);
      using Index = decltype(index);
      if (to_matrix) return run<Gradient::matrix, T, Index>(call, in, gradient, results);
      if (gradient) return run<Gradient::field, T, Index>(call, in, gradient, results);
      run<Gradient::none, T, Index>(call, in, gradient, results);
    });
  });
}

}  // namespace masr::cuda
