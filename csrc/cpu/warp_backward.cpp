// Backward warp. The gradient to the displacement is a gather, row by row. That to the image is a scatter; to keep it
// free of locks and its sums in one order, the image is cut into slabs of planes: the task that owns a slab walks, in
// order, the rows of the output that touch it and adds only what lands in its planes. Where both are wanted the owner of
// a cell's lower plane also writes the gradient to the displacement.
#include "cpu/sample.h"
#include "cpu/scratch.h"
#include "cpu/warp.h"

namespace masr::MASR_ISA {
namespace {

/// Planes first ... last - 1 of the gradient to the image, in float32.
struct Slab {
  float* data = nullptr;  ///< of plane `first`
  Grid grid = {};
  std::int64_t channel_stride = 0;
  std::int32_t first = 0, last = 0;

  bool owns(std::int32_t plane) const { return plane >= first && plane < last; }
};

/// What lands on the four corners of a plane, shared out along y and x.
template <class Piece, class V>
__attribute__((always_inline)) inline void scatter_plane(Piece piece, float* p, const Grid& grid, V value, V fy, V fx) {
  const V upper = value * fy, lower = value - upper;
  const V upper_right = upper * fx, lower_right = lower * fx;
  float* q = p + grid.step[1];
  piece.store(p, piece.load(p) + (lower - lower_right));
  piece.store(p + grid.step[2], piece.load(p + grid.step[2]) + lower_right);
  piece.store(q, piece.load(q) + (upper - upper_right));
  piece.store(q + grid.step[2], piece.load(q + grid.step[2]) + upper_right);
}

/// One row of the output.
template <class T, Padding padding, bool to_image>
struct RowBackward {
  const Warp& warp;
  const Grid& grid;
  const View& gradient;
  const View& field;  ///< gradient to the displacement, or empty
  Slab slab;

  struct Block {
    Cells cells;
    std::int64_t target[lanes];     ///< offset of the lower corner in the slab; meaningless where the cell isn't whole
    std::int32_t plane[2][lanes];   ///< of the lower and of the upper corners, within the image
  };

  void find(const PositionRow& row, std::int64_t x, int count, Block& block) const {
    float position[3][lanes];
    positions(row, x, count, position);
    locate<padding>(position, grid, block.cells);
    if constexpr (to_image) {
      ivec voxel[3];
      for (int k = 0; k < 3; ++k) voxel[k] = load(block.cells.lower[k]);
      locate_offsets(voxel, slab.grid, block.target);
      for (int i = 0; i < lanes; ++i) block.target[i] -= slab.first * slab.grid.stride[0];
      const ivec last = ivec{} + (grid.size[0] - 1);
      store(block.plane[0], clamp<ivec>(voxel[0], ivec{}, last));
      store(block.plane[1], clamp<ivec>(voxel[0] + 1, ivec{}, last));
    }
  }

  /// Whether the lower (0) or upper (1) plane of a voxel's cell is this task's.
  bool owns(const Block& block, int upper, int i) const { return !to_image || slab.owns(block.plane[upper][i]); }

  void write(std::int64_t n, std::int64_t z, std::int64_t y, std::int64_t x, const Cells& cells, int i,
             const float (&total)[3]) const {
    for (int k = 0; k < 3; ++k) *field.at<float>(n, k, z, y, x) = total[k] * cells.slope[k][i];
  }

  /// A voxel some of whose corners lie outside.
  void at_edge(const Block& block, int i, std::int64_t n, std::int64_t z, std::int64_t y, std::int64_t x) const {
    const Corners corners = existing_corners(block.cells, i, grid);
    float total[3] = {};
    for (std::int64_t c = 0; c < gradient.channels(); ++c) {
      const float g = to_float(*gradient.at<T>(n, c, z, y, x));
      const T* image = warp.image.at<T>(n, c, 0, 0, 0);
      for (int corner = 0; corner < corners.count; ++corner) {
        const std::int64_t(&voxel)[3] = corners.voxel[corner];
        if (to_image && slab.owns(std::int32_t(voxel[0]))) {
          slab.data[c * slab.channel_stride + corners.offset(corner, slab.grid.stride) -
                    slab.first * slab.grid.stride[0]] += g * corners.weight[corner];
        }
        const float product = g * to_float(image[corners.offset(corner, grid.stride)]);
        for (int k = 0; k < 3; ++k) total[k] += product * corners.slope[corner][k];
      }
    }
    // the slopes of the axes are in the corners' already
    if (field && owns(block, 0, i)) {
      for (int k = 0; k < 3; ++k) *field.at<float>(n, k, z, y, x) = total[k];
    }
  }

