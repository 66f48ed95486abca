// The 12 patch distances of MIND-SSC, row by row: sums over a cube of (f(x+i) - f(x+j))^2 for the pairs of neighbours.
//
// With a < b two axes, d steps along them and s = +-1, let E(u) = (f(u) - f(u + d_a + s d_b))^2. The pair (-a, s b) at
// voxel x compares the same two voxels as E(x - d_a), the pair (+a, -s b) those of E(x - s d_b). So six volumes E are
// filtered for twelve distances. The border is where the two pairs of a volume part: there the squared differences of
// each pair are replicated, which is not the same as filtering E beyond the border, and the lines concerned (those
// within `radius` of an end of the axes a or b) are summed for each pair by itself. Along the third axis both agree.
//
// Sums are taken afresh for every voxel: running sums would be cheaper, and drift.
#pragma once

#include "cpu/row_window.h"
#include "math/mind.h"

namespace masr::MASR_ISA {

using Index = std::int64_t;

/// Size of the image and the distance to a neighbour, per axis. A distance of n - 1 voxels or more always leads to the
/// border, so it is cut to n - 1.
struct Lattice {
  Index size[3], step[3], radius;

  Lattice(const View& image, Index radius, Index dilation) : radius(radius) {
    for (int axis = 0; axis < 3; ++axis) {
      size[axis] = image.shape[2 + axis];
      step[axis] = smaller(dilation, size[axis] - 1);
    }
  }
  Index taps() const { return 2 * radius + 1; }
  bool inside(int axis, Index i) const { return i >= radius && i + radius < size[axis]; }
};

/// One of the six volumes E and its two pairs (-a, s b) and (+a, -s b), as channels.
struct Direction {
  int a, b, sign;
  int pair[2];

  bool along(int axis) const { return axis == a || axis == b; }
  /// Where the second voxel of E lies from the first.
  Index reach(const Lattice& g, int axis) const { return axis == a ? g.step[a] : axis == b ? sign * g.step[b] : 0; }
  /// u - x: where pair p finds its squared difference in E.
  Index shift(const Lattice& g, int p, int axis) const {
    return p == 0 ? (axis == a ? -g.step[a] : 0) : (axis == b ? -sign * g.step[b] : 0);
  }
};
inline constexpr Direction directions[6] = {{0, 1, -1, {0, 5}}, {0, 1, 1, {1, 4}},  {0, 2, -1, {2, 7}},
                                            {0, 2, 1, {3, 6}},  {1, 2, -1, {8, 11}}, {1, 2, 1, {9, 10}}};

/// Rows of the planes z ... z + step of the image as float32, replicated beyond all borders that the tile reaches.
class ImageRows {
 public:
  ImageRows(const View& image, Index n, const Lattice& g, Index y_begin, Index y_end)
      : image_(image), n_(n), planes_(g.step[0] + 1), first_row_(y_begin - g.radius - g.step[1]),
        rows_(y_end - y_begin + 2 * (g.radius + g.step[1])), left_(whole_lines(g.step[2])),
        padded_(left_ + whole_lines(g.size[2] + g.step[2]) + line_floats), pitch_(row_pitch(padded_)),
        scratch_(planes_ * rows_ * pitch_) {}

  /// Makes planes `low` ... `high` available; neither may fall from call to call.
  void move_to(Index low, Index high) {
    for (next_plane_ = larger(next_plane_, low); next_plane_ <= high; ++next_plane_) read(next_plane_);
  }

  /// Voxel 0 of a row; the next row lies pitch() floats on.
  const float* row(Index z, Index y) const {
    return scratch_.data() + (z % planes_ * rows_ + (y - first_row_)) * pitch_ + left_;
  }
  Index pitch() const { return pitch_; }

 private:
  void read(Index z) {
    const Index width = image_.width();
    for (Index i = 0; i < rows_; ++i) {
      const Index y = clamp_index(first_row_ + i, image_.height());
      float* p = scratch_.data() + (z % planes_ * rows_ + i) * pitch_ + left_;
      if (i > 0 && y == clamp_index(first_row_ + i - 1, image_.height())) {
        std::memcpy(p - left_, p - left_ - pitch_, padded_ * sizeof(float));
        continue;
      }
      widen(p, address(image_, n_, 0, z, y), image_.dtype, width, image_.stride[4]);
      for (Index x = -left_; x < 0; ++x) p[x] = p[0];
      for (Index x = width; x < padded_ - left_; ++x) p[x] = p[width - 1];
    }
  }

