// Dense displacement search without the cost volume: a block has a tile of cells, each with its least cost so far in
// shared memory, and goes through the displacements one by one.
//
// For each displacement a thread compares the cells of its column in `computed` planes with their partners and leaves
// weighted costs and weights in shared memory; the threads of the cells inside the tile then sum over 3 x 3 x 3 of them.
// The outermost columns and planes are there for those sums alone. Bound by the loads of features from the L1 cache: two
// for each channel, displacement and cell, of which neighbouring lanes read neighbours. Before that come float32 copies
// of the volumes and every cell's mean cost, which follows from sums over the window taken axis by axis.
#include "masr/search.h"

#include "cuda/element.h"
#include "cuda/ops.h"
#include "cuda/volume.h"
#include "math/search.h"

namespace masr::cuda {
namespace {

constexpr int planes = 8;  ///< of a tile of the kernels that go through a volume once
/// Cells of a tile of the search, and planes that are compared for it.
constexpr int across = block_width - 2, down = block_height - 2, deep = 4, computed = deep + 2;
constexpr int streams = 2;  ///< weighted costs, and weights
constexpr int staged = computed * streams * block_threads, kept = deep * block_threads;

MASR_INLINE bool inside(int i, int n) { return i >= 0 && i < n; }
MASR_INLINE int nearest(int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; }

/// Copies item n: channel after channel, then how much the cells count and, of `partners`, |f|^2. What does not count is
/// 0 throughout; `counts` may have no data.
template <class T, class Count, class Index>
__global__ void __launch_bounds__(block_threads)
    copy_cells(Volume<const T, Index> features, Volume<const Count, Index> counts, std::int64_t n, int channels,
               bool partners, Tiles tiles, Volume<float, Index> out) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    float count = 1.0f, square = 0.0f;
    if (counts.data) {
      const float given = float(*counts.at(n, 0, z, y, x));
      count = partners ? (given > 0.5f ? 1.0f : 0.0f) : (given > 0.0f ? given : 0.0f);
    }
    for (int c = 0; c < channels; ++c) {
      const float f = to_float(*features.at(n, c, z, y, x));
      if (f - f != 0.0f) count = 0.0f;  // not finite
    }
    for (int c = 0; c < channels; ++c) {
      const float f = count > 0.0f ? to_float(*features.at(n, c, z, y, x)) : 0.0f;
      *out.at(0, c, z, y, x) = f;
      square += f * f;
    }
    *out.at(0, channels, z, y, x) = count;
    if (partners) *out.at(0, channels + 1, z, y, x) = square;
  }
}

/// Sums over the window along an axis of so many cells and that stride, of all channels; tiles are of channels.
template <class Index>
__global__ void __launch_bounds__(block_threads)
    window_sums(Volume<const float, Index> in, int axis, int size, Index stride, int radius, Tiles tiles,
                Volume<float, Index> out) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const int at = axis == 0 ? z : axis == 1 ? y : x, last = nearest(at + radius, size);
    const float* const here = in.at(0, tile.item, z, y, x);
    float total = 0.0f;
    for (int i = nearest(at - radius, size); i <= last; ++i) total += here[Index(i - at) * stride];
    *out.at(0, tile.item, z, y, x) = total;
  }
}

/// From sums over the window along two axes: weight times mean cost of every cell over its displacements, and the weight
/// of the cells that have a valid partner at all.
template <class Index>
__global__ void __launch_bounds__(block_threads)
    mean_costs(Volume<const float, Index> fixed, Volume<const float, Index> sums, int channels, int radius, Tiles tiles,
               Volume<float, Index> out) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const auto over_window = [&](int c) {
      const int last = nearest(z + radius, tiles.size[0]);
      float total = 0.0f;
      for (int i = nearest(z - radius, tiles.size[0]); i <= last; ++i) total += *sums.at(0, c, i, y, x);
      return total;
    };
    float own = 0.0f, product = 0.0f;
    for (int c = 0; c < channels; ++c) {
      const float f = *fixed.at(0, c, z, y, x);
      own += f * f;
      product += f * over_window(c);
    }
    const float count = over_window(channels);
    const float weight = count > 0.0f ? *fixed.at(0, channels, z, y, x) : 0.0f;
    const float mean = mean_difference(own, product, over_window(channels + 1), count, float(channels));
    *out.at(0, 0, z, y, x) = weight > 0.0f && mean > 0.0f ? weight * mean : 0.0f;
    *out.at(0, 1, z, y, x) = weight;
  }
}

/// Sum over 3 x 3 x 3 cells, what lies outside being 0. In the order of the search: where all partners are valid, the
/// sum of the weights is the very same there.
template <class Index>
__device__ float sum_around(const Volume<const float, Index>& in, int c, int z, int y, int x) {
  float of_plane[3] = {};
  for (int k = 0; k < 3; ++k) {
    for (int j = y - 1; j <= y + 1; ++j) {
      for (int i = x - 1; i <= x + 1; ++i) {
        const bool there = inside(z + k - 1, in.size[0]) && inside(j, in.size[1]) && inside(i, in.size[2]);
        of_plane[k] += there ? *in.at(0, c, z + k - 1, j, i) : 0.0f;
      }
    }
  }
  return of_plane[0] + of_plane[1] + of_plane[2];
}

