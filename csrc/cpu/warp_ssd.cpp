// Warp, squared difference and gradient in one pass over the feature volumes.
//
// Bound by the latency of eight corners a voxel: the next `lanes` voxels are located, and their corners prefetched,
// while the current ones are computed. Channels-last volumes take SIMD over the channels of a voxel, all others SIMD
// over the voxels of a row.
#include "cpu/warp_ssd.h"

#include "cpu/locate.h"
#include "cpu/voxel_vectors.h"

namespace masr::MASR_ISA {
namespace {

/// `lanes` neighbouring voxels of a row.
struct Block {
  Cells cells;
  float weight[lanes];  ///< 0 where a voxel is not valid or lies beyond the row
  bool any;             ///< some weight is not 0
};

/// Sums over the channels of each voxel of a block; 0 where the weight is 0.
struct Sums {
  float squared[lanes];      ///< of (moving - fixed)^2
  float gradient[3][lanes];  ///< of (moving - fixed) d moving / d position
};

struct Accumulators {
  vec squared{}, z{}, y{}, x{};

  /// `corner`: 0 is the lower (z, y, x), 1 the upper x, 2 the upper y, 4 the upper z; `keep` has all bits set in the
  /// lanes that count.
  void add(const vec (&corner)[8], vec fixed, vec fz, vec fy, vec fx, ivec keep) {
    const vec x00 = corner[1] - corner[0], x01 = corner[3] - corner[2];
    const vec x10 = corner[5] - corner[4], x11 = corner[7] - corner[6];
    const vec f00 = corner[0] + x00 * fx, f01 = corner[2] + x01 * fx;
    const vec f10 = corner[4] + x10 * fx, f11 = corner[6] + x11 * fx;
    const vec y0 = f01 - f00, y1 = f11 - f10;
    const vec f0 = f00 + y0 * fy, f1 = f10 + y1 * fy;
    const vec x0 = x00 + (x01 - x00) * fy, x1 = x10 + (x11 - x10) * fy;
    const vec dz = f1 - f0, dy = y0 + (y1 - y0) * fz, dx = x0 + (x1 - x0) * fz;
    const vec residual = (vec)((ivec)(f0 + dz * fz - fixed) & keep);
    squared += residual * residual;
    z += residual * dz;
    y += residual * dy;
    x += residual * dx;
  }
};

/// A number of channels known to the compiler, for unrolled code.
template <int N>
struct Channels {
  constexpr operator std::int64_t() const { return N; }
};

/// Channels-last. `fixed` points at the block's first voxel, `moving` at the first voxel of the volume; `dx` is the step
/// between the corners along x.
template <class T, class Count>
void compare_voxels(const Block& block, const Block& next, const T* fixed, const T* moving, const Grid& grid,
                    Count channels, Count dx, Sums& sums) {
  const LastVector last(channels);
  const std::int64_t dz = grid.step[0], dy = grid.step[1], whole = (channels - 1) / lanes;
  alignas(16) float totals[lanes][4] = {};
  for (int v = 0; v < lanes; ++v) {
    prefetch_channels(fixed + (v + 2 * lanes) * channels, channels);
    const T* ahead = moving + next.cells.offset[v];
    prefetch_channels(ahead, channels + dx);
    prefetch_channels(ahead + dy, channels + dx);
    prefetch_channels(ahead + dz, channels + dx);
    prefetch_channels(ahead + dz + dy, channels + dx);
    if (block.weight[v] == 0.0f) continue;

    const vec fz = splat(block.cells.fraction[0][v]), fy = splat(block.cells.fraction[1][v]),
              fx = splat(block.cells.fraction[2][v]);
    const T* row[4] = {moving + block.cells.offset[v]};
    row[1] = row[0] + dy, row[2] = row[0] + dz, row[3] = row[2] + dy;
    const T* f = fixed + v * channels;
    Accumulators total;
    const auto add = [&](std::int64_t c, ivec keep, auto&& load_at) __attribute__((always_inline)) {
      vec corner[8];
      for (int i = 0; i < 4; ++i) {
        corner[2 * i] = load_at(row[i] + c);
        corner[2 * i + 1] = load_at(row[i] + c + dx);
      }
      total.add(corner, load_at(f + c), fz, fy, fx, keep);
    };
    for (std::int64_t i = 0; i < whole; ++i) add(i * lanes, ~ivec{}, [](const T* p) { return load_channels(p); });
    add(last.offset(), last.keep(), [&](const T* p) { return last.load(p); });
    sum4(totals[v], total.squared, total.z, total.y, total.x);
  }
  for (int v = 0; v < lanes; ++v) {
    sums.squared[v] = totals[v][0];
    for (int k = 0; k < 3; ++k) sums.gradient[k][v] = totals[v][1 + k];
  }
}

template <class T>
void compare_voxels(const Block& block, const Block& next, const T* fixed, const T* moving, const Grid& grid,
                    std::int64_t channels, Sums& sums) {
  const auto run = [&](auto count, auto dx) { compare_voxels(block, next, fixed, moving, grid, count, dx, sums); };
  if (grid.step[2] == channels) {  // the usual descriptors
    if (channels == 12) return run(Channels<12>{}, Channels<12>{});
    if (channels == 16) return run(Channels<16>{}, Channels<16>{});
    if (channels == 24) return run(Channels<24>{}, Channels<24>{});
  }
  run(channels, grid.step[2]);
}

/// Values at `p` + each offset; every offset lies in the volume.
template <class T>
vec gather(const T* p, const std::int64_t (&offset)[lanes]) {
  vec values;
  for (int v = 0; v < lanes; ++v) values[v] = to_float(p[offset[v]]);
  return values;
}

/// Any strides: `count` voxels, `fixed_step` elements apart, of a row.
template <class T>
void compare_rows(const Block& block, int count, const T* fixed, std::int64_t fixed_step, std::int64_t fixed_channel,
                  const T* moving, std::int64_t moving_channel, const Grid& grid, std::int64_t channels, Sums& sums) {
  const std::int64_t dz = grid.step[0], dy = grid.step[1], dx = grid.step[2];
  const vec fz = load(block.cells.fraction[0]), fy = load(block.cells.fraction[1]), fx = load(block.cells.fraction[2]);
  const ivec keep = load(block.weight) != 0.0f;
  Accumulators total;
  for (std::int64_t c = 0; c < channels; ++c) {
    const T* f = fixed + c * fixed_channel;
    vec values{};
    if (count == lanes && fixed_step == 1) {
      values = load_channels(f);
    } else {
      for (int v = 0; v < count; ++v) values[v] = to_float(f[v * fixed_step]);
    }
    const T* p = moving + c * moving_channel;
    const auto at = [&](std::int64_t step) { return gather(p + step, block.cells.offset); };
    const vec corner[8] = {at(0), at(dx), at(dy), at(dy + dx), at(dz), at(dz + dx), at(dz + dy), at(dz + dy + dx)};
    total.add(corner, values, fz, fy, fx, keep);
  }
  const auto kept = [keep](vec v) { return (vec)((ivec)v & keep); };  // 0 * NaN where the gradient of moving is NaN
  store(sums.squared, total.squared);
  store(sums.gradient[0], kept(total.z));
  store(sums.gradient[1], kept(total.y));
  store(sums.gradient[2], kept(total.x));
}

/// Where the voxels from (z, y, x) on fall in `moving`, and what they count.
class Locator {
 public:
  Locator(const WarpSsd& input, std::int64_t n)
      : input_(input), n_(n), grid_(grid_of(input.moving)), mask_grid_(grid_of(input.moving_mask)) {
    for (int i = 0; i < 12 && input.matrix; ++i) matrix_[i] = *input.matrix.at<double>(n, 0, 0, i / 4, i % 4);
  }