  const View& image_;
  const Index n_, planes_, first_row_, rows_, left_, padded_, pitch_;
  Index next_plane_ = 0;
  Scratch scratch_;
};

/// Rows of a tile at most; see PatchDistances.
inline constexpr int tile_rows = 12;

/// The rows of E, summed along y, that a tile needs of one direction. A slot is one such row of a plane.
struct RowPlan {
  struct Slot {
    Index target[2] = {-1, -1};  ///< row of the tile that it gives pair 0 and 1, -1 for none
    int border_pair = -1;        ///< the pair whose border row it is, -1 for rows of E as such
  };
  struct Run {
    Index centre = 0, rows = 0, slot = 0;  ///< rows of E centre ... centre + rows - 1 are slots slot ... slot + rows - 1
  };
  Slot slots[4 * tile_rows];
  Run runs[2];
  int slot_count = 0, run_count = 0;

  RowPlan() = default;
  RowPlan(const Direction& direction, const Lattice& g, Index y_begin, Index y_end) {
    const Index rows = y_end - y_begin;
    const Index shift[2] = {direction.shift(g, 0, 1), direction.shift(g, 1, 1)};
    const Index low = smaller(shift[0], shift[1]), high = larger(shift[0], shift[1]);
    if (high - low <= rows) {
      runs[run_count++] = {y_begin + low, rows + high - low, 0};
    } else {
      runs[run_count++] = {y_begin + low, rows, 0};
      runs[run_count++] = {y_begin + high, rows, rows};
    }
    slot_count = int(runs[run_count - 1].slot + runs[run_count - 1].rows);
    for (int p = 0; p < 2; ++p) {
      for (Index y = y_begin; y < y_end; ++y) {
        const bool shared = !direction.along(1) || g.inside(1, y);
        const Index slot = shared ? slot_of(y + shift[p]) : slot_count++;
        slots[slot].target[p] = y;
        slots[slot].border_pair = shared ? -1 : p;
      }
    }
  }

 private:
  Index slot_of(Index u) const {
    const Run& run = run_count > 1 && u >= runs[1].centre ? runs[1] : runs[0];
    return run.slot + (u - run.centre);
  }
};

/// Where a tile keeps what: slots of all directions in a plane of the ring, and planes of finished distances.
struct TilePlan {
  RowPlan rows[6];
  Index first_slot[6], slots = 0;
  Index planes[12], first_plane[12], all_planes = 0;

  TilePlan(const Lattice& g, Index y_begin, Index y_end) {
    for (int i = 0; i < 6; ++i) {
      rows[i] = RowPlan(directions[i], g, y_begin, y_end);
      first_slot[i] = slots;
      slots += rows[i].slot_count;
      for (int p = 0; p < 2; ++p) {
        const int k = directions[i].pair[p];
        planes[k] = 1 - directions[i].shift(g, p, 0);  // distances are finished so many planes ahead of their use
        first_plane[k] = all_planes;
        all_planes += planes[k];
      }
    }
  }
};

/// Distances of the rows [y_begin, y_end), at most tile_rows, plane after plane. R is the radius where it is known to
/// the compiler, else -1.
template <int R>
class PatchDistances {
 public:
  PatchDistances(const View& image, Index n, const Lattice& g, Index y_begin, Index y_end)
      : g_(g), y_begin_(y_begin), rows_(y_end - y_begin), image_(image, n, g, y_begin, y_end), plan_(g, y_begin, y_end),
        pitch_(row_pitch(g.size[2] + g.step[2] + line_floats)), margin_(whole_lines(g.step[2])),
        distance_pitch_(row_pitch(margin_ + g.size[2] + g.step[2] + 2 * line_floats)), reach_(whole_lines(g.radius)),
        ring_(taps() * plan_.slots * pitch_), sum_(2 * reach_ + pitch_ + line_floats),
        distances_(plan_.all_planes * rows_ * distance_pitch_), unused_(distance_pitch_),
        pointers_(2 * taps() * floats_per_pointer) {}

  Index distance_pitch() const { return distance_pitch_; }

  /// consume(z, y, rows) for every row of the planes [z_begin, z_end) in order: rows[k] are the sums of channel k, of
  /// which whole vectors may be read.
  template <class Consumer>
  void run(Index z_begin, Index z_end, Consumer&& consume) {
    const Index start = z_begin - g_.step[0];
    Index next = start - g_.radius;
    for (Index z = start; z < z_end; ++z) {
      for (; next <= z + g_.radius; ++next) sum_along_y(next, next < z_begin - g_.radius);
      for (int i = 0; i < 6; ++i) sum_along_z_and_x(i, z, z_begin, z_end);
      if (z < z_begin) continue;
      const float* rows[12];
      for (int k = 0; k < 12; ++k) rows[k] = distance_plane(k, z);
      for (Index y = 0; y < rows_; ++y) {
        consume(z, y_begin_ + y, rows);
        for (int k = 0; k < 12; ++k) rows[k] += distance_pitch_;
      }
    }
  }