/// From mean_costs(): the weighted mean cost around every cell, 0 where nothing counts, and the sum of the weights.
template <class Index>
__global__ void __launch_bounds__(block_threads)
    find_levels(Volume<const float, Index> own, Tiles tiles, Volume<float, Index> out) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const float all = sum_around(own, 1, z, y, x);
    *out.at(0, 0, z, y, x) = all > 0.0f ? sum_around(own, 0, z, y, x) / all : 0.0f;
    *out.at(0, 1, z, y, x) = all;
  }
}

/// Cuts the grid into tiles of across x down x deep cells, one for each block.
struct SearchTiles {
  unsigned along_x, along_y;
  std::int64_t count;

  explicit SearchTiles(const View& grid)
      : along_x(unsigned(Tiles::blocks(int(grid.width()), across))),
        along_y(unsigned(Tiles::blocks(int(grid.height()), down))),
        count(std::int64_t(along_x) * along_y * Tiles::blocks(int(grid.depth()), deep)) {}

  MASR_INLINE Tile operator[](unsigned tile) const {
    const unsigned in_plane = along_x * along_y, slab = tile / in_plane, place = tile - slab * in_plane;
    const unsigned row = place / along_x, column = place - row * along_x;
    return {0, int(slab) * deep, int(row) * down, int(column) * across};
  }
};

/// The least cost of item n; `fixed`, `moving` and `levels` are what the kernels above leave. What a thread keeps from one
/// displacement to the next lies in shared memory: in registers there would not be room.
template <bool coupled, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    search(Volume<const float, Index> fixed, Volume<const float, Index> moving, Volume<const float, Index> levels,
           int channels, std::int64_t n, Volume<const float, Index> coupling, float theta, SearchWindow window,
           SearchTiles tiles, Volume<float, Index> displacement, Volume<float, Index> cost) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y) - 1, x = tile.x + int(threadIdx.x) - 1, thread = thread_index();
  const int depth = fixed.size[0], height = fixed.size[1], width = fixed.size[2];
  const bool exists = inside(y, height) && inside(x, width);
  const bool mine = exists && inside(int(threadIdx.y) - 1, down) && inside(int(threadIdx.x) - 1, across);
  const int end = depth - tile.z < deep ? depth : tile.z + deep;

  float* stage = shared_memory<float>();  // [plane][stream][thread], for every other displacement
  float* other = stage + staged;
  float* const least = stage + 2 * staged + thread;  // of the thread's cells, one after the other
  float* const cost_of = least + kept;
  int* const rank = shared_memory<int>() + 2 * staged + 2 * kept + thread;
  for (int k = 0; k < deep; ++k) {
    least[k * block_threads] = __int_as_float(0x7F800000);    // infinity
    cost_of[k * block_threads] = __int_as_float(0x7FC00000);  // NaN
    rank[k * block_threads] = -1;
  }

  const float scale = 1.0f / float(channels);
  for (int dz = -window.rz; dz <= window.rz; ++dz) {
    for (int dy = -window.ry; dy <= window.ry; ++dy) {
      for (int dx = -window.rx; dx <= window.rx; ++dx) {
        const bool beside = exists && inside(y + dy, height) && inside(x + dx, width);
        for (int z = tile.z - 1; z <= end; ++z) {
          float* const here = stage + (z - tile.z + 1) * streams * block_threads + thread;
          const bool there = beside && inside(z, depth) && inside(z + dz, depth);
          float total = 0.0f, counts = 0.0f;
          if (there) {
            const float* f = fixed.at(0, 0, z, y, x);
            const float* m = moving.at(0, 0, z + dz, y + dy, x + dx);
            for (int c = 0; c < channels; ++c, f += fixed.channel, m += moving.channel) {
              total += (*f - *m) * (*f - *m);
            }
            counts = *f * *m;  // these come after the channels
          }
          here[0] = counts > 0.0f ? total * counts : 0.0f;
          here[block_threads] = counts;
        }
        __syncthreads();
        const int number = window.rank(dz, dy, dx);
        float sums[streams][3] = {};  // over 3 x 3 cells of the last three planes
        for (int z = tile.z - 2; mine && beside && z < end; ++z) {
          const int k = z - tile.z;
          for (int s = 0; s < streams; ++s) {
            const float* const here = stage + ((k + 2) * streams + s) * block_threads + thread;
            sums[s][0] = sums[s][1], sums[s][1] = sums[s][2], sums[s][2] = 0.0f;
            for (int j = -1; j <= 1; ++j) {
              for (int i = -1; i <= 1; ++i) sums[s][2] += here[j * block_width + i];
            }
          }
          if (k < 0 || !inside(z + dz, depth)) continue;
          if (!(*moving.at(0, channels, z + dz, y + dy, x + dx) > 0.0f)) continue;
          const float sum = sums[0][0] + sums[0][1] + sums[0][2], count = sums[1][0] + sums[1][1] + sums[1][2];
          const float share = sqrtf(count / *levels.at(0, 1, z, y, x));
          const float value = search_cost(sum, count, share, *levels.at(0, 0, z, y, x), scale);
          float objective = value;
          if constexpr (coupled) {
            const float uz = *coupling.at(n, 0, z, y, x) - float(dz), uy = *coupling.at(n, 1, z, y, x) - float(dy);
            const float ux = *coupling.at(n, 2, z, y, x) - float(dx);
            objective += (uz * uz + uy * uy + ux * ux) * theta;
          }
          // where nothing counts the value is NaN, and no comparison holds
          const int at = k * block_threads;
          if (!(objective < least[at] || (objective == least[at] && number < rank[at]))) continue;
          least[at] = objective;
          cost_of[at] = value;
          rank[at] = number;
        }
        // who still reads this stage keeps all others from passing the barrier after the next one is written
        float* const written = stage;
        stage = other;
        other = written;
      }
    }
  }
  for (int z = tile.z; mine && z < end; ++z) {
    const int at = (z - tile.z) * block_threads;
    float d[3] = {};
    if (rank[at] >= 0) {
      window.displacement(rank[at], d);
    } else if (coupled) {
      d[0] = nearest_step(*coupling.at(n, 0, z, y, x), window.rz);
      d[1] = nearest_step(*coupling.at(n, 1, z, y, x), window.ry);
      d[2] = nearest_step(*coupling.at(n, 2, z, y, x), window.rx);
    }
    for (int axis = 0; axis < 3; ++axis) *displacement.at(n, axis, z, y, x) = d[axis];
    *cost.at(n, 0, z, y, x) = cost_of[at];
  }
}