  template <class Count>
  __attribute__((always_inline)) inline void voxel(const Block& block, int i, std::int64_t n, std::int64_t z,
                                                   std::int64_t y, std::int64_t x, Count channels) const {
    const Cells& cells = block.cells;
    const bool lower = owns(block, 0, i), upper = to_image && owns(block, 1, i), wanted = field && lower;
    const T* image = warp.image.at<T>(n, 0, 0, 0, 0) + cells.offset[i];
    const T* g = gradient.at<T>(n, 0, z, y, x);
    const std::int64_t dz = grid.step[0], dy = grid.step[1], dx = grid.step[2];
    vec sum_z = {}, sum_y = {}, sum_x = {};
    for_channels(channels, [&](auto piece, std::int64_t c) __attribute__((always_inline)) {
      const auto fz = piece.splat(cells.fraction[0][i]), fy = piece.splat(cells.fraction[1][i]),
                 fx = piece.splat(cells.fraction[2][i]), go = piece.load(g + c);
      if (wanted) {
        const T *p = image + c, *q = p + dz;
        const decltype(piece.load(p)) corner[8] = {piece.load(p), piece.load(p + dx), piece.load(p + dy),
                                                   piece.load(p + dy + dx), piece.load(q), piece.load(q + dx),
                                                   piece.load(q + dy), piece.load(q + dy + dx)};
        const auto slopes = interpolate_with_slopes(corner, fz, fy, fx);
        sum_z += piece.extend(go * slopes.z);
        sum_y += piece.extend(go * slopes.y);
        sum_x += piece.extend(go * slopes.x);
      }
      if constexpr (to_image) {
        const auto above = go * fz;
        float* target = slab.data + block.target[i] + c;
        if (lower) scatter_plane(piece, target, slab.grid, go - above, fy, fx);
        if (upper) scatter_plane(piece, target + slab.grid.step[0], slab.grid, above, fy, fx);
      }
    });
    if (wanted) {
      const quad total = sum4(sum_z, sum_y, sum_x, vec{});
      write(n, z, y, x, cells, i, {total[0], total[1], total[2]});
    }
  }

  template <class Count>
  void across_channels(std::int64_t n, std::int64_t z, std::int64_t y, Count channels) const {
    const PositionRow row = position_row(warp.matrix_of(n), warp.displacement, n, z, y);
    const std::int64_t width = gradient.width(), bytes = channels * sizeof(T);
    const char* image = reinterpret_cast<const char*>(warp.image.at<T>(n, 0, 0, 0, 0));
    std::int64_t image_step[3], slab_step[3];
    for (int k = 0; k < 3; ++k) {
      image_step[k] = grid.step[k] * sizeof(T);
      slab_step[k] = slab.grid.step[k] * sizeof(float);
    }
    const auto voxels = [&](std::int64_t x) { return at_most(width - x, lanes); };
    Block block[2];
    find(row, 0, voxels(0), block[0]);
    for (std::int64_t x = 0; x < width; x += lanes) {
      const Block& here = block[x / lanes % 2];
      Block& next = block[1 - x / lanes % 2];
      const bool more = x + lanes < width;
      if (more) find(row, x + lanes, voxels(x + lanes), next);
      for (int i = 0; i < voxels(x); ++i) {
        if (more && owns(next, 0, i)) {
          if (field) prefetch_cell(image + next.cells.offset[i] * sizeof(T), image_step, bytes);
          if (to_image) {
            prefetch_cell(reinterpret_cast<const char*>(slab.data) + next.target[i] * std::int64_t(sizeof(float)),
                          slab_step, channels * sizeof(float));
          }
        }
        if (!owns(here, 0, i) && !owns(here, 1, i)) continue;
        if (padding == Padding::border || here.cells.whole[i]) {
          voxel(here, i, n, z, y, x + i, channels);
        } else {
          at_edge(here, i, n, z, y, x + i);
        }
      }
    }
  }

