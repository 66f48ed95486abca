// Scratch memory of a task, aligned to cache lines.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#ifndef MASR_ISA
#error "compile this file through CMakeLists.txt, which defines MASR_ISA"
#endif

namespace masr::MASR_ISA {

inline constexpr std::int64_t line_floats = 16;

static inline std::int64_t whole_lines(std::int64_t floats) {
  return (floats + line_floats - 1) / line_floats * line_floats;
}

/// Pitch of rows that are read side by side: an odd number of cache lines, so that they fall on different cache sets.
static inline std::int64_t row_pitch(std::int64_t floats) {
  const std::int64_t pitch = whole_lines(floats);
  return pitch / line_floats % 2 ? pitch : pitch + line_floats;
}

class Scratch {
 public:
  explicit Scratch(std::int64_t floats)
      : data_(static_cast<float*>(std::aligned_alloc(64, whole_lines(floats > 0 ? floats : 1) * sizeof(float)))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  float* data() const { return data_; }

 private:
  float* data_;
};

}  // namespace masr::MASR_ISA
