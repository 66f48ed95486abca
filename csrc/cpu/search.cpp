// Dense displacement search without the cost volume: 4-D in nature (cells x displacements), kept to a few planes.
//
// A task is a block of cells. For one dz at a time it walks along z: the costs of a plane of cells, one row and all dx
// at a time, are summed over the 3 x 3 cells in the plane; the sums of the last three planes lie in a ring, and their
// sum goes straight into the minimum over the displacements that the block keeps. Bound by arithmetic: two operations a
// cell, displacement and channel, of which a fixed cell is read once for several dx.
#include "cpu/search.h"

#include "cpu/search_volumes.h"

namespace masr::MASR_ISA {
namespace {

/// Most floats of a ring: with the rows in use it stays in the L2 cache.
constexpr Index ring_floats = 128 * 1024;
/// Planes of a block: the plane before and the one after it are computed again for their sums.
constexpr Index block_planes = 16;
/// Displacements along x that are computed side by side.
constexpr int side_by_side = 5;

Index larger(Index a, Index b) { return a > b ? a : b; }
bool inside(Index i, Index n) { return i >= 0 && i < n; }

/// `counted`: cells count differently, so how much they count is summed along with their costs; otherwise the number of
/// cells in the grid is known.
template <bool counted>
class Block {
 public:
  Block(const DisplacementSearch& in, Index n, const Volumes& volumes, const SearchWindow& window, Index rows)
      : in_(in), n_(n), volumes_(volumes), window_(window), rows_(rows), pitch_(volumes.fixed_pitch),
        padded_(pitch_ + 2 * lanes), shifts_(window.width()), ring_step_(shifts_ * rows * pitch_),
        ring_((2 * window.ry + 1) * 3 * ring_step_ * streams), raw_(3 * shifts_ * padded_ * streams),
        sums_(shifts_ * padded_ * streams), nothing_(shifts_ * padded_ * streams),
        share_(counted ? 0 : 2 * shifts_ * pitch_), best_(4 * block_planes * rows * pitch_) {
    for (Index i = 0; i < shifts_ * padded_ * streams; ++i) {
      nothing_.data()[i] = 0.0f;
      for (Index slot = 0; slot < 3; ++slot) raw_.data()[slot * shifts_ * padded_ * streams + i] = 0.0f;
    }
    for (Index s = 0; s < shifts_ && !counted; ++s) {
      for (Index x = 0; x < pitch_; ++x) {
        const Share share(x, s - window_.rx, volumes_.width);
        share_.data()[2 * s * pitch_ + x] = share.scale;
        share_.data()[(2 * s + 1) * pitch_ + x] = share.root;
      }
    }
  }

  void run(Index z0, Index z1, Index y0, Index y1, const View& displacement, const View& cost) {
    z0_ = z0, y0_ = y0, z1_ = z1, y1_ = y1;
    for (Index i = 0; i < (z1 - z0) * rows_ * pitch_; i += lanes) {
      store(least() + i, splat(__builtin_inff()));
      store(cost_of() + i, splat(__builtin_nanf("")));
      store(rank_of() + i, (vec)(ivec{} - 1));
    }
    for (std::int32_t dz = -window_.rz; dz <= window_.rz; ++dz) {
      for (Index z = z0 - 1; z <= z1; ++z) plane(z, dz);
    }
    write(displacement, cost);
  }

 private:
  static constexpr int streams = counted ? 2 : 1;  ///< costs, and how much they count

  /// Along an axis of n cells: the cells i - 1, i, i + 1 whose partners, d further, lie in the grid as well.
  struct Share {
    float scale, root;  ///< 1 / their number times the root; the root of their share. NaN where that of i does not.

    Share(Index i, Index d, Index n) : scale(__builtin_nanf("")), root(scale) {
      if (!inside(i, n) || !inside(i + d, n)) return;
      int all = 0, count = 0;
      for (Index k = i - 1; k <= i + 1; ++k) {
        all += inside(k, n);
        count += inside(k, n) && inside(k + d, n);
      }
      root = __builtin_sqrtf(float(count) / float(all));
      scale = root / float(count);
    }
  };

  float* least() const { return best_.data(); }
  float* cost_of() const { return best_.data() + block_planes * rows_ * pitch_; }
  float* rank_of() const { return best_.data() + 2 * block_planes * rows_ * pitch_; }  // 32-bit integers

  float* ring(std::int32_t dy, Index z, int stream) const {
    return ring_.data() + (((dy + window_.ry) * 3 + (z - z0_ + 1) % 3) * streams + stream) * ring_step_;
  }

