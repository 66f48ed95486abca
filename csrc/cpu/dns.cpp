// DNS and its adjoint. A task owns the output rows of a tile (some rows of some planes) and sweeps it along z.
//
// Forward: bound by the writing of the output, 48 bytes a voxel and group of 12 relations.
// Backward: every relation is computed again and sends gradients to its six neighbours. A task goes through all voxels
// that reach into its tile and keeps what falls inside, so no two tasks write the same voxel and the order of the sums
// does not depend on the number of threads.
#include "cpu/dns.h"

#include "cpu/group_writer.h"
#include "cpu/row_window.h"
#include "math/dns.h"

namespace masr::MASR_ISA {
namespace {

constexpr float log2_e = 1.44269504f;

/// Distance of the neighbours along each axis.
struct Reach {
  std::int64_t z, y, x;
};

/// Beyond n - 1 voxels a replicated border shows every voxel the same.
Reach reach_of(std::int64_t dilation, const View& features) {
  return {smaller(dilation, features.depth() - 1), smaller(dilation, features.height() - 1),
          smaller(dilation, features.width() - 1)};
}

Reach largest_reach(const DnsParameters& parameters, const View& features) {
  std::int64_t largest = 1;
  for (std::int64_t i = 0; i < parameters.layouts; ++i) largest = larger(largest, parameters.dilations[i]);
  return reach_of(largest, features);
}

/// One layout on all channels, or on one: 12 relations.
struct Group {
  Reach reach;
  std::int64_t channel, channels;
};

class Groups {
 public:
  Groups(const View& features, const DnsParameters& parameters)
      : features_(features), parameters_(parameters),
        per_layout_(parameters.per_channel ? features.channels() : 1) {}
  std::int64_t count() const { return parameters_.layouts * per_layout_; }
  Group operator[](std::int64_t g) const {
    return {reach_of(parameters_.dilations[g / per_layout_], features_), g % per_layout_,
            features_.channels() / per_layout_};
  }

 private:
  const View& features_;
  const DnsParameters& parameters_;
  const std::int64_t per_layout_;
};

/// How the volume is cut into tiles: chosen by its size alone, never by the number of threads.
struct Tiles {
  std::int64_t rows, planes, along_y, along_z;

  /// `halo` times the reach in rows are read beyond a tile; what it needs shall stay in the L2 cache.
  Tiles(const View& features, const Reach& reach, std::int64_t halo) : rows(32), planes(32) {
    constexpr std::int64_t cache_floats = 96 * 1024;
    while (rows > 4 && rows > 2 * reach.y &&
           RowWindow::floats(features, reach.z, reach.x, rows + 2 * halo * reach.y) > cache_floats) {
      rows /= 2;
    }
    along_y = (features.height() + rows - 1) / rows;
    along_z = (features.depth() + planes - 1) / planes;
  }
  std::int64_t per_volume() const { return along_y * along_z; }
};

/// The voxels of a tile, which is number `task` of the batch.
struct Tile {
  std::int64_t n, z_begin, z_end, y_begin, y_end;

  Tile(const Tiles& tiles, const View& features, std::int64_t task)
      : n(task / tiles.per_volume()), z_begin(task % tiles.per_volume() / tiles.along_y * tiles.planes),
        z_end(smaller(z_begin + tiles.planes, features.depth())),
        y_begin(task % tiles.along_y * tiles.rows),
        y_end(smaller(y_begin + tiles.rows, features.height())) {}
};

/// Where the six neighbours of the voxels of a row lie: in channel c of voxel x at p[i] + c * pitch[i / 4] + x.
struct NeighbourRows {
  const float* p[6];
  std::int64_t pitch[2];

  /// `padded` is the row itself from the window's padded().
  NeighbourRows(const RowWindow& window, const View& features, const Group& group, std::int64_t z, std::int64_t y,
                const float* padded)
      : pitch{window.pitch(), window.padded_pitch()} {
    const Reach& d = group.reach;
    p[0] = window.row(clamp_index(z - d.z, features.depth()), y);
    p[1] = window.row(clamp_index(z + d.z, features.depth()), y);
    p[2] = window.row(z, clamp_index(y - d.y, features.height()));
    p[3] = window.row(z, clamp_index(y + d.y, features.height()));
    p[4] = padded - d.x;
    p[5] = padded + d.x;
    for (int i = 0; i < 6; ++i) p[i] += group.channel * pitch[i / 4];
  }

  [[gnu::always_inline]] void read(std::int64_t c, std::int64_t x, vec (&f)[6]) const {
    for (int i = 0; i < 6; ++i) f[i] = load(p[i] + c * pitch[i / 4] + x);
  }