 private:
  Index taps() const { return R < 0 ? g_.taps() : 2 * R + 1; }
  /// Slot 0 of a direction in the ring's plane u, which may be negative; slots lie pitch_ floats apart.
  float* ring_plane(Index u, int direction) const {
    const Index plane = (u % taps() + taps()) % taps();
    return ring_.data() + (plane * plan_.slots + plan_.first_slot[direction]) * pitch_;
  }
  /// Row y_begin of channel k; rows lie distance_pitch_ floats apart.
  float* distance_plane(int k, Index z) const {
    return distances_.data() + (plan_.first_plane[k] + z % plan_.planes[k]) * rows_ * distance_pitch_ + margin_;
  }
  /// Row elements of E: along x it begins where the first pair needs it.
  Index first_x(const Direction& d) const { return d.b == 2 && d.sign > 0 ? -g_.step[2] : 0; }
  Index length(const Direction& d) const { return g_.size[2] + (d.b == 2 ? g_.step[2] : 0); }

  /// Plane u of every E (that lies along z, with `only_along_z`), summed along y, into the ring.
  void sum_along_y(Index u, bool only_along_z) {
    const Index low = clamp_index(u, g_.size[0]), high = clamp_index(u + g_.step[0], g_.size[0]);
    image_.move_to(low, high);
    for (int i = 0; i < 6; ++i) {
      const Direction& d = directions[i];
      if (only_along_z && !d.along(0)) continue;
      const RowPlan& plan = plan_.rows[i];
      const Index dy = d.reach(g_, 1), dx = d.reach(g_, 2), other = d.along(0) ? high : low, count = length(d);
      const auto first = [&](Index y) { return image_.row(low, y) + first_x(d); };
      const auto second = [&](Index y) { return image_.row(other, y + dy) + first_x(d) + dx; };
      float* out = ring_plane(u, i);
      for (int r = 0; r < plan.run_count; ++r) {
        const RowPlan::Run& run = plan.runs[r];
        const Index y = run.centre - g_.radius;
        sum_squares(first(y), second(y), out + run.slot * pitch_, run.rows, count);
      }
      for (int slot = 0; slot < plan.slot_count; ++slot) {
        const int p = plan.slots[slot].border_pair;
        if (p < 0) continue;
        sum_border_squares(first, second, plan.slots[slot].target[p], d.shift(g_, p, 1), out + slot * pitch_, count);
      }
    }
  }

  /// Sums of taps() consecutive squares a - b down the columns, for `rows` rows of output.
  void sum_squares(const float* a, const float* b, float* out, Index rows, Index count) const {
    const Index pitch = image_.pitch();
    const auto square = [&](Index row, Index x) {
      const vec difference = load(a + row * pitch + x) - load(b + row * pitch + x);
      return difference * difference;
    };
    for (Index x = 0; x < count; x += lanes) {
      if constexpr (R >= 0) {
        vec window[2 * R + 1];
        for (int t = 0; t < 2 * R; ++t) window[t + 1] = square(t, x);
        for (Index row = 0; row < rows; ++row) {
          for (int t = 0; t < 2 * R; ++t) window[t] = window[t + 1];
          window[2 * R] = square(row + 2 * R, x);
          vec total = window[0];
          for (int t = 1; t <= 2 * R; ++t) total += window[t];
          store(out + row * pitch_ + x, total);
        }
      } else {
        for (Index row = 0; row < rows; ++row) {
          vec total = square(row, x);
          for (Index t = 1; t < taps(); ++t) total += square(row + t, x);
          store(out + row * pitch_ + x, total);
        }
      }
    }
  }

  /// The sum for row y of a pair whose squared differences are replicated beyond the border.
  template <class First, class Second>
  void sum_border_squares(First first, Second second, Index y, Index shift, float* out, Index count) const {
    for (Index t = 0; t < taps(); ++t) {
      const Index u = clamp_index(y + t - g_.radius, g_.size[1]) + shift;
      const float *a = first(u), *b = second(u);
      for (Index x = 0; x < count; x += lanes) {
        const vec difference = load(a + x) - load(b + x);
        store(out + x, t == 0 ? difference * difference : load(out + x) + difference * difference);
      }
    }
  }

