// `Array`: a 5-D view taken from any Python object with __dlpack__ (torch, NumPy, CuPy, ...), kept alive for the call.
#pragma once

#include <pybind11/pybind11.h>

#include "masr/view.h"
#include "python/dlpack.h"

namespace masr::python {

class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  Array(Array&& other) noexcept : view_(other.view_), managed_(std::exchange(other.managed_, nullptr)) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(view_, other.view_);
    std::swap(managed_, other.managed_);
    return *this;
  }
  ~Array() {
    if (managed_ && managed_->deleter) managed_->deleter(managed_);
  }

  /// Throws TypeError or ValueError with one sentence; None gives an empty Array (view().data == nullptr).
  static Array from(pybind11::handle object);

  const View& view() const { return view_; }

 private:
  View view_;
  dlpack::ManagedTensor* managed_ = nullptr;
};

}  // namespace masr::python

namespace pybind11::detail {
template <>
struct type_caster<masr::python::Array> {
  PYBIND11_TYPE_CASTER(masr::python::Array, const_name("Array"));
  bool load(handle source, bool) {
    value = masr::python::Array::from(source);
    return true;
  }
};
}  // namespace pybind11::detail