  [[gnu::always_inline]] void distances(std::int64_t channels, std::int64_t x, vec (&distance)[12]) const {
    for_each_pair([&](auto pair) { distance[pair] = vec{}; });
    for (std::int64_t c = 0; c < channels; ++c) {
      vec f[6];
      read(c, x, f);
      dns_add_channel(f, distance);
    }
  }
};

/// Relations from distances, and 1 / V. Always inline, and a loop instead of for_each_pair, whose body compilers leave
/// out of line when it is this long: neither array shall pass through memory.
[[gnu::always_inline]] inline vec relate(const vec (&distance)[12], vec mean, float eps, vec (&relation)[12]) {
  const vec inverse = 1.0f / maximum(splat(eps), mean);  // this order lets a NaN through
  const vec scale = -log2_e * inverse;
  for (int pair = 0; pair < 12; ++pair) relation[pair] = exp2_nonpositive(distance[pair] * scale);
  return inverse;
}

/// Sums of the gradients to the features in a tile, float32, a ring of planes that moves along z.
class GradientWindow {
 public:
  GradientWindow(const View& out, const Tile& tile, std::int64_t z_reach, std::int64_t pitch)
      : out_(out), tile_(tile), rows_(tile.y_end - tile.y_begin),
        planes_(smaller(2 * z_reach + 1, out.depth())), pitch_(pitch), opened_(tile.z_begin), closed_(tile.z_begin),
        scratch_(planes_ * rows_ * out.channels() * pitch) {}

  /// Voxel 0 of channel 0; null outside the tile.
  float* row(std::int64_t z, std::int64_t y) const {
    const bool inside = z >= tile_.z_begin && z < tile_.z_end && y >= tile_.y_begin && y < tile_.y_end;
    return inside ? scratch_.data() + (z % planes_ * rows_ + (y - tile_.y_begin)) * out_.channels() * pitch_ : nullptr;
  }

  /// Starts the planes before z from zero.
  void open(std::int64_t z) {
    for (; opened_ < smaller(z, tile_.z_end); ++opened_) {
      std::memset(row(opened_, tile_.y_begin), 0, rows_ * out_.channels() * pitch_ * sizeof(float));
    }
  }

  /// Writes the planes before z, which nothing is added to any more.
  void close(std::int64_t z) {
    for (; closed_ < smaller(z, tile_.z_end); ++closed_) {
      for (std::int64_t y = tile_.y_begin; y < tile_.y_end; ++y) {
        for (std::int64_t c = 0; c < out_.channels(); ++c) {
          narrow(address(out_, tile_.n, c, closed_, y), row(closed_, y) + c * pitch_, out_.dtype, out_.width(),
                 out_.stride[4]);
        }
      }
    }
  }

