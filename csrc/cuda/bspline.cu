// B-spline upsampling and its adjoint.
//
// Upsampling: a block takes a tile of 32 x 8 columns and brings the control points that support a plane of it, blended
// along z, into shared memory; each thread then blends 4 x 4 of them. 4 bytes a voxel and channel must move. Adjoint:
// one axis after the other, x, y, z, every point a sum over the voxels it supports. What remains after x is only a part
// of the field, so nearly all that moves is the gradient, read once.
#include "math/bspline.h"

#include <stdexcept>
#include <string>

#include "cuda/ops.h"
#include "cuda/volume.h"

namespace masr::cuda {
namespace {

constexpr int planes = 8;
/// Control points beside a tile's voxels at most: at spacing 1 every voxel has one of its own.
constexpr int points_down = block_height + 3, points_across = block_width + 3;

/// An axis of the field: cell c holds the voxels c * spacing + r and reads the control points c ... c + 3 with
/// weights[4 r + 0 ... 3].
struct Axis {
  int voxels, spacing;
  const float* weights;

  /// Different places within a cell.
  MASR_INLINE int period() const { return spacing < voxels ? spacing : voxels; }
};

__global__ void __launch_bounds__(block_threads) tabulate(Axis axis, float* weights) {
  const std::int64_t r = linear_index();
  if (r >= axis.period()) return;
  float weight[4];
  cubic_bspline(double(r) / axis.spacing, weight);
  for (int j = 0; j < 4; ++j) weights[4 * r + j] = weight[j];
}

template <class Index>
__global__ void __launch_bounds__(block_threads)
    upsample(Volume<const float, Index> control, Axis along_z, Axis along_y, Axis along_x, Volume<float, Index> out,
             int channels, Tiles tiles) {
  float* const points = shared_memory<float>();  // [points_down][points_across], blended along z
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item / channels, c = tile.item % channels;
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  const bool inside = y < tiles.size[1] && x < tiles.size[2];
  const int first_y = tile.y / along_y.spacing, first_x = tile.x / along_x.spacing;
  const int down = (tile.y + block_height - 1) / along_y.spacing - first_y + 4;
  const int across = (tile.x + block_width - 1) / along_x.spacing - first_x + 4;
  float wy[4] = {}, wx[4] = {};
  for (int j = 0; j < 4 && inside; ++j) {
    wy[j] = along_y.weights[4 * (y % along_y.spacing) + j];
    wx[j] = along_x.weights[4 * (x % along_x.spacing) + j];
  }
  const float* const corner =
      points + (y / along_y.spacing - first_y) * points_across + (x / along_x.spacing - first_x);
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const float* const wz = along_z.weights + 4 * (z % along_z.spacing);
    for (int i = thread_index(); i < down * across; i += block_threads) {
      const int py = first_y + i / across, px = first_x + i % across;
      float value = 0.0f;
      if (py < control.size[1] && px < control.size[2]) {  // the tile may reach beyond the field
        const float* const p = control.at(n, c, z / along_z.spacing, py, px);
        value = p[0] * wz[0] + p[control.stride[0]] * wz[1] + p[2 * control.stride[0]] * wz[2] +
                p[3 * control.stride[0]] * wz[3];
      }
      points[i / across * points_across + i % across] = value;
    }
    __syncthreads();
    if (inside) {
      float value = 0.0f;
      for (int j = 0; j < 4; ++j) {
        const float* const row = corner + j * points_across;
        value += wy[j] * (row[0] * wx[0] + row[1] * wx[1] + row[2] * wx[2] + row[3] * wx[3]);
      }
      *out.at(n, c, z, y, x) = value;
    }
    __syncthreads();
  }
}

/// Sums along an axis: `tiles` are those of `out`, which has control points along the axis and is shaped as `in` along
/// the others. Voxels along the axis lie `step` apart in `in`.
template <class Index>
__global__ void __launch_bounds__(block_threads)
    collect(Volume<const float, Index> in, int number, Axis axis, Index step, Volume<float, Index> out, int channels,
            Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item / channels, c = tile.item % channels;
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const int point = number == 0 ? z : number == 1 ? y : x;
    const float* const line = in.at(n, c, number == 0 ? 0 : z, number == 1 ? 0 : y, number == 2 ? 0 : x);
    float total = 0.0f;
    // Voxels of cell `cell` read the control points cell ... cell + 3.
    for (int j = 0; j < 4; ++j) {
      const std::int64_t first = std::int64_t(point - j) * axis.spacing;
      if (first < 0 || first >= axis.voxels) continue;
      const int rest = axis.voxels - int(first), length = rest < axis.spacing ? rest : axis.spacing;
      for (int r = 0; r < length; ++r) total += axis.weights[4 * r + j] * line[(Index(first) + r) * step];
    }
    *out.at(n, c, z, y, x) = total;
  }
}

/// Axis `number` of a field, its weights in scratch memory.
Axis axis_of(const Call& call, const View& field, int number, const std::array<std::int64_t, 3>& spacing) {
  // A spacing beyond all voxels makes one cell of them; its weights depend on it still.
  if (spacing[number] > longest_axis) {
    throw std::invalid_argument("bspline: spacing must be at most " + std::to_string(longest_axis) + " on CUDA, got " +
                                std::to_string(spacing[number]));
  }
  Axis axis{int(field.shape[2 + number]), int(spacing[number]), nullptr};
  float* weights = call.scratch<float>(4 * std::int64_t(axis.period()));
  call.launch(tabulate, linear_blocks(axis.period()), 0, axis, weights);
  axis.weights = weights;
  return axis;
}

}  // namespace

void bspline_upsample(const View& control, const std::array<std::int64_t, 3>& spacing, const View& out,
                      const Execution& execution) {
  const Call call("bspline_upsample", out, execution);
  const Tiles tiles(out, planes, out.batch() * out.channels());
  const auto axis = [&](int number) { return axis_of(call, out, number, spacing); };
  const Axis along_z = axis(0), along_y = axis(1), along_x = axis(2);
  with_index({&control, &out}, [&](auto index) {
    using Index = decltype(index);
    call.launch(upsample<Index>, tiles.count, points_down * points_across * sizeof(float),
                volume<const float, Index>(control), along_z, along_y, along_x, volume<float, Index>(out),
                int(out.channels()), tiles);
  });
}

void bspline_adjoint(const View& gradient, const std::array<std::int64_t, 3>& spacing, const View& out,
                     const Execution& execution) {
  const Call call("bspline_adjoint", gradient, execution);
  View from = gradient;
  for (int number : {2, 1, 0}) {
    const Axis axis = axis_of(call, gradient, number, spacing);
    View to = out;
    if (number > 0) {
      auto shape = from.shape;
      shape[2 + number] = out.shape[2 + number];
      to = contiguous_view(nullptr, DType::float32, shape);
      to.data = call.scratch<float>(to.elements());
    }
    const Tiles tiles(to, planes, to.batch() * to.channels());
    with_index({&from, &to}, [&](auto index) {
      using Index = decltype(index);
      const auto in = volume<const float, Index>(from);
      call.launch(collect<Index>, tiles.count, 0, in, number, axis, in.stride[number], volume<float, Index>(to),
                  int(to.channels()), tiles);
    });
    from = to;
  }
}

}  // namespace masr::cuda
