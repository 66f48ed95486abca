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

/// An array as an op's caller knows it.
struct Argument {
  const char* name;
  const View& view;
};

/// Whether the arrays of an op are in CUDA memory; throws unless all are on the device of the first. Arrays that were
/// not given are passed over.
inline bool on_cuda(const char* op, std::initializer_list<Argument> arguments) {
  const auto place = [](const View& view) {
    return view.device == Device::cpu ? std::string("cpu") : "cuda:" + std::to_string(view.device_index);
  };
  const Argument& first = *arguments.begin();
  for (const Argument& other : arguments) {
    check(!other.view || place(other.view) == place(first.view), op, [&] {
      return std::string(other.name) + " must be on " + place(first.view) + " as " + first.name + " is, got " +
             place(other.view);
    });
  }
  return first.view.device == Device::cuda;
}

}  // namespace masr