  void across_x(std::int64_t n, std::int64_t z, std::int64_t y) const {
    const PositionRow row = position_row(warp.matrix_of(n), warp.displacement, n, z, y);
    const std::int64_t dz = grid.step[0], dy = grid.step[1], dx = grid.step[2];
    Block located[blocks_at_once];
    for (std::int64_t x0 = 0; x0 < gradient.width(); x0 += blocks_at_once * lanes) {
      const std::int64_t end = x0 + at_most(gradient.width() - x0, blocks_at_once * lanes);
      vec total[blocks_at_once][3] = {};
      bool any[blocks_at_once] = {};
      for (std::int64_t x = x0; x < end; x += lanes) {
        const int b = int(x - x0) / lanes, count = at_most(end - x, lanes);
        find(row, x, count, located[b]);
        for (int i = 0; i < count; ++i) any[b] = any[b] || owns(located[b], 0, i) || owns(located[b], 1, i);
      }
      for (std::int64_t c = 0; c < gradient.channels(); ++c) {
        for (std::int64_t x = x0; x < end; x += lanes) {
          const int b = int(x - x0) / lanes, count = at_most(end - x, lanes);
          if (!any[b]) continue;
          const Block& block = located[b];
          const Cells& cells = block.cells;
          const vec fz = load(cells.fraction[0]), fy = load(cells.fraction[1]), fx = load(cells.fraction[2]);
          const vec g = load_row(gradient.at<T>(n, c, z, y, x), gradient.stride[4], count);
          if (field) {
            const T *p = warp.image.at<T>(n, c, 0, 0, 0), *q = p + dz;
            const auto at = [&](const T* from) { return gather(from, cells.offset); };
            const vec corner[8] = {at(p), at(p + dx), at(p + dy), at(p + dy + dx), at(q), at(q + dx), at(q + dy),
                                   at(q + dy + dx)};
            const ValueAndSlopes<vec> slopes = interpolate_with_slopes(corner, fz, fy, fx);
            total[b][0] += g * slopes.z;
            total[b][1] += g * slopes.y;
            total[b][2] += g * slopes.x;
          }
          if constexpr (to_image) {
            const vec above = g * fz, below = g - above;
            float* target = slab.data + c * slab.channel_stride;
            for (int i = 0; i < count; ++i) {
              if (padding == Padding::zeros && !cells.whole[i]) continue;
              const float y1 = cells.fraction[1][i], x1 = cells.fraction[2][i];
              const Piece<1> one;
              float* p = target + block.target[i];
              if (owns(block, 0, i)) scatter_plane(one, p, slab.grid, float(below[i]), y1, x1);
              if (owns(block, 1, i)) scatter_plane(one, p + slab.grid.step[0], slab.grid, float(above[i]), y1, x1);
            }
          }
        }
      }
      for (std::int64_t x = x0; x < end; x += lanes) {
        const int b = int(x - x0) / lanes, count = at_most(end - x, lanes);
        for (int i = 0; i < count; ++i) {
          if (padding == Padding::zeros && !located[b].cells.whole[i]) {
            at_edge(located[b], i, n, z, y, x + i);
          } else if (field && owns(located[b], 0, i)) {
            write(n, z, y, x + i, located[b].cells, i, {total[b][0][i], total[b][1][i], total[b][2][i]});
          }
        }
      }
    }
  }