  const Grid& grid() const { return grid_; }

  void start_row(std::int64_t z, std::int64_t y) {
    row_ = position_row(input_.matrix ? matrix_ : nullptr, input_.displacement, n_, z, y);
    weights_ = input_.weights ? input_.weights.at<float>(n_, 0, z, y, 0) : nullptr;
  }

  void find(std::int64_t x, Block& block) const {
    const std::int64_t left = input_.fixed.width() - x;
    const int count = left < lanes ? (left > 0 ? int(left) : 0) : lanes;
    float position[3][lanes];
    for (int k = 0; k < 3 && row_.displacement[k]; ++k) prefetch(row_.displacement[k] + (x + 4 * lanes) * row_.stride);
    positions(row_, x, count, position);
    locate<Padding::border>(position, grid_, block.cells);
    if (input_.exclude_outside) {
      locate_inside(position, grid_, block.weight);
    } else {
      for (int v = 0; v < lanes; ++v) block.weight[v] = 1.0f;
    }
    for (int v = count; v < lanes; ++v) block.weight[v] = 0.0f;
    if (weights_) {
      for (int v = 0; v < count; ++v) {
        if (block.weight[v] != 0.0f) block.weight[v] = weights_[(x + v) * input_.weights.stride[4]];
      }
    }
    if (input_.moving_mask) apply_mask(position, block);
    std::int32_t counting = 0;
    for (int v = 0; v < lanes; ++v) counting |= block.weight[v] != 0.0f;
    block.any = counting != 0;
  }

