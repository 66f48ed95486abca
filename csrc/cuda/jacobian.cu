// det(I + du/dv) and its adjoint, a thread a voxel: neighbours come from the L1 cache. 16 bytes a voxel must move
// forward.
#include "math/jacobian.h"

#include "cuda/ops.h"
#include "cuda/volume.h"

namespace masr::cuda {
namespace {

constexpr int planes = 4;

template <class Index>
struct Component {
  const Volume<const float, Index>& u;
  std::int64_t n;
  MASR_INLINE float operator()(int k, int z, int y, int x) const { return *u.at(n, k, z, y, x); }
};

template <class Index>
struct Scalar {
  const Volume<const float, Index>& g;
  std::int64_t n;
  MASR_INLINE float operator()(int z, int y, int x) const { return *g.at(n, 0, z, y, x); }
};

template <class Index>
__global__ void __launch_bounds__(block_threads)
    determinants(Volume<const float, Index> u, Volume<float, Index> out, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    float J[3][3];
    jacobian(Component<Index>{u, tile.item}, tiles.size, z, y, x, J);
    *out.at(tile.item, 0, z, y, x) = determinant(J);
  }
}

template <class Index>
__global__ void __launch_bounds__(block_threads)
    determinant_gradients(Volume<const float, Index> u, Volume<const float, Index> gradient, Volume<float, Index> out,
                          Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    float total[3];
    determinant_gradient(Component<Index>{u, tile.item}, Scalar<Index>{gradient, tile.item}, tiles.size, z, y, x,
                         total);
    for (int k = 0; k < 3; ++k) *out.at(tile.item, k, z, y, x) = total[k];
  }
}

}  // namespace

void jacobian_determinant(const View& u, const View& out, const Execution& execution) {
  const Call call("jacobian_determinant", u, execution);
  const Tiles tiles(u, planes, u.batch());
  with_index({&u, &out}, [&](auto index) {
    using Index = decltype(index);
    call.launch(determinants<Index>, tiles.count, 0, volume<const float, Index>(u), volume<float, Index>(out), tiles);
  });
}

void jacobian_determinant_backward(const View& u, const View& gradient, const View& out, const Execution& execution) {
  const Call call("jacobian_determinant_backward", u, execution);
  const Tiles tiles(u, planes, u.batch());
  with_index({&u, &gradient, &out}, [&](auto index) {
    using Index = decltype(index);
    call.launch(determinant_gradients<Index>, tiles.count, 0, volume<const float, Index>(u),
                volume<const float, Index>(gradient), volume<float, Index>(out), tiles);
  });
}

}  // namespace masr::cuda