  /// From the planes around plane u of direction i: the finished distances of its two pairs.
  void sum_along_z_and_x(int i, Index u, Index z_begin, Index z_end) {
    const Direction& d = directions[i];
    const float** planes[2] = {pointers(), pointers() + taps()};
    float* distances[2];
    for (int p = 0; p < 2; ++p) {
      const Index shift = d.shift(g_, p, 0), z = u - shift;
      distances[p] = z >= z_begin && z < z_end ? distance_plane(d.pair[p], z) : nullptr;
      if (distances[p] == nullptr) continue;
      for (Index t = 0; t < taps(); ++t) {
        planes[p][t] = ring_plane(clamp_index(z + t - g_.radius, g_.size[0]) + shift, i);
      }
    }
    bool equal = distances[0] && distances[1];
    for (Index t = 0; t < taps() && equal; ++t) equal = planes[0][t] == planes[1][t];
    float* const nowhere = unused_.data() + margin_;
    for (Index slot = 0; slot < plan_.rows[i].slot_count; ++slot) {
      float* target[2];
      for (int p = 0; p < 2; ++p) {
        const Index y = plan_.rows[i].slots[slot].target[p];
        target[p] = distances[p] && y >= 0 ? distances[p] + (y - y_begin_) * distance_pitch_ : nowhere;
      }
      for (int p = 0; p < 2; ++p) {
        if (target[p] == nowhere || (p == 1 && equal && target[0] != nowhere)) continue;
        sum_planes(planes[p], slot * pitch_, length(d));
        sum_along_x(d, p == 0 ? target[0] : nowhere, p == 1 || equal ? target[1] : nowhere);
      }
    }
  }

  /// Sum over planes of the row that lies `offset` floats into each, into sum_.
  void sum_planes(const float* const* planes, Index offset, Index count) {
    float* out = sum_.data() + reach_;
    if constexpr (R >= 0) {
      const float* rows[2 * R + 1];
      for (int t = 0; t <= 2 * R; ++t) rows[t] = planes[t] + offset;
      for (Index x = 0; x < count; x += lanes) {
        vec total = load(rows[0] + x);
        for (int t = 1; t <= 2 * R; ++t) total += load(rows[t] + x);
        store(out + x, total);
      }
    } else {
      for (Index t = 0; t < taps(); ++t) {
        const float* row = planes[t] + offset;
        for (Index x = 0; x < count; x += lanes) store(out + x, t == 0 ? load(row + x) : load(out + x) + load(row + x));
      }
    }
  }

  /// Sums along x of the row in sum_: those of pair 0 and pair 1.
  void sum_along_x(const Direction& d, float* target0, float* target1) {
    float* row = sum_.data() + reach_;
    const Index count = length(d), width = g_.size[2], radius = R < 0 ? g_.radius : R;
    for (Index t = 1; t <= radius; ++t) {
      row[-t] = row[0];
      row[count - 1 + t] = row[count - 1];
    }
    float* const target[2] = {target0, target1};
    const Index offset[2] = {d.shift(g_, 0, 2) - first_x(d), d.shift(g_, 1, 2) - first_x(d)};
    float *const out0 = target0 - offset[0], *const out1 = target1 - offset[1];
    for (Index x = 0; x < count; x += lanes) {
      vec total = load(row + x - radius);
      for (Index t = 1; t <= 2 * radius; ++t) total += load(row + x - radius + t);
      store(out0 + x, total);
      store(out1 + x, total);
    }
    for (int p = 0; p < 2; ++p) {
      const float* own = row + offset[p];  // of these `width` elements the ends are replicated for this pair
      const auto sum_around = [&](Index x) {
        float total = 0;
        for (Index t = -radius; t <= radius; ++t) total += own[clamp_index(x + t, width)];
        target[p][x] = total;
      };
      if (offset[p] > 0) {
        for (Index x = 0; x < smaller(radius, width); ++x) sum_around(x);
      }
      if (offset[p] + width < count) {
        for (Index x = larger(0, width - radius); x < width; ++x) sum_around(x);
      }
    }
  }

  static constexpr Index floats_per_pointer = sizeof(void*) / sizeof(float);
  const float** pointers() const { return reinterpret_cast<const float**>(pointers_.data()); }

  const Lattice& g_;
  const Index y_begin_, rows_;
  ImageRows image_;
  const TilePlan plan_;
  const Index pitch_, margin_, distance_pitch_, reach_;
  Scratch ring_, sum_, distances_, unused_, pointers_;
};

template <int R>
struct KnownRadius {
  static constexpr int value = R;
};
/// f(KnownRadius<R>()), R being the radius if it is one of those in common use, else -1.
template <class F>
static inline void with_radius(Index radius, F&& f) {
  if (radius == 1) {
    f(KnownRadius<1>());
  } else if (radius == 2) {
    f(KnownRadius<2>());
  } else {
    f(KnownRadius<-1>());
  }
}

}  // namespace masr::MASR_ISA