template <class Index>
void copy(const Call& call, const View& features, const View& counts, std::int64_t n, bool partners, const Tiles& tiles,
          const View& out) {
  const int channels = int(features.channels());
  with_type(features.dtype, [&](auto element) {
    using T = decltype(element);
    const auto run = [&](auto count) {
      using Count = decltype(count);
      call.launch(copy_cells<T, Count, Index>, tiles.count, 0, volume<const T, Index>(features),
                  volume<const Count, Index>(counts), n, channels, partners, tiles, volume<float, Index>(out));
    };
    counts.dtype == DType::uint8 ? run(std::uint8_t{}) : run(float{});
  });
}

}  // namespace

void displacement_search(const DisplacementSearch& in, const View& displacement, const View& cost,
                         const Execution& execution) {
  const Call call("displacement_search", in.fixed, execution);
  const int channels = int(in.fixed.channels());
  const auto scratch = [&](std::int64_t count) {
    View view = contiguous_view(nullptr, DType::float32,
                                {1, count, in.fixed.depth(), in.fixed.height(), in.fixed.width()});
    view.data = call.scratch<float>(view.elements());
    return view;
  };
  const View fixed = scratch(channels + 1), moving = scratch(channels + 2);
  const View along_x = scratch(channels + 2), in_plane = scratch(channels + 2);
  const View own = scratch(2), levels = scratch(2);
  const Tiles tiles(in.fixed, planes, 1), each(in.fixed, planes, channels + 2);
  const SearchTiles cells(in.fixed);
  const SearchWindow window{std::int32_t(in.radius[0]), std::int32_t(in.radius[1]), std::int32_t(in.radius[2])};
  with_index({&in.fixed, &in.moving, &in.weights, &in.moving_mask, &in.coupling, &moving, &displacement, &cost},
             [&](auto index) {
    using Index = decltype(index);
    const auto read = [](const View& view) { return volume<const float, Index>(view); };
    const auto written = [](const View& view) { return volume<float, Index>(view); };
    for (std::int64_t n = 0; n < in.fixed.batch(); ++n) {
      copy<Index>(call, in.fixed, in.weights, n, false, tiles, fixed);
      copy<Index>(call, in.moving, in.moving_mask, n, true, tiles, moving);
      const auto sum = [&](const View& from, int axis, int radius, const View& to) {
        call.launch(window_sums<Index>, each.count, 0, read(from), axis, int(from.shape[2 + axis]),
                    Index(from.stride[2 + axis]), radius, each, written(to));
      };
      sum(moving, 2, window.rx, along_x);
      sum(along_x, 1, window.ry, in_plane);
      call.launch(mean_costs<Index>, tiles.count, 0, read(fixed), read(in_plane), channels, window.rz, tiles,
                  written(own));
      call.launch(find_levels<Index>, tiles.count, 0, read(own), tiles, written(levels));
      const auto run = [&](auto kernel) {
        call.launch(kernel, cells.count, (2 * staged + 3 * kept) * sizeof(float), read(fixed), read(moving),
                    read(levels), channels, n, read(in.coupling), float(in.theta), window, cells,
                    written(displacement), written(cost));
      };
      in.coupling ? run(search<true, Index>) : run(search<false, Index>);
    }
  });
}

}  // namespace masr::cuda