 private:
  const View& out_;
  const Tile& tile_;
  const std::int64_t rows_, planes_, pitch_;
  std::int64_t opened_, closed_;
  Scratch scratch_;
};

/// Adds a row's gradients to its neighbours along x: `lower` belongs `reach` voxels to the left, `upper` to the right.
void add_along_x(float* total, const float* lower, const float* upper, std::int64_t reach, std::int64_t width) {
  for (std::int64_t x = 0; x < width; x += lanes) {
    store(total + x, load(total + x) + (load(lower + x + reach) + load(upper + x - reach)));
  }
  for (std::int64_t x = 0; x < reach; ++x) {
    total[0] += lower[x];
    total[width - 1] += upper[width - 1 - x];
  }
}

}  // namespace

void dns(const View& features, const DnsParameters& parameters, const View& out) {
  const Reach reach = largest_reach(parameters, features);
  const Tiles tiles(features, reach, 1);
  const Groups groups(features, parameters);
  const std::int64_t width = features.width();

  parallel_for(features.batch() * tiles.per_volume(), [&](std::int64_t task) {
    const Tile tile(tiles, features, task);
    RowWindow window(features, tile.n, reach.z, reach.x, larger(tile.y_begin - reach.y, 0),
                     smaller(tile.y_end + reach.y, features.height()));
    with_writer(out, [&](auto& writer) {
      const Segments segments = writer.segments();
      for (std::int64_t z = tile.z_begin; z < tile.z_end; ++z) {
        window.move_to(z);
        for (std::int64_t y = tile.y_begin; y < tile.y_end; ++y) {
          const OutputRow row{tile.n, z, y, y == tile.y_begin, y + 1 == tile.y_end};
          const float* const padded = window.padded(z, y);
          for (std::int64_t begin = 0; begin < width; begin += segments.width) {
            const std::int64_t end = smaller(begin + segments.width, width);
            for (std::int64_t first = 0; first < groups.count(); first += segments.groups) {
              for (std::int64_t g = first; g < first + segments.groups; ++g) {
                const Group group = groups[g];
                const NeighbourRows rows(window, features, group, z, y, padded);
                for (std::int64_t x = begin; x < end; x += lanes) {
                  vec distance[12], relation[12];
                  rows.distances(group.channels, x, distance);
                  relate(distance, dns_mean(distance), parameters.eps, relation);
                  writer.put(x - begin, g - first, relation);
                }
              }
              writer.end_segment(row, begin, end, first);
            }
          }
        }
      }
    });
  });
}

void dns_backward(const View& features, const View& gradient, const DnsParameters& parameters, const View& out) {
  const Reach reach = largest_reach(parameters, features);
  const Tiles tiles(features, reach, 2);
  const Groups groups(features, parameters);
  const std::int64_t depth = features.depth(), height = features.height(), width = features.width();

  parallel_for(features.batch() * tiles.per_volume(), [&](std::int64_t task) {
    const Tile tile(tiles, features, task);
    RowWindow window(features, tile.n, reach.z, reach.x, larger(tile.y_begin - 2 * reach.y, 0),
                     smaller(tile.y_end + 2 * reach.y, height));
    const std::int64_t pitch = window.padded_pitch();
    GradientWindow sums(out, tile, reach.z, pitch);
    const Scratch gradients(12 * pitch);
    // Along x the gradients of a row are kept, zeros on both sides, and added when the row is done: adding to voxels
    // that the vector before has just written would wait for those stores.
    const std::int64_t x_floats = 2 * groups[0].channels * pitch;
    const Scratch along_x(x_floats);
    for (std::int64_t i = 0; i < x_floats; ++i) along_x.data()[i] = 0.0f;
    float* const lower = along_x.data() + whole_lines(reach.x);
    float* const upper = lower + groups[0].channels * pitch;

    for (std::int64_t z = larger(tile.z_begin - reach.z, 0); z < smaller(tile.z_end + reach.z, depth); ++z) {
      window.move_to(z);
      sums.open(z + reach.z + 1);
      for (std::int64_t y = larger(tile.y_begin - reach.y, 0); y < smaller(tile.y_end + reach.y, height); ++y) {
        float* const centre = sums.row(z, y);
        const float* const padded = window.padded(z, y);
        for (std::int64_t g = 0; g < groups.count(); ++g) {
          const Group group = groups[g];
          float* const total[4] = {sums.row(clamp_index(z - group.reach.z, depth), y),
                                   sums.row(clamp_index(z + group.reach.z, depth), y),
                                   sums.row(z, clamp_index(y - group.reach.y, height)),
                                   sums.row(z, clamp_index(y + group.reach.y, height))};
          if (!total[0] && !total[1] && !total[2] && !total[3] && !centre) continue;
          for (int k = 0; k < 12; ++k) {
            widen(gradients.data() + k * pitch, address(gradient, tile.n, 12 * g + k, z, y), gradient.dtype, width,
                  gradient.stride[4]);
          }
          const NeighbourRows rows(window, features, group, z, y, padded);
          for (std::int64_t x = 0; x < width; x += lanes) {
            vec distance[12], relation[12], weight[12];
            rows.distances(group.channels, x, distance);
            const vec mean = dns_mean(distance);
            const vec inverse = relate(distance, mean, parameters.eps, relation);
            for_each_pair([&](auto pair) { weight[pair] = load(gradients.data() + pair * pitch + x); });
            const vec share = mean >= parameters.eps ? splat(1.0f / 12.0f) : vec{};
            dns_distance_gradients(distance, relation, inverse, share, weight);
            for (std::int64_t c = 0; c < group.channels; ++c) {
              vec f[6], neighbour[6];
              rows.read(c, x, f);
              dns_neighbour_gradients(f, weight, neighbour);
              const std::int64_t offset = (group.channel + c) * pitch + x;
              for (int i = 0; i < 4; ++i) {
                if (total[i]) store(total[i] + offset, load(total[i] + offset) + neighbour[i]);
              }
              store(lower + c * pitch + x, neighbour[4]);
              store(upper + c * pitch + x, neighbour[5]);
            }
          }
          if (!centre) continue;
          for (std::int64_t c = 0; c < group.channels; ++c) {
            float* const row_lower = lower + c * pitch;
            float* const row_upper = upper + c * pitch;
            for (std::int64_t x = width; x < whole_lines(width); ++x) row_lower[x] = row_upper[x] = 0.0f;
            add_along_x(centre + (group.channel + c) * pitch, row_lower, row_upper, group.reach.x, width);
          }
        }
      }
      sums.close(z - reach.z + 1);
    }
    sums.close(tile.z_end);
  });
}

}  // namespace masr::MASR_ISA