  /// Costs of plane z into the ring; then those of plane z - 1 have all their neighbours.
  void plane(Index z, std::int32_t dz) {
    const bool here = inside(z, volumes_.depth) && inside(z + dz, volumes_.depth);
    const bool complete = z > z0_ && inside(z - 1 + dz, volumes_.depth);
    for (std::int32_t dy = -window_.ry; dy <= window_.ry; ++dy) {
      const float* rows[3] = {nothing_.data(), nothing_.data(), nothing_.data()};
      for (Index y = y0_ - 1; y <= y1_; ++y) {
        rows[0] = rows[1], rows[1] = rows[2], rows[2] = nothing_.data();
        if (here && inside(y, volumes_.height) && inside(y + dy, volumes_.height)) {
          float* const raw = raw_.data() + (y - y0_ + 1) % 3 * shifts_ * padded_ * streams;
          compare(z, y, dz, dy, raw);
          rows[2] = raw;
        }
        // a row whose partners lie outside is no candidate in any plane
        if (y > y0_ && inside(y - 1 + dy, volumes_.height)) {
          for (Index i = 0; i < shifts_ * padded_ * streams; i += lanes) {
            store(sums_.data() + i, load(rows[0] + i) + load(rows[1] + i) + load(rows[2] + i));
          }
          if (complete) {
            if (in_.coupling) {
              finish<true, true>(z, y - 1, dz, dy);
            } else {
              finish<true, false>(z, y - 1, dz, dy);
            }
          } else {
            finish<false, false>(z, y - 1, dz, dy);
          }
        }
      }
    }
  }

  /// Costs of one row of cells for all dx: raw[stream][shift][lanes + x]; zeros around.
  void compare(Index z, Index y, std::int32_t dz, std::int32_t dy, float* raw) const {
    const float* const fixed = volumes_.fixed(z, y);
    const float* const moving = volumes_.moving(z + dz, y + dy) - window_.rx;
    const Index groups = blocks(shifts_, side_by_side);
    for (Index g = 0; g < groups; ++g) {
      const Index s = shifts_ * g / groups, end = shifts_ * (g + 1) / groups;
      float* const to = raw + s * padded_ + lanes;
      switch (end - s) {
        case 1: compare<1>(fixed, moving + s, to); break;
        case 2: compare<2>(fixed, moving + s, to); break;
        case 3: compare<3>(fixed, moving + s, to); break;
        case 4: compare<4>(fixed, moving + s, to); break;
        default: compare<side_by_side>(fixed, moving + s, to);
      }
    }
  }

  template <int count>
  void compare(const float* fixed, const float* moving, float* to) const {
    const Index channels = volumes_.channels, moving_pitch = volumes_.moving_pitch;
    for (Index x = 0; x < pitch_; x += lanes) {
      vec total[count] = {};
      for (Index c = 0; c < channels; ++c) {
        const vec f = load(fixed + c * pitch_ + x);
        const float* const m = moving + c * moving_pitch + x;
        for (int k = 0; k < count; ++k) {
          const vec difference = f - load(m + k);
          total[k] += difference * difference;
        }
      }
      const vec weight = load(fixed + channels * pitch_ + x);
      for (int k = 0; k < count; ++k) {
        const vec counts = weight * load(moving + channels * moving_pitch + x + k);
        store(to + k * padded_ + x, counts > 0.0f ? total[k] * counts : vec{});
        if (counted) store(to + (shifts_ + k) * padded_ + x, counts);
      }
    }
  }

  /// Sums of row y along x, for all dx, into the ring of plane z; with `complete` the costs of row y of plane z - 1
  /// enter the minimum.
  template <bool complete, bool coupled>
  void finish(Index z, Index y, std::int32_t dz, std::int32_t dy) const {
    float *target[streams], *older[streams], *old[streams];
    for (int k = 0; k < streams; ++k) {
      target[k] = ring(dy, z, k) + (y - y0_) * pitch_;
      if (complete) old[k] = ring(dy, z - 1, k) + (y - y0_) * pitch_;
      if (complete) older[k] = ring(dy, z - 2, k) + (y - y0_) * pitch_;
    }
    float scale = 1.0f / float(volumes_.channels), root = 1.0f;
    if (complete && !counted) {
      const Share along_z(z - 1, dz, volumes_.depth), along_y(y, dy, volumes_.height);
      scale *= along_z.scale * along_y.scale;
      root = along_z.root * along_y.root;
    }
    const float theta = float(in_.theta);
    const Index at = ((z - 1 - z0_) * rows_ + y - y0_) * pitch_;
    const float* const valid =
        counted && complete
            ? volumes_.moving(z - 1 + dz, y + dy) + volumes_.channels * volumes_.moving_pitch - window_.rx
            : nullptr;
    for (Index x = 0; x < pitch_; x += lanes) {
      vec least_here, cost_here, level, inverse_count, beyond{}, ux{};
      ivec rank_here;
      if constexpr (complete) {
        least_here = load(least() + at + x);
        cost_here = load(cost_of() + at + x);
        rank_here = (ivec)load(rank_of() + at + x);
        level = load(volumes_.level(z - 1, y) + x);
        inverse_count = load(volumes_.inverse_count(z - 1, y) + x);
      }
      if constexpr (coupled) {
        const vec uz = coupling(0, z - 1, y, x) - float(dz), uy = coupling(1, z - 1, y, x) - float(dy);
        beyond = uz * uz + uy * uy;
        ux = coupling(2, z - 1, y, x);
      }
      for (std::int32_t s = 0; s < shifts_; ++s) {
        vec total[streams];
        for (int k = 0; k < streams; ++k) {
          const float* const sum = sums_.data() + (k * shifts_ + s) * padded_ + lanes + x;
          total[k] = load(sum - 1) + load(sum) + load(sum + 1);
          store(target[k] + s * rows_ * pitch_ + x, total[k]);
          if (complete) total[k] += load(old[k] + s * rows_ * pitch_ + x) + load(older[k] + s * rows_ * pitch_ + x);
        }
        if constexpr (!complete) continue;
        vec cost;  // NaN where this displacement is no candidate: then no comparison holds
        if constexpr (counted) {
          const vec count = total[1], share = square_root(count * inverse_count);
          cost = search_cost(total[0], count, share, level, scale);
          cost = load(valid + s + x) > 0.0f ? cost : splat(__builtin_nanf(""));
        } else {
          const float* const share = share_.data() + 2 * s * pitch_ + x;
          cost = total[0] * (load(share) * scale) + level * (1.0f - load(share + pitch_) * root);
        }
        vec objective = cost;
        if constexpr (coupled) {
          const vec along = ux - float(s - window_.rx);
          objective += (beyond + along * along) * theta;
        }
        const std::int32_t rank = window_.rank(dz, dy, s - window_.rx);
        const ivec better = (objective < least_here) | ((objective == least_here) & (ivec{} + rank < rank_here));
        least_here = better ? objective : least_here;
        cost_here = better ? cost : cost_here;
        rank_here = better ? ivec{} + rank : rank_here;
      }
      if constexpr (complete) {
        store(least() + at + x, least_here);
        store(cost_of() + at + x, cost_here);
        store(rank_of() + at + x, (vec)rank_here);
      }
    }
  }

