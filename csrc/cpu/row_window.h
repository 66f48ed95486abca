// The part of a feature volume that a tile of rows reads, as float32: in place, or converted into a ring of planes that
// moves along z.
#pragma once

#include "cpu/convert.h"
#include "cpu/scratch.h"

namespace masr::MASR_ISA {

static inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
static inline std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
/// The voxel of an axis of n that stands for voxel i where the border is replicated.
static inline std::int64_t clamp_index(std::int64_t i, std::int64_t n) { return i < 0 ? 0 : i < n ? i : n - 1; }

/// Element (n, c, z, y, 0) of a view of any type.
static inline void* address(const View& view, std::int64_t n, std::int64_t c, std::int64_t z, std::int64_t y) {
  const std::int64_t offset = n * view.stride[0] + c * view.stride[1] + z * view.stride[2] + y * view.stride[3];
  return static_cast<char*>(view.data) + offset * (view.dtype == DType::float32 ? 4 : 2);
}

/// Rows [y_begin, y_end) of planes z - reach ... z + reach, from which whole vectors may be read. Float32 rows of whole
/// vectors are read where the features have them; all others are converted, once. A padded() row lies between
/// replicated voxels, so that vectors may begin `x_reach` voxels beyond both ends.
class RowWindow {
 public:
  RowWindow(const View& features, std::int64_t n, std::int64_t z_reach, std::int64_t x_reach, std::int64_t y_begin,
            std::int64_t y_end)
      : features_(features), n_(n), z_reach_(z_reach), y_begin_(y_begin), rows_(y_end - y_begin),
        planes_(smaller(2 * z_reach + 1, features.depth())), left_(whole_lines(x_reach)),
        padded_(left_ + whole_lines(features.width()) + whole_lines(x_reach)), pitch_(row_pitch(padded_)),
        direct_(features.dtype == DType::float32 && features.planar() && features.width() % lanes == 0),
        scratch_((direct_ ? 1 : planes_ * rows_) * features.channels() * pitch_) {}

  static std::int64_t floats(const View& features, std::int64_t z_reach, std::int64_t x_reach, std::int64_t rows) {
    const std::int64_t pitch = row_pitch(whole_lines(features.width()) + 2 * whole_lines(x_reach));
    return smaller(2 * z_reach + 1, features.depth()) * rows * features.channels() * pitch;
  }

  /// Reads the planes that are still missing around plane z; z must not fall from call to call.
  void move_to(std::int64_t z) {
    if (direct_) return;
    next_plane_ = larger(next_plane_, z - z_reach_);
    for (const std::int64_t end = smaller(z + z_reach_ + 1, features_.depth()); next_plane_ < end; ++next_plane_) {
      for (std::int64_t y = y_begin_; y < y_begin_ + rows_; ++y) {
        read(next_plane_, y, converted(next_plane_, y));
      }
    }
  }

  /// Voxel 0 of channel 0 in a row of the window; that of channel c lies c * pitch() floats on.
  const float* row(std::int64_t z, std::int64_t y) const {
    return direct_ ? features_.at<float>(n_, 0, z, y, 0) : converted(z, y);
  }
  std::int64_t pitch() const { return direct_ ? features_.stride[1] : pitch_; }

  /// The same between replicated voxels, with padded_pitch(). Valid until the next call.
  const float* padded(std::int64_t z, std::int64_t y) const {
    if (!direct_) return converted(z, y);
    read(z, y, scratch_.data() + left_);
    return scratch_.data() + left_;
  }
  std::int64_t padded_pitch() const { return pitch_; }

 private:
  float* converted(std::int64_t z, std::int64_t y) const {
    return scratch_.data() + (z % planes_ * rows_ + (y - y_begin_)) * features_.channels() * pitch_ + left_;
  }

  [[gnu::noinline]] void read(std::int64_t z, std::int64_t y, float* p) const {
    const std::int64_t width = features_.width();
    for (std::int64_t c = 0; c < features_.channels(); ++c, p += pitch_) {
      widen(p, address(features_, n_, c, z, y), features_.dtype, width, features_.stride[4]);
      const float first = p[0], last = p[width - 1];
      for (std::int64_t x = -left_; x < 0; ++x) p[x] = first;
      for (std::int64_t x = width; x < padded_ - left_; ++x) p[x] = last;
    }
  }

  const View& features_;
  const std::int64_t n_, z_reach_, y_begin_, rows_, planes_, left_, padded_, pitch_;
  const bool direct_;
  std::int64_t next_plane_ = 0;
  Scratch scratch_;
};

}  // namespace masr::MASR_ISA
