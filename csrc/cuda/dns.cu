// DNS and its adjoint, a thread a voxel: the six neighbours of each layout come from the L1 cache, in which a tile's
// planes stay while its threads go along z.
//
// Forward, 4 -> 24 channels of float32 are 112 bytes a voxel that must move. Where the channels of the result are
// adjacent in memory, a warp collects two groups of relations of its 32 voxels in shared memory and writes them in the
// order of memory. Backward, the gradients to the distances (those of 12 relations a group) are kept for one layout at
// a time; every voxel then collects from the voxels that have it as a neighbour, so that no sum depends on an order.
#include "math/dns.h"

#include "cuda/neighbours.h"
#include "cuda/ops.h"

namespace masr::cuda {
namespace {

constexpr int planes = 8, layouts_at_once = 8, groups_at_once = 2;
constexpr int staged = 12 * groups_at_once + 1;  ///< floats of a voxel; odd, so that lanes meet in no bank
constexpr float log2_e = 1.44269504f;

struct Layouts {
  int count, dilation[layouts_at_once];
};

/// Squared distances of the 12 pairs over `channels` channels.
template <class T, class Index>
__device__ void distances(const Volume<const T, Index>& features, const T* first, int channels,
                          const Neighbours<T, Index>& neighbours, float (&distance)[12]) {
  for (int pair = 0; pair < 12; ++pair) distance[pair] = 0.0f;
  for (int c = 0; c < channels; ++c) {
    float f[6];
    neighbours.read(first + Index(c) * features.channel, f);
    dns_add_channel(f, distance);
  }
}

/// Relations from distances, and 1 / V.
__device__ inline float relate(const float (&distance)[12], float mean, float eps, float (&relation)[12]) {
  const float inverse = 1.0f / (eps > mean ? eps : mean);  // this order lets a NaN through
  const float scale = -log2_e * inverse;
  for (int pair = 0; pair < 12; ++pair) relation[pair] = exp2f(distance[pair] * scale);
  return inverse;
}

/// `per_channel`: every channel has relations of its own. The first layout's relations begin at channel `first` of out.
template <bool adjacent, class T, class Out, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    relations(Volume<const T, Index> features, Volume<Out, Index> out, int channels, bool per_channel,
              const __grid_constant__ Layouts layouts, std::int64_t first, float eps, Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), lane = int(threadIdx.x), x = tile.x + lane;
  const int count = tiles.size[2] - tile.x < block_width ? tiles.size[2] - tile.x : block_width;
  if (y >= tiles.size[1]) return;  // the whole warp
  if (!adjacent && lane >= count) return;
  const int groups = per_channel ? channels : 1;
  float* const stage = adjacent ? shared_memory<float>() + int(threadIdx.y) * block_width * staged : nullptr;
  const T* const item = features.at(tile.item, 0, 0, 0, 0);
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    int waiting = 0;              // groups in the stage
    std::int64_t channel = first;  // of out, of the first of them
    for (int layout = 0; layout < layouts.count; ++layout) {
      const Neighbours<T, Index> neighbours(features, layouts.dilation[layout], z, y, lane < count ? x : tile.x);
      for (int group = 0; group < groups; ++group) {
        float distance[12], relation[12];
        distances(features, item + Index(group) * features.channel, channels / groups, neighbours, distance);
        relate(distance, dns_mean(distance), eps, relation);
        if constexpr (!adjacent) {
          for (int k = 0; k < 12; ++k) assign(*out.at(tile.item, channel + k, z, y, x), relation[k]);
          channel += 12;
        } else {
          for (int k = 0; k < 12; ++k) stage[lane * staged + 12 * waiting + k] = relation[k];
          ++waiting;
          const bool last = layout + 1 == layouts.count && group + 1 == groups;
          if (waiting < groups_at_once && !last) continue;
          __syncwarp();
          const int width = 12 * waiting;
          for (int i = lane; i < count * width; i += block_width) {
            const int voxel = i / width, k = i - voxel * width;
            assign(*out.at(tile.item, channel + k, z, y, tile.x + voxel), stage[voxel * staged + k]);
          }
          __syncwarp();
          channel += width;
          waiting = 0;
        }
      }
    }
  }
}