 private:
  void apply_mask(const float (&position)[3][lanes], Block& block) const {
    std::int64_t offset[lanes];
    std::int32_t plane[lanes];
    locate_nearest<Padding::border>(position, mask_grid_, offset, plane);
    const View& mask = input_.moving_mask;
    if (mask.dtype == DType::uint8) {
      const auto* p = mask.at<std::uint8_t>(n_, 0, 0, 0, 0);
      for (int v = 0; v < lanes; ++v) block.weight[v] = p[offset[v]] != 0 ? block.weight[v] : 0.0f;
    } else {
      const auto* p = mask.at<float>(n_, 0, 0, 0, 0);
      for (int v = 0; v < lanes; ++v) block.weight[v] = p[offset[v]] > 0.5f ? block.weight[v] : 0.0f;
    }
  }

  const WarpSsd& input_;
  std::int64_t n_;
  Grid grid_, mask_grid_;
  double matrix_[12];
  PositionRow row_;
  const float* weights_ = nullptr;
};

/// Running sums of a task, lane by lane.
struct Totals {
  double weight[lanes] = {}, squared[lanes] = {};
  double row[3][lanes], row_x[3][lanes];  ///< of the gradient along a row, and of it times x

  void start_row() {
    std::memset(row, 0, sizeof(row));
    std::memset(row_x, 0, sizeof(row_x));
  }
  void add(const Block& block, const Sums& sums) {
    for (int v = 0; v < lanes; ++v) {
      weight[v] += double(block.weight[v]);
      squared[v] += double(block.weight[v]) * double(sums.squared[v]);
    }
  }
  void add_to_row(const float (&gradient)[3][lanes], std::int64_t x) {
    for (int k = 0; k < 3; ++k) {
      for (int v = 0; v < lanes; ++v) {
        row[k][v] += double(gradient[k][v]);
        row_x[k][v] += double(gradient[k][v]) * double(std::int32_t(x) + v);
      }
    }
  }
};

double sum(const double (&values)[lanes]) {
  double total = 0;
  for (int v = 0; v < lanes; ++v) total += values[v];
  return total;
}

template <class T>
WarpSsdSums run(const WarpSsd& input, std::int64_t n, std::int64_t z0, std::int64_t y0, const View& gradient,
                float scale, bool matrix_gradient) {
  const View& fixed = input.fixed;
  const View& moving = input.moving;
  const std::int64_t z1 = z0 + warp_ssd_task_planes < fixed.depth() ? z0 + warp_ssd_task_planes : fixed.depth();
  const std::int64_t y1 = y0 + warp_ssd_task_rows < fixed.height() ? y0 + warp_ssd_task_rows : fixed.height();
  const bool channels_last = fixed.channels() > 1 && fixed.channels_last() && moving.channels_last();
  const T* source = moving.at<T>(n, 0, 0, 0, 0);

  Locator locator(input, n);
  Totals totals;
  WarpSsdSums result;
  Block blocks[2];
  for (std::int64_t z = z0; z < z1; ++z) {
    for (std::int64_t y = y0; y < y1; ++y) {
      locator.start_row(z, y);
      totals.start_row();
      int current = 0;
      locator.find(0, blocks[0]);
      for (std::int64_t x = 0; x < fixed.width(); x += lanes, current ^= 1) {
        const Block& block = blocks[current];
        locator.find(x + lanes, blocks[current ^ 1]);
        const int count = fixed.width() - x < lanes ? int(fixed.width() - x) : lanes;
        Sums sums;
        if (!block.any) {
          std::memset(&sums, 0, sizeof(sums));
        } else if (channels_last) {
          compare_voxels(block, blocks[current ^ 1], fixed.at<T>(n, 0, z, y, x), source, locator.grid(),
                         fixed.channels(), sums);
        } else {
          compare_rows(block, count, fixed.at<T>(n, 0, z, y, x), fixed.stride[4], fixed.stride[1], source,
                       moving.stride[1], locator.grid(), fixed.channels(), sums);
        }
        totals.add(block, sums);
        if (!gradient && !matrix_gradient) continue;
        for (int k = 0; k < 3; ++k) {
          for (int v = 0; v < lanes; ++v) sums.gradient[k][v] *= block.cells.slope[k][v] * block.weight[v];
        }
        if (matrix_gradient) totals.add_to_row(sums.gradient, x);
        if (!gradient) continue;
        for (int k = 0; k < 3; ++k) {
          float* out = gradient.at<float>(n, k, z, y, x);
          if (count == lanes && gradient.stride[4] == 1) {
            for (int v = 0; v < lanes; ++v) out[v] = scale * sums.gradient[k][v];
          } else {
            for (int v = 0; v < count; ++v) out[v * gradient.stride[4]] = scale * sums.gradient[k][v];
          }
        }
      }
      for (int k = 0; k < 3 && matrix_gradient; ++k) {
        const double g = sum(totals.row[k]);
        result.matrix[k][0] += g * double(z);
        result.matrix[k][1] += g * double(y);
        result.matrix[k][2] += sum(totals.row_x[k]);
        result.matrix[k][3] += g;
      }
    }
  }
  result.weight = sum(totals.weight);
  result.squared = sum(totals.squared);
  return result;
}

}  // namespace

WarpSsdSums warp_ssd_task(const WarpSsd& input, std::int64_t n, std::int64_t z0, std::int64_t y0, const View& gradient,
                          float scale, bool matrix_gradient) {
  switch (input.fixed.dtype) {
    case DType::float16: return run<Float16>(input, n, z0, y0, gradient, scale, matrix_gradient);
    case DType::bfloat16: return run<BFloat16>(input, n, z0, y0, gradient, scale, matrix_gradient);
    default: return run<float>(input, n, z0, y0, gradient, scale, matrix_gradient);
  }
}

void warp_ssd_rescale(const View& gradient, std::int64_t n, std::int64_t z, float factor) {
  for (int k = 0; k < 3; ++k) {
    for (std::int64_t y = 0; y < gradient.height(); ++y) {
      float* out = gradient.at<float>(n, k, z, y, 0);
      if (gradient.stride[4] == 1) {
        for (std::int64_t x = 0; x < gradient.width(); ++x) out[x] *= factor;
      } else {
        for (std::int64_t x = 0; x < gradient.width(); ++x) out[x * gradient.stride[4]] *= factor;
      }
    }
  }
}

}  // namespace masr::MASR_ISA
