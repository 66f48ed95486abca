// What composition needs beside warping: sums of fields.
#include "cuda/ops.h"
#include "cuda/volume.h"

namespace masr::cuda {
namespace {

constexpr int planes = 4;

/// target = factor * source, added to what is there if `keep`.
template <class Index>
__global__ void __launch_bounds__(block_threads)
    combine(Volume<const float, Index> source, float factor, bool keep, Volume<float, Index> target, int channels,
            Tiles tiles) {
  const Tile tile = tiles[blockIdx.x];
  const std::int64_t n = tile.item / channels, c = tile.item % channels;
  const int y = tile.y + int(threadIdx.y), x = tile.x + int(threadIdx.x);
  if (y >= tiles.size[1] || x >= tiles.size[2]) return;
  for (int z = tile.z; z < tiles.end(tile); ++z) {
    float* const here = target.at(n, c, z, y, x);
    const float scaled = *source.at(n, c, z, y, x) * factor;
    *here = keep ? *here + scaled : scaled;
  }
}

void run(const char* op, const View& source, float factor, bool keep, const View& target, const Execution& execution) {
  const Call call(op, target, execution);
  const Tiles tiles(target, planes, target.batch() * target.channels());
  with_index({&source, &target}, [&](auto index) {
    using Index = decltype(index);
    call.launch(combine<Index>, tiles.count, 0, volume<const float, Index>(source), factor, keep,
                volume<float, Index>(target), int(target.channels()), tiles);
  });
}

}  // namespace

void scale_field(const View& source, float factor, const View& target, const Execution& execution) {
  run("exponential", source, factor, false, target, execution);
}

void add_field(const View& source, const View& target, const Execution& execution) {
  run("compose", source, 1.0f, true, target, execution);
}

}  // namespace masr::cuda
