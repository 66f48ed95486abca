// MIND-SSC forward: descriptors with V as each voxel has it, then those voxels put right whose V is out of bounds.
//
// The bounds are multiples of the mean of V over the volume, known only at the end. Writing waits for nobody: V is kept,
// and exp(-D / V) becomes exp(-D / bound) by taking it to the power V / bound.
#include "cpu/mind.h"

#include "cpu/group_writer.h"
#include "cpu/mind_tiles.h"

namespace masr::MASR_ISA {
namespace {

/// Writes a row of the descriptor and of V, and returns the sum of V.
template <class Writer>
double describe_row(const float* const (&rows)[12], float scale, Writer& writer, const OutputRow& row, Index width,
                    float* variance) {
  const Segments segments = writer.segments();
  vec total = splat(0.0f);
  for (Index begin = 0; begin < width; begin += segments.width) {
    const Index end = smaller(begin + segments.width, width);
    for (Index x = begin; x < end; x += lanes) {
      vec distance[12];
      const vec mean = relative_distances(rows, x, scale, distance);
      const vec factor = splat(-scale * log2_of_e) / maximum(splat(mind_smallest_variance), mean);
      for (int k = 0; k < 12; ++k) distance[k] = exp2_nonpositive(distance[k] * factor);
      writer.put(x - begin, 0, distance);
      if (x + lanes <= width) {
        store(variance + x, mean);
        total += mean;
      } else {
        float rest[lanes];
        store(rest, mean);
        for (Index i = 0; i < lanes; ++i) {
          if (x + i < width) variance[x + i] = rest[i];
          if (x + i >= width) rest[i] = 0.0f;
        }
        total += load(rest);
      }
    }
    writer.end_segment(row, begin, end, 0);
  }
  return double(sum(total));
}

/// Puts a row of the descriptor right where V is out of bounds. Whole vectors of `variance` are read.
void correct_row(const View& out, Index n, Index z, Index y, const float* variance, Bounds bounds, float* scratch) {
  const Index width = out.width();
  float *const power = scratch, *const values = scratch + whole_lines(width);
  ivec changed{};
  for (Index x = 0; x < width; x += lanes) {
    const vec v = load(variance + x), ratio = maximum(splat(mind_smallest_variance), v) / bounds.apply(v);
    // where V is 0 the descriptor is 1, whatever the bounds
    const vec p = ((v == 0.0f) & (ratio == ratio)) ? splat(1.0f) : ratio;
    store(power + x, p);
    changed |= p != 1.0f;
  }
  bool any = false;
  for (int i = 0; i < lanes; ++i) any |= changed[i] != 0;
  if (!any) return;
  for (Index x = width; x < whole_lines(width); ++x) values[x] = 1.0f;
  for (int k = 0; k < 12; ++k) {
    void* row = address(out, n, k, z, y);
    widen(values, row, out.dtype, width, out.stride[4]);
    for (Index x = 0; x < width; x += lanes) {
      const vec before = load(values + x), p = load(power + x);
      const vec exponent = maximum(splat(-126.0f), log2_positive(before) * p);
      store(values + x, p == 1.0f ? before : exp2_nonpositive(exponent));
    }
    narrow(row, values, out.dtype, width, out.stride[4]);
  }
}

}  // namespace

void mind_ssc(const View& image, Index radius, Index dilation, const View& out, const View& mean) {
  const Lattice g(image, radius, dilation);
  const Tiles tiles(g);
  const Index depth = g.size[0], height = g.size[1], width = g.size[2];
  Scratch variance(image.voxels() + lanes), totals(2 * tiles.count());
  const float scale = 1.0f / (float(g.taps()) * float(g.taps()) * float(g.taps()));
  for (Index n = 0; n < image.batch(); ++n) {
    with_radius(radius, [&](auto known) {
      parallel_for(tiles.count(), [&](Index task) {
        const Tile tile = tiles[task];
        double total = 0.0;
        with_writer(out, [&](auto& writer) {
          PatchDistances<decltype(known)::value> distances(image, n, g, tile.y_begin, tile.y_end);
          distances.run(tile.z_begin, tile.z_end, [&](Index z, Index y, const float* const(&rows)[12]) {
            float* v = variance.data() + (z * height + y) * width;
            const OutputRow row{n, z, y, y == tile.y_begin, y + 1 == tile.y_end};
            total += describe_row(rows, scale, writer, row, width, v);
          });
        });
        reinterpret_cast<double*>(totals.data())[task] = total;
      });
    });
    double total = 0.0;
    for (Index task = 0; task < tiles.count(); ++task) total += reinterpret_cast<double*>(totals.data())[task];
    const float item_mean = float(total / double(image.voxels()));
    *mean.at<float>(n, 0, 0, 0, 0) = item_mean;
    parallel_for(depth, [&](Index z) {
      Scratch scratch(2 * whole_lines(width));
      for (Index y = 0; y < height; ++y) {
        correct_row(out, n, z, y, variance.data() + (z * height + y) * width, Bounds(item_mean), scratch.data());
      }
    });
  }
}

}  // namespace masr::MASR_ISA
