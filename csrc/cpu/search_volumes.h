// The volumes of a displacement search as it reads them, and the mean cost of every cell.
#pragma once

#include "cpu/convert.h"
#include "cpu/scratch.h"
#include "cpu/search.h"
#include "math/search.h"

namespace masr::MASR_ISA {

using Index = std::int64_t;

static inline Index blocks(Index size, Index block) { return (size + block - 1) / block; }

/// Float32 copies of one batch item with rows as the search reads them: channel after channel, and last how much the
/// cells count. Fixed rows are filled up with zeros to whole vectors; moving rows have `before` zeros in front and as
/// many behind. Cells that are not finite are 0 and don't count.
class Volumes {
 public:
  Volumes(const DisplacementSearch& in, Index n, const SearchWindow& window)
      : depth(in.fixed.depth()), height(in.fixed.height()), width(in.fixed.width()), channels(in.fixed.channels()),
        before(window.rx), fixed_pitch(blocks(width, lanes) * lanes), moving_pitch(fixed_pitch + 2 * before),
        fixed_(depth * height * (channels + 1) * fixed_pitch), moving_(depth * height * (channels + 1) * moving_pitch),
        levels_(2 * depth * height * fixed_pitch) {
    const Scratch lost(depth);
    parallel_for(depth, [&](Index z) {
      bool all = true;
      for (Index y = 0; y < height; ++y) {
        all &= copy(in.fixed, in.weights, false, n, z, y, fixed_.data() + row(z, y) * fixed_pitch, fixed_pitch, 0);
        all &= copy(in.moving, in.moving_mask, true, n, z, y, moving_.data() + row(z, y) * moving_pitch, moving_pitch,
                    before);
      }
      lost.data()[z] = all ? 0.0f : 1.0f;
    });
    for (Index z = 0; z < depth; ++z) all_finite = all_finite && lost.data()[z] == 0.0f;
    find_levels(window);
  }

  const float* fixed(Index z, Index y) const { return fixed_.data() + row(z, y) * fixed_pitch; }
  /// Where the partner of cell 0 lies for dx = 0.
  const float* moving(Index z, Index y) const { return moving_.data() + row(z, y) * moving_pitch + before; }

  /// Mean cost of a cell over its displacements, and 1 / the sum of the weights around it; see DisplacementSearch.
  const float* level(Index z, Index y) const { return levels_.data() + 2 * (z * height + y) * fixed_pitch; }
  const float* inverse_count(Index z, Index y) const { return level(z, y) + fixed_pitch; }

  const Index depth, height, width, channels, before, fixed_pitch, moving_pitch;
  bool all_finite = true;

 private:
  Index row(Index z, Index y) const { return (z * height + y) * (channels + 1); }

  /// False where a feature is not finite.
  bool copy(const View& view, const View& counts, bool binary, Index n, Index z, Index y, float* to, Index pitch,
            Index first) const {
    float* const count = to + channels * pitch + first;
    for (Index c = 0; c <= channels; ++c) {
      std::memset(to + c * pitch, 0, first * sizeof(float));
      std::memset(to + c * pitch + first + width, 0, (pitch - first - width) * sizeof(float));
    }
    for (Index x = 0; x < width; ++x) count[x] = 1.0f;
    if (counts && counts.dtype == DType::uint8) {
      const std::uint8_t* p = counts.at<std::uint8_t>(n, 0, z, y, 0);
      for (Index x = 0; x < width; ++x) count[x] = p[x * counts.stride[4]] != 0 ? 1.0f : 0.0f;
    } else if (counts) {
      const float* p = counts.at<float>(n, 0, z, y, 0);
      for (Index x = 0; x < width; ++x) {
        const float value = p[x * counts.stride[4]];
        count[x] = binary ? (value > 0.5f ? 1.0f : 0.0f) : (value > 0.0f ? value : 0.0f);
      }
    }
    bool all = true;
    for (Index c = 0; c < channels; ++c) {
      float* const target = to + c * pitch + first;
      const Index bytes = item_size_of(view.dtype);
      widen(target, static_cast<const char*>(view.data) + bytes * offset(view, n, c, z, y), view.dtype, width,
            view.stride[4]);
      for (Index x = 0; x < width; ++x) all &= target[x] - target[x] == 0.0f;
    }
    if (!all) forget(to + first, count, pitch);
    return all;
  }

  void forget(float* features, float* count, Index pitch) const {
    for (Index x = 0; x < width; ++x) {
      bool finite = true;
      for (Index c = 0; c < channels; ++c) finite &= features[c * pitch + x] - features[c * pitch + x] == 0.0f;
      if (finite) continue;
      count[x] = 0.0f;
      for (Index c = 0; c < channels; ++c) features[c * pitch + x] = 0.0f;
    }
  }

