#include "python/execution.h"

namespace py = pybind11;

namespace masr::python {

Device device_of(const dlpack::Device& device) {
  if (device.type == dlpack::cuda) return Device::cuda;
  if (device.type == dlpack::cpu || device.type == dlpack::cuda_host) return Device::cpu;
  throw py::value_error("pymasr: arrays must be in CPU or CUDA memory, got DLPack device type " +
                        std::to_string(device.type));
}

PythonExecution PythonExecution::from(py::handle object) {
  PythonExecution result;
  const auto arguments = object.cast<std::tuple<std::uintptr_t, py::object, bool>>();
  result.execution_.stream = reinterpret_cast<void*>(std::get<0>(arguments));
  result.execution_.deterministic = std::get<2>(arguments);
  const py::object& allocate = std::get<1>(arguments);
  if (allocate.is_none()) return result;
  result.tensors_ = std::make_shared<std::vector<py::object>>();
  result.execution_.allocate = [allocate, tensors = result.tensors_](std::size_t bytes) {
    py::gil_scoped_acquire acquire;
    tensors->push_back(allocate(bytes));
    return reinterpret_cast<void*>(tensors->back().attr("data_ptr")().cast<std::uintptr_t>());
  };
  return result;
}

}  // namespace masr::python
