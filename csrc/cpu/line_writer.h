// Writes a run of bytes past the caches, cache line by cache line, whatever its alignment: the partial lines at both ends
// are stored the ordinary way. Streaming less than a whole line at a time would cost more than it saves.
#pragma once

#include "cpu/simd.h"

namespace masr::MASR_ISA {

class LineWriter {
 public:
  static constexpr std::int64_t capacity = 16384;  ///< bytes that may be composed before a commit()

  explicit LineWriter(void* target)
      : start_(reinterpret_cast<std::uintptr_t>(target) % line), filled_(start_),
        target_(static_cast<char*>(target) - start_) {}

  /// Where the next bytes are to be composed.
  void* next() { return buffer_ + filled_; }

  /// `bytes` bytes were composed.
  void commit(std::int64_t bytes) {
    filled_ += bytes;
    if (filled_ < line) return;
    std::int64_t done = 0;
    if (start_ > 0) {
      std::memcpy(target_ + start_, buffer_ + start_, line - start_);
      start_ = 0;
      done = line;
    }
    for (; done + line <= filled_; done += line) {
      for (std::int64_t i = 0; i < line; i += lanes * 4) {
        vec v;
        std::memcpy(&v, buffer_ + done + i, sizeof(v));
        stream(reinterpret_cast<float*>(target_ + done + i), v);
      }
    }
    std::memcpy(buffer_, buffer_ + done, line);  // at most a line is left
    target_ += done;
    filled_ -= done;
  }

  void finish() { std::memcpy(target_ + start_, buffer_ + start_, filled_ - start_); }

 private:
  static constexpr std::int64_t line = 64;
  std::int64_t start_, filled_;
  char* target_;
  alignas(64) char buffer_[capacity + 2 * line];
};

}  // namespace masr::MASR_ISA