  void nearest(std::int64_t n, std::int64_t z, std::int64_t y) const {
    const PositionRow row = position_row(warp.matrix_of(n), warp.displacement, n, z, y);
    for (std::int64_t x = 0; x < gradient.width(); x += lanes) {
      const int count = at_most(gradient.width() - x, lanes);
      float position[3][lanes];
      std::int64_t offset[lanes];
      std::int32_t plane[lanes];
      positions(row, x, count, position);
      locate_nearest<padding>(position, slab.grid, offset, plane);
      for (int i = 0; i < count; ++i) {
        if (offset[i] < 0 || !slab.owns(plane[i])) continue;
        float* target = slab.data + offset[i] - slab.first * slab.grid.stride[0];
        for (std::int64_t c = 0; c < gradient.channels(); ++c) {
          target[c * slab.channel_stride] += to_float(*gradient.at<T>(n, c, z, y, x + i));
        }
      }
    }
  }
};

/// First and last plane that each row of the output touches.
template <Padding padding>
void touched_planes(const Warp& warp, const Grid& grid, const View& rows, std::int32_t* planes) {
  parallel_for(rows.batch() * rows.depth(), [&](std::int64_t task) {
    const std::int64_t n = task / rows.depth(), z = task % rows.depth();
    for (std::int64_t y = 0; y < rows.height(); ++y) {
      const PositionRow row = position_row(warp.matrix_of(n), warp.displacement, n, z, y);
      std::int32_t low = grid.size[0] - 1, high = 0;
      for (std::int64_t x = 0; x < rows.width(); x += lanes) {
        const int count = at_most(rows.width() - x, lanes);
        float position[3][lanes];
        positions(row, x, count, position);
        const vec here = load(position[0]);
        const ivec last = ivec{} + (grid.size[0] - 1);
        const ivec lower = padding == Padding::border ? border_cell(here, grid.size[0]).lower
                                                      : zeros_cell(here, grid.size[0]).lower;
        const ivec from = clamp<ivec>(lower, ivec{}, last), to = clamp<ivec>(lower + 1, ivec{}, last);
        for (int i = 0; i < count; ++i) {
          low = from[i] < low ? from[i] : low;
          high = to[i] > high ? to[i] : high;
        }
      }
      const std::int64_t index = (task * rows.height() + y) * 2;
      planes[index] = low;
      planes[index + 1] = high;
    }
  });
}

/// The gradient's planes first ... last - 1 of batch item n as an image of their own.
View planes_of(const View& view, std::int64_t n, std::int64_t first, std::int64_t last) {
  View part = view;
  part.data = static_cast<char*>(view.data) + (n * view.stride[0] + first * view.stride[2]) * item_size(view.dtype);
  part.shape[0] = 1;
  part.shape[2] = last - first;
  return part;
}

void clear(const View& view) {
  const bool adjacent = view.channels_last();
  for (std::int64_t c = 0; c < (adjacent ? 1 : view.channels()); ++c) {
    for (std::int64_t z = 0; z < view.depth(); ++z) {
      for (std::int64_t y = 0; y < view.height(); ++y) {
        float* row = view.at<float>(0, c, z, y, 0);
        if (adjacent || view.planar()) {
          std::memset(row, 0, view.width() * (adjacent ? view.channels() : 1) * sizeof(float));
        } else {
          for (std::int64_t x = 0; x < view.width(); ++x) row[x * view.stride[4]] = 0.0f;
        }
      }
    }
  }
}

void round_into(const View& target, const View& source) {
  const bool adjacent = target.channels_last() && source.channels_last();
  for (std::int64_t c = 0; c < (adjacent ? 1 : target.channels()); ++c) {
    for (std::int64_t z = 0; z < target.depth(); ++z) {
      for (std::int64_t y = 0; y < target.height(); ++y) {
        const float* row = source.at<float>(0, c, z, y, 0);
        std::uint16_t* out = target.at<std::uint16_t>(0, c, z, y, 0);
        if (adjacent) {
          narrow(out, row, target.dtype, target.width() * target.channels(), 1);
        } else if (source.planar()) {
          narrow(out, row, target.dtype, target.width(), target.stride[4]);
        } else {
          for (std::int64_t x = 0; x < target.width(); ++x) {
            narrow(out + x * target.stride[4], row + x * source.stride[4], target.dtype, 1, 1);
          }
        }
      }
    }
  }
}

/// Float32 planes shaped and laid out as `like`: planar or channels-last.
View scratch_view(float* data, const View& like, bool adjacent) {
  View view = contiguous_view(data, DType::float32, like.shape);
  if (adjacent) {
    const std::int64_t c = like.channels(), w = like.width(), h = like.height();
    view.stride = {like.depth() * h * w * c, 1, h * w * c, w * c, c};
  }
  return view;
}

template <class T, Padding padding>
struct Backward {
  const Warp& warp;
  const View &gradient, &image_gradient, &field;
  std::int32_t* planes;
  Grid grid = grid_of(warp.image);

  /// Whether all that is read and written has adjacent channels.
  bool adjacent() const {
    return gradient.channels() > 1 && warp.image.stride[1] == 1 && gradient.stride[1] == 1 &&
           (!image_gradient || image_gradient.stride[1] == 1);
  }
  std::int64_t row_bytes() const { return warp.image.width() * gradient.channels() * sizeof(T); }

  template <bool to_image>
  void row(const RowBackward<T, padding, to_image>& part, std::int64_t n, std::int64_t z, std::int64_t y) const {
    if (warp.mode == Interpolation::nearest) {
      if constexpr (to_image) part.nearest(n, z, y);
    } else if (adjacent()) {
      part.across_channels(n, z, y, gradient.channels());
    } else {
      part.across_x(n, z, y);
    }
  }