/// Gradients to the distances of one layout, doubled, float32: 12 volumes for each group of relations, item by item.
template <class T, class Given, class Index>
__global__ void __launch_bounds__(block_threads, few_blocks)
    distance_gradients(Volume<const T, Index> features, Volume<const Given, Index> gradient, int channels,
                       bool per_channel, int dilation, std::int64_t first, float eps, Tiles tiles,
                       Volume<float, Index> weights) {
  const Tile tile = tiles[blockIdx.x];
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  const int groups = per_channel ? channels : 1;
  const T* const item = features.at(tile.item, 0, 0, 0, 0);
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    const Neighbours<T, Index> neighbours(features, dilation, z, y, x);
    for (int group = 0; group < groups; ++group) {
      float distance[12], relation[12], weight[12];
      distances(features, item + Index(group) * features.channel, channels / groups, neighbours, distance);
      const float mean = dns_mean(distance);
      const float inverse = relate(distance, mean, eps, relation);
      for (int k = 0; k < 12; ++k) {
        weight[k] = to_float(*gradient.at(tile.item, first + 12 * group + k, z, y, x));
      }
      dns_distance_gradients(distance, relation, inverse, mean >= eps ? 1.0f / 12.0f : 0.0f, weight);
      for (int k = 0; k < 12; ++k) *weights.at(tile.item, 12 * group + k, z, y, x) = weight[k];
    }
  }
}

}  // namespace

void dns(const View& features, const DnsParameters& parameters, const View& out, const Execution& execution) {
  const Call call("dns", features, execution);
  const Tiles tiles(features, planes, features.batch());
  const bool adjacent = out.stride[1] == 1;
  const std::size_t stage = adjacent ? std::size_t(block_threads) * staged * sizeof(float) : 0;
  const int channels = int(features.channels());
  for (std::int64_t done = 0; done < parameters.layouts; done += layouts_at_once) {
    Layouts layouts{0, {}};
    while (layouts.count < layouts_at_once && done + layouts.count < parameters.layouts) {
      layouts.dilation[layouts.count] = at_most_longest(parameters.dilations[done + layouts.count], features);
      ++layouts.count;
    }
    const std::int64_t first = done * 12 * (parameters.per_channel ? channels : 1);
    with_type(features.dtype, [&](auto in_element) {
      with_type(out.dtype, [&](auto out_element) {
        with_index({&features, &out}, [&](auto index) {
          using T = decltype(in_element);
          using Out = decltype(out_element);
          using Index = decltype(index);
          const auto run = [&](auto kernel) {
            call.launch(kernel, tiles.count, stage, volume<const T, Index>(features), volume<Out, Index>(out), channels,
                        parameters.per_channel, layouts, first, parameters.eps, tiles);
          };
          adjacent ? run(relations<true, T, Out, Index>) : run(relations<false, T, Out, Index>);
        });
      });
    });
  }
}

void dns_backward(const View& features, const View& gradient, const DnsParameters& parameters, const View& out,
                  const Execution& execution) {
  const Call call("dns_backward", features, execution);
  const Tiles tiles(features, planes, features.batch());
  const int channels = int(features.channels());
  const auto scratch = [&](std::int64_t count) {
    auto shape = features.shape;
    shape[1] = count;
    View view = contiguous_view(nullptr, DType::float32, shape);
    view.data = call.scratch<float>(view.elements());
    return view;
  };
  const std::int64_t relations = 12 * (parameters.per_channel ? channels : 1);
  const View weights = scratch(relations), sums = parameters.layouts > 1 ? scratch(channels) : View{};
  for (std::int64_t layout = 0; layout < parameters.layouts; ++layout) {
    const int dilation = at_most_longest(parameters.dilations[layout], features);
    const View before = layout > 0 ? sums : View{};
    with_type(features.dtype, [&](auto in_element) {
      using T = decltype(in_element);
      with_index({&features, &gradient, &weights, &out}, [&](auto index) {
        using Index = decltype(index);
        with_type(gradient.dtype, [&](auto given_element) {
          using Given = decltype(given_element);
          call.launch(distance_gradients<T, Given, Index>, tiles.count, 0, volume<const T, Index>(features),
                      volume<const Given, Index>(gradient), channels, parameters.per_channel, dilation,
                      layout * relations, parameters.eps, tiles, volume<float, Index>(weights));
        });
        const auto collect_into = [&](const View& target, auto out_element) {
          using Out = decltype(out_element);
          call.launch(feature_gradients<T, Out, Index>, tiles.count, 0, volume<const T, Index>(features),
                      volume<const float, Index>(weights), channels, parameters.per_channel, dilation,
                      volume<const float, Index>(before), tiles, volume<Out, Index>(target));
        };
        if (layout + 1 < parameters.layouts) return collect_into(sums, float{});
        with_type(out.dtype, [&](auto out_element) { collect_into(out, out_element); });
      });
    });
  }
}

}  // namespace masr::cuda