  /// The mean of |f - m|^2 over the valid m of the window follows from the sums of 1, of m and of |m|^2 over it, which
  /// are taken axis by axis.
  void find_levels(const SearchWindow& window) {
    const Index length = (channels + 2) * fixed_pitch, plane = height * length;
    const Scratch in_plane(depth * plane), own(2 * depth * height * fixed_pitch);
    parallel_for(depth, [&](Index z) {
      const Scratch along_x(plane);
      for (Index y = 0; y < height; ++y) add_along_x(moving(z, y) - before, along_x.data() + y * length);
      for (Index y = 0; y < height; ++y) {
        add_rows(along_x.data(), length, y, window.ry, height, length, in_plane.data() + z * plane + y * length);
      }
    });
    parallel_for(depth, [&](Index z) {
      const Scratch sums(length);
      for (Index y = 0; y < height; ++y) {
        add_rows(in_plane.data() + y * length, plane, z, window.rz, depth, length, sums.data());
        mean_costs(fixed(z, y), sums.data(), own.data() + 2 * (z * height + y) * fixed_pitch);
      }
    });
    parallel_for(depth, [&](Index z) {
      for (Index y = 0; y < height; ++y) average(own.data(), z, y, levels_.data() + 2 * (z * height + y) * fixed_pitch);
    });
  }

  /// Sums over the window along x of m f_c, m |f|^2 and m, one row each, of a padded row of channels f and counts m.
  void add_along_x(const float* row, float* to) const {
    const float* const counts = row + channels * moving_pitch;
    for (Index x = 0; x < fixed_pitch; x += lanes) {
      vec squares{}, count{};
      for (Index c = 0; c < channels; ++c) {
        vec total{};
        for (Index s = 0; s <= 2 * before; ++s) {
          const vec value = load(row + c * moving_pitch + x + s), counted = value * load(counts + x + s);
          total += counted;
          squares += value * counted;
        }
        store(to + c * fixed_pitch + x, total);
      }
      for (Index s = 0; s <= 2 * before; ++s) count += load(counts + x + s);
      store(to + channels * fixed_pitch + x, squares);
      store(to + (channels + 1) * fixed_pitch + x, count);
    }
  }

  /// to = the sum of rows i - radius .. i + radius of `length` floats, as far as there are such.
  static void add_rows(const float* from, Index step, Index i, Index radius, Index count, Index length, float* to) {
    std::memset(to, 0, length * sizeof(float));
    for (Index k = i - radius; k <= i + radius; ++k) {
      if (k < 0 || k >= count) continue;
      for (Index x = 0; x < length; x += lanes) store(to + x, load(to + x) + load(from + k * step + x));
    }
  }

  /// From one row of fixed cells and the sums over their windows: weight times mean cost, and the weight of those cells
  /// that have a valid partner at all.
  void mean_costs(const float* cells, const float* sums, float* to) const {
    for (Index x = 0; x < fixed_pitch; x += lanes) {
      const vec count = load(sums + (channels + 1) * fixed_pitch + x);
      vec own{}, product{};
      for (Index c = 0; c < channels; ++c) {
        const vec f = load(cells + c * fixed_pitch + x);
        own += f * f;
        product += f * load(sums + c * fixed_pitch + x);
      }
      const vec squares = load(sums + channels * fixed_pitch + x);
      const vec weight = count > 0.0f ? load(cells + channels * fixed_pitch + x) : vec{};
      const vec mean = maximum(mean_difference(own, product, squares, count, float(channels)), vec{});
      store(to + x, weight > 0.0f ? weight * mean : vec{});
      store(to + fixed_pitch + x, weight);
    }
  }

  /// Over the 3 x 3 x 3 cells around row (z, y) of mean_costs(): the weighted mean cost, 0 where nothing counts, and 1
  /// / the sum of the weights.
  void average(const float* own, Index z, Index y, float* to) const {
    const Scratch memory(2 * (fixed_pitch + 2 * lanes));
    float* const rows[2] = {memory.data() + lanes, memory.data() + fixed_pitch + 3 * lanes};
    for (int k = 0; k < 2; ++k) {
      std::memset(rows[k] - lanes, 0, (fixed_pitch + 2 * lanes) * sizeof(float));
      for (Index j = z - 1; j <= z + 1; ++j) {
        for (Index i = y - 1; i <= y + 1; ++i) {
          if (j < 0 || j >= depth || i < 0 || i >= height) continue;
          const float* const row = own + (2 * (j * height + i) + k) * fixed_pitch;
          for (Index x = 0; x < fixed_pitch; x += lanes) store(rows[k] + x, load(rows[k] + x) + load(row + x));
        }
      }
    }
    for (Index x = 0; x < fixed_pitch; x += lanes) {
      vec total[2];
      for (int k = 0; k < 2; ++k) total[k] = load(rows[k] + x - 1) + load(rows[k] + x) + load(rows[k] + x + 1);
      const vec inverse = 1.0f / total[1];
      store(to + x, total[1] > 0.0f ? total[0] * inverse : vec{});
      store(to + fixed_pitch + x, total[1] > 0.0f ? inverse : vec{});
    }
  }

  static Index item_size_of(DType type) { return type == DType::float32 ? 4 : 2; }
  static Index offset(const View& view, Index n, Index c, Index z, Index y) {
    return n * view.stride[0] + c * view.stride[1] + z * view.stride[2] + y * view.stride[3];
  }

  Scratch fixed_, moving_, levels_;
};

}  // namespace masr::MASR_ISA