  void to_displacement() const {
    const RowBackward<T, padding, false> part{warp, grid, gradient, field, {}};
    for_rows(gradient, row_bytes(), [&](std::int64_t n, std::int64_t z, std::int64_t y) { row(part, n, z, y); });
  }

  void slab(std::int64_t n, const View& target, std::int32_t first) const {
    RowBackward<T, padding, true> part{warp, grid, gradient, field, {}};
    part.slab.data = static_cast<float*>(target.data);
    part.slab.first = first;
    part.slab.last = first + std::int32_t(target.depth());
    part.slab.channel_stride = target.stride[1];
    View whole = target;  // cells are located in the whole image
    whole.shape[2] = warp.image.depth();
    part.slab.grid = grid_of(whole);
    const std::int64_t fitting = 131072 / row_bytes(), tile = fitting < 4 ? 4 : (fitting > 64 ? 64 : fitting);
    for (std::int64_t y0 = 0; y0 < gradient.height(); y0 += tile) {
      for (std::int64_t z = 0; z < gradient.depth(); ++z) {
        for (std::int64_t y = y0; y < gradient.height() && y < y0 + tile; ++y) {
          const std::int32_t* touched = planes + ((n * gradient.depth() + z) * gradient.height() + y) * 2;
          if (touched[0] < part.slab.last && touched[1] >= first) row(part, n, z, y);
        }
      }
    }
  }

  void to_image() const {
    touched_planes<padding>(warp, grid, gradient, planes);
    const std::int64_t depth = warp.image.depth(), slabs = (depth + slab_planes - 1) / slab_planes;
    parallel_for(warp.image.batch() * slabs, [&](std::int64_t task) {
      const std::int64_t n = task / slabs, first = task % slabs * slab_planes;
      const View target = planes_of(image_gradient, n, first, first + slab_planes < depth ? first + slab_planes : depth);
      if constexpr (std::is_same_v<T, float>) {
        clear(target);
        slab(n, target, std::int32_t(first));
      } else {
        const Scratch scratch(target.elements());
        std::memset(scratch.data(), 0, target.elements() * sizeof(float));
        const View sum = scratch_view(scratch.data(), target, adjacent());
        slab(n, sum, std::int32_t(first));
        round_into(target, sum);
      }
    });
  }
};

}  // namespace

void warp_backward(const Warp& warp, const View& gradient, const View& image_gradient, const View& displacement_gradient,
                   std::int32_t* planes) {
  with_type(warp.image.dtype, [&](auto element) {
    with_padding(warp.padding, [&](auto padding) {
      const Backward<decltype(element), decltype(padding)::value> backward{warp, gradient, image_gradient,
                                                                           displacement_gradient, planes};
      if (image_gradient) {
        backward.to_image();
      } else if (displacement_gradient) {
        backward.to_displacement();
      }
    });
  });
}

void warp_matrix_gradient(const View& g, const View& out, double* partial) {
  parallel_for(g.batch() * g.depth(), [&](std::int64_t task) {
    const std::int64_t n = task / g.depth(), z = task % g.depth();
    double* total = partial + task * 12;
    for (int k = 0; k < 3; ++k) {
      double sum = 0, sum_y = 0, sum_x = 0;
      for (std::int64_t y = 0; y < g.height(); ++y) {
        constexpr int ways = 8;  // independent chains of additions, in a fixed pattern
        double row[ways] = {}, row_x[ways] = {};
        const float* p = g.at<float>(n, k, z, y, 0);
        for (std::int64_t x = 0; x < g.width(); ++x) {
          const double value = p[x * g.stride[4]];
          row[x % ways] += value;
          row_x[x % ways] += value * double(x);
        }
        double here = 0;
        for (int i = 0; i < ways; ++i) {
          here += row[i];
          sum_x += row_x[i];
        }
        sum += here;
        sum_y += here * double(y);
      }
      const double entries[4] = {sum * double(z), sum_y, sum_x, sum};
      std::memcpy(total + 4 * k, entries, sizeof(entries));
    }
  });
  for (std::int64_t n = 0; n < g.batch(); ++n) {
    for (int i = 0; i < 12; ++i) {
      double sum = 0;
      for (std::int64_t z = 0; z < g.depth(); ++z) sum += partial[(n * g.depth() + z) * 12 + i];
      out.at<double>(n, 0, 0, 0, 0)[i] = sum;
    }
  }
}

}  // namespace masr::MASR_ISA
