// How a kernel that makes channels in groups of 12, one vector of voxels of a row at a time, gets them into the output.
//
// Results are staged in the L1 cache and leave it as whole cache lines: that allows non-temporal stores, which spare
// the memory the reading of lines about to be overwritten. What was staged last is written between the arithmetic of
// what follows, so that the store buffers never run full.
//
// A writer is used segment by segment, a segment being the voxels [x_begin, x_end) and the groups [group_begin,
// group_end) of a row: put() for every vector and group, then end_segment(); finish() after the last one.
#pragma once

#include "cpu/pieces.h"
#include "cpu/row_window.h"

namespace masr::MASR_ISA {

inline constexpr int group_size = 12;

/// How a row is cut into segments.
struct Segments {
  std::int64_t width;   ///< voxels at most, a multiple of the vector
  std::int64_t groups;  ///< groups at most
};

/// A row of the output; `first` and `last` among the rows of its plane that go through the same writer, in order.
struct OutputRow {
  std::int64_t n, z, y;
  bool first, last;
};

static inline void store_narrow(Float16* p, vec v) { store_half(&p->bits, v); }
static inline void store_narrow(BFloat16* p, vec v) { store_bfloat16(&p->bits, v); }

/// One cache line of results; `target` is aligned to it.
static inline void store_line(float* target, const float* source, bool streaming) {
  for (int i = 0; i < line_floats; i += lanes) {
    if (streaming) {
      stream(target + i, load(source + i));
    } else {
      store(target + i, load(source + i));
    }
  }
}
template <class T>
static inline void store_line(T* target, const float* source, bool streaming) {
  alignas(64) T line[2 * line_floats];
  for (int i = 0; i < 2 * line_floats; i += lanes) store_narrow(line + i, load(source + i));
  store_line(reinterpret_cast<float*>(target), reinterpret_cast<const float*>(line), streaming);
}

/// Whether an output is so large that its lines would be evicted before anybody reads them.
static inline bool streams(const View& out) {
  return out.elements() * (out.dtype == DType::float32 ? 4 : 2) > std::int64_t(4) << 20;
}

/// Runs of results on their way to the output, a few cache lines at a time.
template <class T>
class Drain {
 public:
  explicit Drain(bool streaming) : streaming_(streaming) {}

  static constexpr int line_elements = 64 / sizeof(T);

  /// Floats that hold the part of a cache line at the end of a run until the run that follows in memory completes it.
  static constexpr int carry_floats = 2 * line_elements;
  /// Runs of this length or more can be joined so. Sources must be readable line_elements beyond their end.
  static constexpr int joinable_length = 2 * line_elements;

  /// `runs` runs of `length` elements; only after finish(). Run i uses carry_floats of `carry` for the lines that it
  /// shares with what was written before it (`joined_before`) and will be written after it (`joined_after`).
  void begin(const float* source, std::int64_t source_pitch, T* target, std::int64_t target_pitch, std::int64_t length,
             std::int64_t runs, float* carry, bool joined_before, bool joined_after) {
    carry_ = carry;
    joined_before_ = joined_before;
    joined_after_ = joined_after;
    source_ = source;
    source_pitch_ = source_pitch;
    target_ = target;
    target_pitch_ = target_pitch;
    length_ = length;
    runs_ = runs;
    open_run();
  }

  void write_lines(int count) {
    for (; count > 0 && (lines_ > 0 || next_run()); --count) {
      store_line(line_target_, line_source_, streaming_);
      line_target_ += line_elements;
      line_source_ += line_elements;
      --lines_;
    }
  }

  void finish() {
    while (lines_ > 0 || next_run()) write_lines(1 << 20);
  }

 private:
  static void copy_line(float* target, const float* source) {
    for (int i = 0; i < line_elements; i += lanes) store(target + i, load(source + i));
  }

  /// Writes what comes before the first whole line and after the last one, and sets out the lines between.
  void open_run() {
    const std::int64_t phase = reinterpret_cast<std::uintptr_t>(target_) % 64 / sizeof(T);
    const std::int64_t head = smaller(phase ? line_elements - phase : 0, length_);
    lines_ = (length_ - head) / line_elements;
    line_source_ = source_ + head;
    line_target_ = target_ + head;
    const std::int64_t tail = head + lines_ * line_elements;
    if (head > 0 && joined_before_) {
      copy_line(carry_ + phase, source_);
      store_line(target_ - phase, carry_, streaming_);
    } else {
      for (std::int64_t i = 0; i < head; ++i) assign(target_[i], source_[i]);
    }
    if (joined_after_) {
      copy_line(carry_, source_ + tail);
    } else {
      for (std::int64_t i = tail; i < length_; ++i) assign(target_[i], source_[i]);
    }
  }

  /// False when there are no further lines.
  bool next_run() {
    while (lines_ == 0 && runs_ > 1) {
      --runs_;
      source_ += source_pitch_;
      target_ += target_pitch_;
      carry_ += carry_floats;
      open_run();
    }
    return lines_ > 0;
  }

  const bool streaming_;
  bool joined_before_ = false, joined_after_ = false;
  float* carry_ = nullptr;
  const float *source_ = nullptr, *line_source_ = nullptr;
  T *target_ = nullptr, *line_target_ = nullptr;
  std::int64_t source_pitch_ = 0, target_pitch_ = 0, length_ = 0, runs_ = 0, lines_ = 0;
};

/// Rows of a channel contiguous: a segment is a row of one group, 12 runs.
template <class T>
class PlanarWriter {
 public:
  explicit PlanarWriter(const View& out)
      : out_(out), pitch_(row_pitch(out.width())), scratch_(2 * group_size * pitch_ + Drain<T>::line_elements),
        carry_(out.channels() * Drain<T>::carry_floats), stage_(scratch_.data()),
        joinable_(out.stride[3] == out.width() && out.width() >= Drain<T>::joinable_length), drain_(streams(out)) {}