  vec coupling(int k, Index z, Index y, Index x) const {
    const float* p = in_.coupling.at<float>(n_, k, z, y, x);
    const Index count = volumes_.width - x, step = in_.coupling.stride[4];
    if (step == 1 && count >= lanes) return load(p);
    vec v{};
    for (Index i = 0; i < lanes && i < count; ++i) v[i] = p[i * step];
    return v;
  }

  void write(const View& displacement, const View& cost) const {
    for (Index z = z0_; z < z1_; ++z) {
      for (Index y = y0_; y < y1_; ++y) {
        const Index at = ((z - z0_) * rows_ + y - y0_) * pitch_;
        for (Index x = 0; x < volumes_.width; ++x) {
          std::int32_t rank;
          std::memcpy(&rank, rank_of() + at + x, sizeof(rank));
          float d[3] = {};
          if (rank >= 0) {
            window_.displacement(rank, d);
          } else if (in_.coupling) {
            const std::int32_t radius[3] = {window_.rz, window_.ry, window_.rx};
            for (int k = 0; k < 3; ++k) d[k] = nearest_step(*in_.coupling.at<float>(n_, k, z, y, x), radius[k]);
          }
          for (int k = 0; k < 3; ++k) *displacement.at<float>(n_, k, z, y, x) = d[k];
          *cost.at<float>(n_, 0, z, y, x) = cost_of()[at + x];
        }
      }
    }
  }

  const DisplacementSearch& in_;
  const Index n_;
  const Volumes& volumes_;
  const SearchWindow window_;
  const Index rows_, pitch_, padded_, shifts_, ring_step_;
  const Scratch ring_, raw_, sums_, nothing_, share_, best_;
  Index z0_ = 0, y0_ = 0, z1_ = 0, y1_ = 0;
};

template <bool counted>
void search(const DisplacementSearch& in, Index n, const Volumes& volumes, const SearchWindow& window,
            const View& displacement, const View& cost) {
  // cut by the volume and the window alone, never by the threads
  const Index floats_a_row = (2 * window.ry + 1) * window.width() * 3 * volumes.fixed_pitch;
  const Index most_rows = larger(4, ring_floats / floats_a_row);
  const Index strips = blocks(volumes.height, most_rows), slabs = blocks(volumes.depth, block_planes);
  const Index rows = blocks(volumes.height, strips);
  parallel_for(strips * slabs, [&](Index task) {
    const Index slab = task % slabs, strip = task / slabs;
    const Index z0 = volumes.depth * slab / slabs, z1 = volumes.depth * (slab + 1) / slabs;
    const Index y0 = volumes.height * strip / strips, y1 = volumes.height * (strip + 1) / strips;
    Block<counted>(in, n, volumes, window, rows).run(z0, z1, y0, y1, displacement, cost);
  });
}

}  // namespace

void displacement_search(const DisplacementSearch& in, const View& displacement, const View& cost) {
  const SearchWindow window{std::int32_t(in.radius[0]), std::int32_t(in.radius[1]), std::int32_t(in.radius[2])};
  for (Index n = 0; n < in.fixed.batch(); ++n) {
    const Volumes volumes(in, n, window);
    if (in.weights || in.moving_mask || !volumes.all_finite) {
      search<true>(in, n, volumes, window, displacement, cost);
    } else {
      search<false>(in, n, volumes, window, displacement, cost);
    }
  }
}

}  // namespace masr::MASR_ISA
