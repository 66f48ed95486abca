// Warp, squared difference and gradient in one pass over the feature volumes.
//
// Bound by the latency of eight corners a voxel: the next `lanes` voxels are located, and their corners prefetched,
// while the current ones are computed. Channels-last volumes take SIMD over the channels of a voxel, all others SIMD
// over the voxels of a row.
#include "cpu/warp_ssd.h"

#include "cpu/sample.h"

namespace masr::MASR_ISA {
namespace {

/// `lanes` neighbouring voxels of a row.
struct Block {
  Cells cells;
  float weight[lanes];  ///< 0 where a voxel is not valid or lies beyond the row
  bool any;             ///< some weight is not 0
};

/// Sums over the channels of each voxel of a block.
struct Sums {
  vec squared{};      ///< of (moving - fixed)^2
  vec z{}, y{}, x{};  ///< of (moving - fixed) d moving / d position
};

/// Adds some channels of one voxel, or one channel of `lanes` voxels.
template <class Piece, class V>
__attribute__((always_inline)) inline void add(Piece piece, const V (&corner)[8], V fixed, V fz, V fy, V fx, Sums& sums) {
  const ValueAndSlopes<V> moving = interpolate_with_slopes(corner, fz, fy, fx);
  const V residual = moving.value - fixed;
  sums.squared += piece.extend(residual * residual);
  sums.z += piece.extend(residual * moving.z);
  sums.y += piece.extend(residual * moving.y);
  sums.x += piece.extend(residual * moving.x);
}

/// A number of channels known to the compiler, for unrolled code.
template <int N>
struct Channels {
  constexpr operator std::int64_t() const { return N; }
};

/// Brings adjacent channels into the cache; any address will do. Asking again for what the voxel before asked for, the
/// lower corners along x, pays: without it the whole pass takes a tenth longer.
template <class T>
void prefetch_channels(const T* p, std::int64_t channels) {
  const char* first = reinterpret_cast<const char*>(p);
  const std::int64_t bytes = channels * std::int64_t(sizeof(T));
  for (std::int64_t line = 0; line < bytes; line += 64) prefetch(first + line);
  prefetch(first + bytes - 1);
}

/// Channels-last. `fixed` points at the block's first voxel, `moving` at the first voxel of the volume; `dx` is the step
/// between the corners along x.
template <bool with_gradient, class T, class Count>
Sums compare_voxels(const Block& block, const Block& next, const T* fixed, const T* moving, const Grid& grid,
                    Count channels, Count dx) {
  const std::int64_t dz = grid.step[0], dy = grid.step[1];
  quad totals[lanes] = {};  // voxel v at [v % 4][v / 4]: what transpose4() takes
  for (int v = 0; v < lanes; ++v) {
    prefetch_channels(fixed + (v + 2 * lanes) * channels, channels);
    const T* ahead = moving + next.cells.offset[v];
    prefetch_channels(ahead, channels + dx);
    prefetch_channels(ahead + dy, channels + dx);
    prefetch_channels(ahead + dz, channels + dx);
    prefetch_channels(ahead + dz + dy, channels + dx);
    if (block.weight[v] == 0.0f) continue;

    const T* row[4] = {moving + block.cells.offset[v]};
    row[1] = row[0] + dy, row[2] = row[0] + dz, row[3] = row[2] + dy;
    const T* f = fixed + v * channels;
    Sums total;
    for_channels(channels, [&](auto piece, std::int64_t c) __attribute__((always_inline)) {
      typename decltype(piece)::Vec corner[8];
      for (int i = 0; i < 4; ++i) {
        corner[2 * i] = piece.load(row[i] + c);
        corner[2 * i + 1] = piece.load(row[i] + c + dx);
      }
      add(piece, corner, piece.load(f + c), piece.splat(block.cells.fraction[0][v]),
          piece.splat(block.cells.fraction[1][v]), piece.splat(block.cells.fraction[2][v]), total);
    });
    if (!with_gradient) total.z = total.y = total.x = vec{};
    totals[v % 4 * (lanes / 4) + v / 4] = sum4(total.squared, total.z, total.y, total.x);
  }
  vec rows[4];
  std::memcpy(rows, totals, sizeof(rows));
  transpose4(rows);
  return {rows[0], rows[1], rows[2], rows[3]};
}

template <bool with_gradient, class T>
Sums compare_voxels(const Block& block, const Block& next, const T* fixed, const T* moving, const Grid& grid,
                    std::int64_t channels) {
  const auto run = [&](auto count, auto dx) {
    return compare_voxels<with_gradient>(block, next, fixed, moving, grid, count, dx);
  };
  if (grid.step[2] == channels) {  // the usual descriptors
    if (channels == 12) return run(Channels<12>{}, Channels<12>{});
    if (channels == 16) return run(Channels<16>{}, Channels<16>{});
    if (channels == 24) return run(Channels<24>{}, Channels<24>{});
  }
  return run(channels, grid.step[2]);
}

/// Any strides: `count` voxels, `fixed_step` elements apart, of a row.
template <bool with_gradient, class T>
Sums compare_rows(const Block& block, int count, const T* fixed, std::int64_t fixed_step, std::int64_t fixed_channel,
                  const T* moving, std::int64_t moving_channel, const Grid& grid, std::int64_t channels) {
  const std::int64_t dz = grid.step[0], dy = grid.step[1], dx = grid.step[2];
  const vec fz = load(block.cells.fraction[0]), fy = load(block.cells.fraction[1]), fx = load(block.cells.fraction[2]);
  Sums total;
  for (std::int64_t c = 0; c < channels; ++c) {
    const T* p = moving + c * moving_channel;
    const auto at = [&](std::int64_t step) { return gather(p + step, block.cells.offset); };
    const vec corner[8] = {at(0), at(dx), at(dy), at(dy + dx), at(dz), at(dz + dx), at(dz + dy), at(dz + dy + dx)};
    add(Piece<lanes>{}, corner, load_row(fixed + c * fixed_channel, fixed_step, count), fz, fy, fx, total);
  }
  const ivec keep = load(block.weight) != 0.0f;  // 0 * NaN where a value is NaN
  const auto kept = [keep](vec v) { return (vec)((ivec)v & keep); };
  if (!with_gradient) return {kept(total.squared)};
  return {kept(total.squared), kept(total.z), kept(total.y), kept(total.x)};
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

double sum(const double (&values)[lanes]) {
  double total = 0;
  for (int v = 0; v < lanes; ++v) total += values[v];
  return total;
}

/// Running sums of a task, lane by lane.
struct Totals {
  double weight[lanes] = {}, squared[lanes] = {};
  double row[3][lanes] = {}, row_x[3][lanes] = {};  ///< of the gradient along a row, and of it times x

  void add(const Block& block, vec squares) {
    for (int v = 0; v < lanes; ++v) {
      weight[v] += double(block.weight[v]);
      squared[v] += double(block.weight[v]) * double(squares[v]);
    }
  }
  void add_to_row(const vec (&gradient)[3], std::int64_t x) {
    for (int k = 0; k < 3; ++k) {
      for (int v = 0; v < lanes; ++v) {
        row[k][v] += double(gradient[k][v]);
        row_x[k][v] += double(gradient[k][v]) * double(std::int32_t(x) + v);
      }
    }
  }
  void end_row(std::int64_t z, std::int64_t y, double (&matrix)[3][4]) {
    for (int k = 0; k < 3; ++k) {
      const double g = sum(row[k]);
      matrix[k][0] += g * double(z);
      matrix[k][1] += g * double(y);
      matrix[k][2] += sum(row_x[k]);
      matrix[k][3] += g;
    }
    std::memset(row, 0, sizeof(row));
    std::memset(row_x, 0, sizeof(row_x));
  }
};

/// A task's rows one after the other, block by block.
struct Place {
  std::int64_t z, y, x;
};

template <bool with_gradient, class T>
WarpSsdSums run(const WarpSsd& input, std::int64_t n, std::int64_t z0, std::int64_t y0, const View& gradient,
                float scale) {
  const View& fixed = input.fixed;
  const View& moving = input.moving;
  const std::int64_t z1 = z0 + warp_ssd_task_planes < fixed.depth() ? z0 + warp_ssd_task_planes : fixed.depth();
  const std::int64_t y1 = y0 + warp_ssd_task_rows < fixed.height() ? y0 + warp_ssd_task_rows : fixed.height();
  const bool channels_last = fixed.channels() > 1 && fixed.channels_last() && moving.channels_last();
  const T* source = moving.at<T>(n, 0, 0, 0, 0);

  Locator locator(input, n);
  Totals totals;
  WarpSsdSums result;
  Block blocks[2] = {};
  int current = 0;
  locator.start_row(z0, y0);
  locator.find(0, blocks[0]);
  for (Place here{z0, y0, 0}, next; here.z < z1; here = next, current ^= 1) {
    next = {here.z, here.y, here.x + lanes};
    const bool end_of_row = next.x >= fixed.width();
    if (end_of_row) {
      next = here.y + 1 < y1 ? Place{here.z, here.y + 1, 0} : Place{here.z + 1, y0, 0};
      if (next.z < z1) locator.start_row(next.z, next.y);
    }
    const Block& block = blocks[current];
    Block& ahead = blocks[current ^ 1];
    if (next.z < z1) locator.find(next.x, ahead);
    Sums sums;
    if (block.any) {
      const T* f = fixed.at<T>(n, 0, here.z, here.y, here.x);
      const int count = at_most(fixed.width() - here.x, lanes);
      sums = channels_last ? compare_voxels<with_gradient>(block, ahead, f, source, locator.grid(), fixed.channels())
                           : compare_rows<with_gradient>(block, count, f, fixed.stride[4], fixed.stride[1], source,
                                                         moving.stride[1], locator.grid(), fixed.channels());
      totals.add(block, sums.squared);
    }
    if (!with_gradient) continue;
    vec slope[3] = {sums.z, sums.y, sums.x};
    for (int k = 0; k < 3; ++k) slope[k] *= load(block.cells.slope[k]) * load(block.weight);
    if (gradient) {
      for (int k = 0; k < 3; ++k) {
        store_row(gradient.at<float>(n, k, here.z, here.y, here.x), gradient.stride[4],
                  at_most(fixed.width() - here.x, lanes), slope[k] * scale);
      }
    } else {
      totals.add_to_row(slope, here.x);
      if (end_of_row) totals.end_row(here.z, here.y, result.matrix);
    }
  }
  result.weight = sum(totals.weight);
  result.squared = sum(totals.squared);
  return result;
}

}  // namespace

WarpSsdSums warp_ssd_task(const WarpSsd& input, std::int64_t n, std::int64_t z0, std::int64_t y0, const View& gradient,
                          float scale, bool matrix_gradient) {
  WarpSsdSums sums;
  with_type(input.fixed.dtype, [&](auto element) {
    using T = decltype(element);
    sums = gradient || matrix_gradient ? run<true, T>(input, n, z0, y0, gradient, scale)
                                       : run<false, T>(input, n, z0, y0, gradient, scale);
  });
  return sums;
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