  Segments segments() const { return {whole_lines(out_.width()), 1}; }

  [[gnu::always_inline]] void put(std::int64_t x, std::int64_t, const vec (&values)[group_size]) {
    for (int k = 0; k < group_size; ++k) store(stage_ + k * pitch_ + x, values[k]);
    drain_.write_lines(group_size * lanes / drain_.line_elements);
  }

  void end_segment(const OutputRow& row, std::int64_t, std::int64_t x_end, std::int64_t group) {
    const std::int64_t channel = group * group_size;
    drain_.finish();
    drain_.begin(stage_, pitch_, out_.at<T>(row.n, channel, row.z, row.y, 0), out_.stride[1], x_end, group_size,
                 carry_.data() + channel * drain_.carry_floats, joinable_ && !row.first, joinable_ && !row.last);
    stage_ = stage_ == scratch_.data() ? stage_ + group_size * pitch_ : scratch_.data();
  }

  void finish() { drain_.finish(); }

 private:
  const View& out_;
  const std::int64_t pitch_;
  const Scratch scratch_, carry_;
  float* stage_;
  const bool joinable_;
  Drain<T> drain_;
};

/// All channels of a voxel adjacent: a segment is all groups of some voxels, one run.
template <class T>
class ChannelsLastWriter {
 public:
  explicit ChannelsLastWriter(const View& out)
      : out_(out), channels_(out.channels()), groups_(channels_ / group_size),
        width_(larger(1, 3072 / channels_ / line_floats) * line_floats),
        scratch_(2 * width_ * channels_ + Drain<T>::line_elements), carry_(Drain<T>::carry_floats),
        stage_(scratch_.data()), drain_(streams(out)) {
    const std::int64_t shortest = out.width() % width_ ? out.width() % width_ : width_;
    joinable_ = shortest * channels_ >= Drain<T>::joinable_length;
    rows_joinable_ = joinable_ && out.stride[3] == out.width() * channels_;
  }

  Segments segments() const { return {width_, groups_}; }

  [[gnu::always_inline]] void put(std::int64_t x, std::int64_t group, const vec (&values)[group_size]) {
    float* p = stage_ + x * channels_ + group * group_size;
    for (int k = 0; k < group_size; k += 4) store_transposed(p + k, channels_, &values[k]);
    drain_.write_lines(group_size * lanes / drain_.line_elements);
  }

  void end_segment(const OutputRow& row, std::int64_t x_begin, std::int64_t x_end, std::int64_t) {
    drain_.finish();
    drain_.begin(stage_, 0, out_.at<T>(row.n, 0, row.z, row.y, x_begin), 0, (x_end - x_begin) * channels_, 1,
                 carry_.data(), x_begin > 0 ? joinable_ : rows_joinable_ && !row.first,
                 x_end < out_.width() ? joinable_ : rows_joinable_ && !row.last);
    stage_ = stage_ == scratch_.data() ? stage_ + width_ * channels_ : scratch_.data();
  }

  void finish() { drain_.finish(); }

 private:
  const View& out_;
  const std::int64_t channels_, groups_, width_;
  const Scratch scratch_, carry_;
  float* stage_;
  bool joinable_, rows_joinable_;
  Drain<T> drain_;
};

/// Any other strides: element by element.
class StridedWriter {
 public:
  explicit StridedWriter(const View& out)
      : out_(out), pitch_(row_pitch(out.width())), scratch_(group_size * pitch_) {}

  Segments segments() const { return {whole_lines(out_.width()), 1}; }

  [[gnu::always_inline]] void put(std::int64_t x, std::int64_t, const vec (&values)[group_size]) {
    for (int k = 0; k < group_size; ++k) store(scratch_.data() + k * pitch_ + x, values[k]);
  }

  void end_segment(const OutputRow& row, std::int64_t, std::int64_t x_end, std::int64_t group) {
    for (int k = 0; k < group_size; ++k) {
      void* const target = address(out_, row.n, group * group_size + k, row.z, row.y);
      narrow(target, scratch_.data() + k * pitch_, out_.dtype, x_end, out_.stride[4]);
    }
  }

  void finish() {}

 private:
  const View& out_;
  const std::int64_t pitch_;
  Scratch scratch_;
};

template <class Writer, class F>
static inline void run_writer(Writer&& writer, F&& f) {
  f(writer);
  writer.finish();
  stream_fence();
}

template <class T, class F>
static inline void with_direct_writer(const View& out, F&& f) {
  if (out.planar()) {
    run_writer(PlanarWriter<T>(out), f);
  } else {
    run_writer(ChannelsLastWriter<T>(out), f);
  }
}

/// f(writer) with the writer that suits the layout and type of `out`, whose channels are a multiple of group_size.
template <class F>
static inline void with_writer(const View& out, F&& f) {
  if (!out.planar() && !out.channels_last()) {
    run_writer(StridedWriter(out), f);
  } else if (out.dtype == DType::float32) {
    with_direct_writer<float>(out, f);
  } else if (out.dtype == DType::float16) {
    with_direct_writer<Float16>(out, f);
  } else {
    with_direct_writer<BFloat16>(out, f);
  }
}

}  // namespace masr::MASR_ISA
