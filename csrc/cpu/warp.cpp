// Forward warp. An image with adjacent channels is read voxel by voxel, vectors across its channels; any other one with
// vectors across the row of the output, channel by channel. Bound by the latency of the eight corners: those of the next
// voxels are prefetched.
#include "cpu/warp.h"

#include "cpu/line_writer.h"
#include "cpu/sample.h"

namespace masr::MASR_ISA {
namespace {

/// One voxel's channels between the eight corners of its cell.
template <class T, class Count>
__attribute__((always_inline)) inline void interpolate(const T* p, const Grid& grid, const Cells& cells, int i,
                                                       Count channels, T* out) {
  const std::int64_t z = grid.step[0], y = grid.step[1], x = grid.step[2];
  for_channels(channels, [&](auto piece, std::int64_t c) __attribute__((always_inline)) {
    const auto fz = piece.splat(cells.fraction[0][i]), fy = piece.splat(cells.fraction[1][i]),
               fx = piece.splat(cells.fraction[2][i]);
    const T* q = p + c;
    const T* r = q + z;
    const decltype(piece.load(q)) corner[8] = {piece.load(q),         piece.load(q + x), piece.load(q + y),
                                               piece.load(q + y + x), piece.load(r),     piece.load(r + x),
                                               piece.load(r + y),     piece.load(r + y + x)};
    piece.store(out + c, masr::interpolate(corner, fz, fy, fx));
  });
}

template <class T>
float at_edge(const T* image, const Grid& grid, const Corners& corners) {
  float value = 0.0f;
  for (int k = 0; k < corners.count; ++k) value += corners.weight[k] * to_float(image[corners.offset(k, grid.stride)]);
  return value;
}

template <class T, Padding padding, class Count>
void row_across_channels(const T* image, const Grid& grid, const PositionRow& row, std::int64_t width, Count channels,
                         LineWriter* writer, T* out) {
  Cells cells[2];
  const std::int64_t count = channels, bytes = count * sizeof(T);
  const std::int64_t step[3] = {grid.step[0] * std::int64_t(sizeof(T)), grid.step[1] * std::int64_t(sizeof(T)),
                                grid.step[2] * std::int64_t(sizeof(T))};
  const auto find = [&](std::int64_t x, Cells& found) {
    float position[3][lanes];
    positions(row, x, at_most(width - x, lanes), position);
    locate<padding>(position, grid, found);
  };
  find(0, cells[0]);
  for (std::int64_t x = 0; x < width; x += lanes) {
    const Cells& here = cells[x / lanes % 2];
    Cells& next = cells[1 - x / lanes % 2];
    const bool more = x + lanes < width;
    if (more) find(x + lanes, next);
    const int voxels = at_most(width - x, lanes);
    T* target = writer ? static_cast<T*>(writer->next()) : out + x * count;
    for (int i = 0; i < voxels; ++i, target += count) {
      if (more) prefetch_cell(reinterpret_cast<const char*>(image + next.offset[i]), step, bytes);
      if (padding == Padding::border || here.whole[i]) {
        interpolate(image + here.offset[i], grid, here, i, channels, target);
      } else {
        const Corners corners = existing_corners(here, i, grid);
        for (std::int64_t c = 0; c < count; ++c) assign(target[c], at_edge(image + c, grid, corners));
      }
    }
    if (writer) writer->commit(voxels * bytes);
  }
}

template <class T, Padding padding>
void row_across_x(const Warp& warp, const Grid& grid, const PositionRow& row, std::int64_t n, std::int64_t z,
                  std::int64_t y, const View& out) {
  Cells located[blocks_at_once];
  for (std::int64_t x0 = 0; x0 < out.width(); x0 += blocks_at_once * lanes) {
    const std::int64_t end = x0 + at_most(out.width() - x0, blocks_at_once * lanes);
    for (std::int64_t x = x0; x < end; x += lanes) {
      float position[3][lanes];
      positions(row, x, at_most(end - x, lanes), position);
      locate<padding>(position, grid, located[(x - x0) / lanes]);
    }
    for (std::int64_t c = 0; c < out.channels(); ++c) {
      const T* image = warp.image.at<T>(n, c, 0, 0, 0);
      for (std::int64_t x = x0; x < end; x += lanes) {
        const Cells& cells = located[(x - x0) / lanes];
        const vec fz = load(cells.fraction[0]), fy = load(cells.fraction[1]), fx = load(cells.fraction[2]);
        vec plane[2];
        for (int k = 0; k < 2; ++k) {
          const T* p = image + k * grid.step[0];
          const T* q = p + grid.step[1];
          plane[k] = lerp(lerp(gather(p, cells.offset), gather(p + grid.step[2], cells.offset), fx),
                          lerp(gather(q, cells.offset), gather(q + grid.step[2], cells.offset), fx), fy);
        }
        vec value = lerp(plane[0], plane[1], fz);
        const int count = at_most(end - x, lanes);
        if constexpr (padding == Padding::zeros) {
          for (int i = 0; i < count; ++i) {
            if (!cells.whole[i]) value[i] = at_edge(image, grid, existing_corners(cells, i, grid));
          }
        }
        store_row(out.at<T>(n, c, z, y, x), out.stride[4], count, value);
      }
    }
  }
}

template <class T, Padding padding>
void row_nearest(const Warp& warp, const Grid& grid, const PositionRow& row, std::int64_t n, std::int64_t z,
                 std::int64_t y, const View& out) {
  for (std::int64_t x = 0; x < out.width(); x += lanes) {
    const int count = at_most(out.width() - x, lanes);
    float position[3][lanes];
    std::int64_t offset[lanes];
    std::int32_t plane[lanes];
    positions(row, x, count, position);
    locate_nearest<padding>(position, grid, offset, plane);
    const std::int64_t from = warp.image.stride[1], to = out.stride[1];
    for (int i = 0; i < count; ++i) {
      const T* source = warp.image.at<T>(n, 0, 0, 0, 0) + offset[i];
      T* target = out.at<T>(n, 0, z, y, x + i);
      for (std::int64_t c = 0; c < out.channels(); ++c) target[c * to] = offset[i] < 0 ? T{} : source[c * from];
    }
  }
}

template <class T, Padding padding, class Count>
void warp_channels_last(const Warp& warp, const View& out, Count channels) {
  const Grid grid = grid_of(warp.image);
  const std::int64_t voxel_bytes = out.channels() * sizeof(T);
  const bool streaming = out.elements() * std::int64_t(sizeof(T)) > (8 << 20) && voxel_bytes * lanes <= LineWriter::capacity;
  for_rows(out, warp.image.width() * voxel_bytes, [&](std::int64_t n, std::int64_t z, std::int64_t y) {
    const PositionRow row = position_row(warp.matrix_of(n), warp.displacement, n, z, y);
    const T* image = warp.image.at<T>(n, 0, 0, 0, 0);
    T* target = out.at<T>(n, 0, z, y, 0);
    if (streaming) {
      LineWriter writer(target);
      row_across_channels<T, padding>(image, grid, row, out.width(), channels, &writer, target);
      writer.finish();
      stream_fence();
    } else {
      row_across_channels<T, padding>(image, grid, row, out.width(), channels, nullptr, target);
    }
  });
}

template <class T, Padding padding>
void warp_as(const Warp& warp, const View& out) {
  const Grid grid = grid_of(warp.image);
  const std::int64_t row_bytes = warp.image.width() * out.channels() * sizeof(T);
  if (warp.mode == Interpolation::nearest) {
    for_rows(out, row_bytes, [&](std::int64_t n, std::int64_t z, std::int64_t y) {
      row_nearest<T, padding>(warp, grid, position_row(warp.matrix_of(n), warp.displacement, n, z, y), n, z, y, out);
    });
  } else if (out.channels() > 1 && warp.image.stride[1] == 1 && out.stride[1] == 1 &&
             (out.stride[4] == out.channels() || out.width() == 1)) {
    warp_channels_last<T, padding>(warp, out, out.channels());
  } else {
    for_rows(out, row_bytes, [&](std::int64_t n, std::int64_t z, std::int64_t y) {
      row_across_x<T, padding>(warp, grid, position_row(warp.matrix_of(n), warp.displacement, n, z, y), n, z, y, out);
    });
  }
}

}  // namespace

void warp(const Warp& warp, const View& out) {
  with_type(warp.image.dtype, [&](auto element) {
    with_padding(warp.padding, [&](auto padding) { warp_as<decltype(element), decltype(padding)::value>(warp, out); });
  });
}

}  // namespace masr::MASR_ISA
