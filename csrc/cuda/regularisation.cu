// Energies of differences of a field, value and gradient in one pass: each thread reads the neighbours of its voxels
// from the L1 cache and writes their entries of the gradient. 8 bytes a voxel and channel must move. The energy is
// summed in double, thread by thread, block by block.
#include "math/regularisation.h"

#include "cuda/ops.h"
#include "cuda/reduce.h"
#include "cuda/volume.h"

namespace masr::cuda {
namespace {

constexpr int planes = 8;

/// A voxel of a channel and its neighbours, replicated beyond the borders.
template <class Index>
struct Neighbourhood {
  const Volume<const float, Index>& field;
  std::int64_t n, c;
  int z, y, x;

  MASR_INLINE static int clamp(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }
  MASR_INLINE float operator()(int dz, int dy, int dx) const {
    return *field.at(n, c, clamp(z + dz, field.size[0]), clamp(y + dy, field.size[1]), clamp(x + dx, field.size[2]));
  }
};

struct Diffusion {
  float weight[3];

  template <class Index>
  MASR_INLINE float operator()(const Neighbourhood<Index>& u, float& half) const {
    const float here = u(0, 0, 0);
    float energy = add_slope(u(-1, 0, 0), here, u(1, 0, 0), weight[0], half);
    energy += add_slope(u(0, -1, 0), here, u(0, 1, 0), weight[1], half);
    energy += add_slope(u(0, 0, -1), here, u(0, 0, 1), weight[2], half);
    return energy;
  }
};

struct Bending {
  float pure[3], zy, zx, yx;

  template <class Index>
  MASR_INLINE float operator()(const Neighbourhood<Index>& u, float& half) const {
    const float here = u(0, 0, 0), z1 = u(-1, 0, 0), z3 = u(1, 0, 0), y1 = u(0, -1, 0), y3 = u(0, 1, 0),
                x1 = u(0, 0, -1), x3 = u(0, 0, 1);
    const float along_z[5] = {u(-2, 0, 0), z1, here, z3, u(2, 0, 0)};
    const float along_y[5] = {u(0, -2, 0), y1, here, y3, u(0, 2, 0)};
    const float along_x[5] = {u(0, 0, -2), x1, here, x3, u(0, 0, 2)};
    float energy = Curvature(u.z, u.field.size[0], pure[0]).add(along_z, half);
    energy += Curvature(u.y, u.field.size[1], pure[1]).add(along_y, half);
    energy += Curvature(u.x, u.field.size[2], pure[2]).add(along_x, half);
    const float in_zy[3][3] = {{u(-1, -1, 0), z1, u(-1, 1, 0)}, {y1, here, y3}, {u(1, -1, 0), z3, u(1, 1, 0)}};
    const float in_zx[3][3] = {{u(-1, 0, -1), z1, u(-1, 0, 1)}, {x1, here, x3}, {u(1, 0, -1), z3, u(1, 0, 1)}};
    const float in_yx[3][3] = {{u(0, -1, -1), y1, u(0, -1, 1)}, {x1, here, x3}, {u(0, 1, -1), y3, u(0, 1, 1)}};
    energy += add_mixed(in_zy, zy, half);
    energy += add_mixed(in_zx, zx, half);
    energy += add_mixed(in_yx, yx, half);
    return energy;
  }
};

template <class Energy, class Index>
__global__ void __launch_bounds__(block_threads)
    energies(Energy energy, Volume<const float, Index> field, Volume<float, Index> gradient, int channels, Tiles tiles,
             double* partials) {
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item / channels, c = tile.item % channels;
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  double total[1] = {0.0};
  if (y < tiles.size[1] && x < tiles.size[2]) {
    for (int z = tile.z; z < tiles.end(tile); ++z) {
      float half = 0.0f;
      total[0] += double(energy(Neighbourhood<Index>{field, n, c, z, y, x}, half));
      *gradient.at(n, c, z, y, x) = 2.0f * half;
    }
  }
  block_sum(total);
  if (thread_index() == 0) partials[blockIdx.x] = total[0];
}

/// A block for each batch item.
__global__ void __launch_bounds__(block_threads)
    sum_of_blocks(const double* partials, std::int64_t blocks, double* value, std::int64_t stride) {
  double total[1];
  sum_partials(partials + blockIdx.x * blocks, blocks, total);
  if (thread_index() == 0) value[blockIdx.x * stride] = total[0];
}

template <class Energy>
void evaluate(const char* op, Energy energy, const View& field, const View& value, const View& gradient,
              const Execution& execution) {
  const Call call(op, field, execution);
  const Tiles tiles(field, planes, field.batch() * field.channels());
  double* partials = call.scratch<double>(tiles.count);
  with_index({&field, &gradient}, [&](auto index) {
    using Index = decltype(index);
    call.launch(energies<Energy, Index>, tiles.count, 0, energy, volume<const float, Index>(field),
                volume<float, Index>(gradient), int(field.channels()), tiles, partials);
  });
  call.launch(sum_of_blocks, field.batch(), 0, partials, tiles.per_item * field.channels(),
              static_cast<double*>(value.data), value.stride[0]);
}

}  // namespace

void diffusion_energy(const View& field, const double (&weight)[3], const View& value, const View& gradient,
                      const Execution& execution) {
  const Diffusion energy{{float(weight[0]), float(weight[1]), float(weight[2])}};
  evaluate("diffusion_energy", energy, field, value, gradient, execution);
}

void bending_energy(const View& field, const double (&weight)[3][3], const View& value, const View& gradient,
                    const Execution& execution) {
  const Bending energy{{float(weight[0][0]), float(weight[1][1]), float(weight[2][2])}, float(weight[0][1]),
                       float(weight[0][2]), float(weight[1][2])};
  evaluate("bending_energy", energy, field, value, gradient, execution);
}

}  // namespace masr::cuda
