// Where an op runs, as pymasr.ops._common.call says it: (stream, allocate, deterministic); on the CPU allocate is None.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "masr/execution.h"
#include "masr/view.h"
#include "python/dlpack.h"

namespace masr::python {

/// Whose kernels work on memory of this DLPack device; throws ValueError where there are none.
Device device_of(const dlpack::Device& device);

/// An Execution whose memory comes from a Python callable, allocate(bytes) -> tensor. The tensors live as long as this.
class PythonExecution {
 public:
  static PythonExecution from(pybind11::handle object);

  const Execution& value() const { return execution_; }

 private:
  Execution execution_;
  std::shared_ptr<std::vector<pybind11::object>> tensors_;
};

}  // namespace masr::python

namespace pybind11::detail {
template <>
struct type_caster<masr::python::PythonExecution> {
  PYBIND11_TYPE_CASTER(masr::python::PythonExecution, const_name("Execution"));
  bool load(handle source, bool) {
    value = masr::python::PythonExecution::from(source);
    return true;
  }
};
}  // namespace pybind11::detail
