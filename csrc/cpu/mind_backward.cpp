// MIND-SSC backward, in three sweeps over a float32 volume of 12 channels:
//   1. the gradient to the patch distances, from distances that are computed again, summed along x;
//   2. its sums along y, then along z: now it is the gradient to the squared differences;
//   3. every voxel of the image collects from the squared differences that read it.
// Every task writes its own rows only, in an order that does not depend on the threads.
#include "cpu/mind.h"
#include "cpu/mind_tiles.h"

namespace masr::MASR_ISA {
namespace {

/// A float32 volume with room for whole vectors `reach` voxels beyond both ends of its rows.
class PaddedVolume {
 public:
  PaddedVolume(const Lattice& g, Index channels, Index reach)
      : depth_(g.size[0]), height_(g.size[1]), left_(whole_lines(reach)),
        pitch_(row_pitch(left_ + whole_lines(g.size[2]) + left_)), scratch_(channels * depth_ * height_ * pitch_) {}
  float* row(Index c, Index z, Index y) const {
    return scratch_.data() + ((c * depth_ + z) * height_ + y) * pitch_ + left_;
  }

 private:
  const Index depth_, height_, left_, pitch_;
  Scratch scratch_;
};

/// Sums along x of a row: the adjoint of the box filter with replicated border.
void spread_along_x(const float* row, float* out, Index width, Index radius) {
  for (Index x = 0; x < width; x += lanes) {
    vec total = load(row + x - radius);
    for (Index t = 1; t <= 2 * radius; ++t) total += load(row + x - radius + t);
    store(out + x, total);
  }
  for (const Index x : {Index(0), width - 1}) {
    float total = 0;
    for (Index i = larger(0, x - radius); i <= smaller(width - 1, x + radius); ++i) {
      total += float(times_read(x, i, width, radius)) * row[i];
    }
    out[x] = total;
  }
}

/// The same along an axis of n rows, in place; row(i) is row i, `scratch` holds min(n, radius + 1) + 1 rows of `pitch`.
template <class Row>
void spread_rows(Row row, Index n, Index width, Index radius, Index pitch, float* scratch) {
  const Index kept = smaller(n, radius + 1);
  float* const total = scratch + kept * pitch;
  for (Index j = 0; j < n; ++j) {
    // rows before j hold sums already: what they were is in scratch
    std::memcpy(scratch + j % kept * pitch, row(j), width * sizeof(float));
    for (Index i = larger(0, j - radius); i <= smaller(n - 1, j + radius); ++i) {
      const float* source = i <= j ? scratch + i % kept * pitch : row(i);
      const vec weight = splat(float(times_read(j, i, n, radius)));
      const bool first = i == larger(0, j - radius);
      for (Index x = 0; x < width; x += lanes) {
        store(total + x, first ? weight * load(source + x) : load(total + x) + weight * load(source + x));
      }
    }
    std::memcpy(row(j), total, width * sizeof(float));
  }
}

/// Sweep 1 for one row: from the gradient to the descriptor (in `rows`, which it overwrites) to that of the patch sums.
void distance_gradient(const float* const (&sums)[12], float scale, Bounds bounds, Index width, float* rows, Index pitch) {
  for (Index x = 0; x < width; x += lanes) {
    vec distance[12], gradient[12];
    const vec mean = relative_distances(sums, x, scale, distance);
    const vec variance = bounds.apply(mean), inverse = 1.0f / variance;
    vec product = splat(0.0f);
    for (int k = 0; k < 12; ++k) {
      const vec ratio = distance[k] * (scale * inverse);
      const vec value = exp2_nonpositive(maximum(splat(-126.0f), ratio * -log2_of_e));
      gradient[k] = load(rows + k * pitch + x) * value * inverse;
      product += gradient[k] * ratio;
    }
    const vec through_variance = variance == mean ? product * (1.0f / 12.0f) : splat(0.0f);
    vec total = splat(0.0f);
    for (int k = 0; k < 12; ++k) {
      gradient[k] = (through_variance - gradient[k]) * scale;
      total += gradient[k];
    }
    ivec found{};  // the least distance was subtracted from all; of equal ones the first
    for (int k = 0; k < 12; ++k) {
      const ivec least = (distance[k] == 0.0f) & ~found;
      found |= least;
      store(rows + k * pitch + x, least ? gradient[k] - total : gradient[k]);
    }
  }
}

/// Sweep 3: collects the gradient of rows of the image.
class Collector {
 public:
  Collector(const Lattice& g, const PaddedVolume& image, const PaddedVolume& gradient)
      : g_(g), image_(image), gradient_(gradient), pitch_(row_pitch(g.size[2])), scratch_(2 * pitch_) {}

  /// The gradient of row (z, y); valid until the next call.
  const float* row(Index z, Index y) {
    const Index width = g_.size[2];
    float *const total = scratch_.data(), *const part = total + pitch_;
    std::memset(total, 0, pitch_ * sizeof(float));
    for (int neighbour = 0; neighbour < 6; ++neighbour) {
      const int axis = neighbour_axis(neighbour);
      const Index offset = neighbour_sign(neighbour) * g_.step[axis];
      if (axis == 2) {
        std::memset(part, 0, pitch_ * sizeof(float));
        add_neighbour_gradient(neighbour, z, y, part);
        for (Index x = 0; x < width; ++x) total[clamp_index(x + offset, width)] += part[x];
      } else {
        const Index here = axis == 0 ? z : y;
        const Readers<Index> readers(here, offset, g_.size[axis]);
        for (Index i = readers.begin; i < readers.end; ++i) {
          add_neighbour_gradient(neighbour, axis == 0 ? i : z, axis == 0 ? y : i, total);
        }
      }
    }
    return total;
  }

