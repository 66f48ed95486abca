// Argument checks of the api/ files: one clear sentence, thrown as std::invalid_argument.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "masr/view.h"

namespace masr {

/// Throws "op: message" unless `condition` holds; the message is only built on failure.
template <class Message>
void check(bool condition, const char* op, Message&& message) {
  if (!condition) throw std::invalid_argument(std::string(op) + ": " + message());
}

inline void check_dtype(const char* op, const char* argument, const View& view, std::initializer_list<DType> allowed) {
  check(view.device == Device::cpu, op,
        [&] { return std::string(argument) + " must be in CPU memory, there is no CUDA kernel of this op: use .cpu()"; });
  for (DType type : allowed) {
    if (view.dtype == type) return;
  }
  std::string names;
  for (DType type : allowed) names += (names.empty() ? "" : " or ") + std::string(name(type));
  throw std::invalid_argument(std::string(op) + ": " + argument + " must be " + names + ", got " + describe(view));
}

inline void check_shape(const char* op, const char* argument, const View& view,
                        const std::array<std::int64_t, 5>& expected) {
  if (view.shape == expected) return;
  View wanted;
  wanted.shape = expected;
  wanted.dtype = view.dtype;
  throw std::invalid_argument(std::string(op) + ": " + argument + " must be " + describe(wanted) + ", got " +
                              describe(view));
}

}  // namespace masr