 private:
  /// f(v + neighbour) for the voxels v of row (z, y).
  const float* neighbour_row(int neighbour, Index z, Index y) const {
    const int axis = neighbour_axis(neighbour);
    const Index offset = neighbour_sign(neighbour) * g_.step[axis];
    return image_.row(0, axis == 0 ? clamp_index(z + offset, g_.size[0]) : z,
                      axis == 1 ? clamp_index(y + offset, g_.size[1]) : y) + (axis == 2 ? offset : 0);
  }

  /// Adds the gradient to f(v + neighbour) for the voxels v of row (z, y).
  void add_neighbour_gradient(int neighbour, Index z, Index y, float* total) const {
    const float *const own = neighbour_row(neighbour, z, y), *partner[4], *gradient[4];
    int count = 0;
    for (int k = 0; k < 12; ++k) {
      const int i = mind_pairs[k][0], j = mind_pairs[k][1];
      if (i != neighbour && j != neighbour) continue;
      partner[count] = neighbour_row(i == neighbour ? j : i, z, y);
      gradient[count++] = gradient_.row(k, z, y);
    }
    for (Index x = 0; x < g_.size[2]; x += lanes) {
      vec sum = splat(0.0f);
      for (int k = 0; k < 4; ++k) sum += (load(own + x) - load(partner[k] + x)) * load(gradient[k] + x);
      store(total + x, load(total + x) + 2.0f * sum);
    }
  }

  const Lattice& g_;
  const PaddedVolume &image_, &gradient_;
  const Index pitch_;
  Scratch scratch_;
};

}  // namespace

void mind_ssc_backward(const View& image, Index radius, Index dilation, const View& mean, const View& gradient,
                       const View& out) {
  const Lattice g(image, radius, dilation);
  const Tiles tiles(g);
  const Index depth = g.size[0], height = g.size[1], width = g.size[2], pitch = row_pitch(width);
  const float scale = 1.0f / (float(g.taps()) * float(g.taps()) * float(g.taps()));
  const PaddedVolume copy(g, 1, g.step[2]), volume(g, 12, 0);
  for (Index n = 0; n < image.batch(); ++n) {
    const float item_mean = *mean.at<float>(n, 0, 0, 0, 0);
    parallel_for(depth, [&](Index z) {
      for (Index y = 0; y < height; ++y) {
        float* row = copy.row(0, z, y);
        widen(row, address(image, n, 0, z, y), image.dtype, width, image.stride[4]);
        for (Index x = 1; x <= g.step[2]; ++x) {
          row[-x] = row[0];
          row[width - 1 + x] = row[width - 1];
        }
      }
    });
    with_radius(radius, [&](auto known) {
      parallel_for(tiles.count(), [&](Index task) {
        const Tile tile = tiles[task];
        const Index margin = whole_lines(radius), padded = row_pitch(width + 2 * margin);
        Scratch scratch(12 * padded);
        float* const rows = scratch.data() + margin;
        PatchDistances<decltype(known)::value> distances(image, n, g, tile.y_begin, tile.y_end);
        distances.run(tile.z_begin, tile.z_end, [&](Index z, Index y, const float* const(&sums)[12]) {
          for (int k = 0; k < 12; ++k) {
            widen(rows + k * padded, address(gradient, n, k, z, y), gradient.dtype, width, gradient.stride[4]);
          }
          distance_gradient(sums, scale, Bounds(item_mean), width, rows, padded);
          for (int k = 0; k < 12; ++k) {
            float* row = rows + k * padded;
            for (Index x = 1; x <= radius; ++x) row[-x] = row[width - 1 + x] = 0.0f;
            spread_along_x(row, volume.row(k, z, y), width, radius);
          }
        });
      });
    });
    if (radius > 0) {
      const auto rows_kept = [&](Index size) { return (smaller(size, radius + 1) + 1) * pitch; };
      parallel_for(12 * depth, [&](Index task) {
        Scratch scratch(rows_kept(height));
        const auto row = [&](Index y) { return volume.row(int(task / depth), task % depth, y); };
        spread_rows(row, height, width, radius, pitch, scratch.data());
      });
      parallel_for(12 * height, [&](Index task) {
        Scratch scratch(rows_kept(depth));
        const auto row = [&](Index z) { return volume.row(int(task / height), z, task % height); };
        spread_rows(row, depth, width, radius, pitch, scratch.data());
      });
    }
    parallel_for(depth, [&](Index z) {
      Collector collector(g, copy, volume);
      for (Index y = 0; y < height; ++y) {
        narrow(address(out, n, 0, z, y), collector.row(z, y), out.dtype, width, out.stride[4]);
      }
    });
  }
}

}  // namespace masr::MASR_ISA
