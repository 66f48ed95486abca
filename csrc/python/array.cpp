#include "python/array.h"

#include "python/execution.h"

namespace py = pybind11;

namespace masr::python {
namespace {

DType dtype_of(const dlpack::DataType& type) {
  if (type.lanes == 1) {
    if (type.code == 2 && type.bits == 32) return DType::float32;
    if (type.code == 2 && type.bits == 16) return DType::float16;
    if (type.code == 2 && type.bits == 64) return DType::float64;
    if (type.code == 4 && type.bits == 16) return DType::bfloat16;
    if ((type.code == 1 || type.code == 6) && type.bits == 8) return DType::uint8;
  }
  throw py::type_error(
      "pymasr: arrays must be float32, float16, bfloat16, float64, uint8 or bool; convert with .float() or .astype(np.float32)");
}

}  // namespace

Array Array::from(py::handle object) {
  Array array;
  if (object.is_none()) return array;
  if (!py::hasattr(object, "__dlpack__")) {
    throw py::type_error("pymasr: expected a torch tensor or another array with __dlpack__, got " +
                         std::string(py::str(py::type::handle_of(object).attr("__name__"))));
  }
  const auto [device_type, device_index] = object.attr("__dlpack_device__")().cast<std::pair<int, int>>();
  // On CUDA the caller guarantees the stream; -1 asks the producer not to synchronise.
  py::object capsule =
      device_type == dlpack::cuda ? object.attr("__dlpack__")(py::arg("stream") = -1) : object.attr("__dlpack__")();
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (managed == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  array.managed_ = managed;

  const dlpack::Tensor& tensor = managed->tensor;
  if (tensor.ndim != 5) {
    throw py::value_error("pymasr: expected 5 axes (N, C, D, H, W), got " + std::to_string(tensor.ndim));
  }
  View& view = array.view_;
  view.dtype = dtype_of(tensor.dtype);
  view.device = device_of(tensor.device);
  view.device_index = device_index;
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  std::int64_t stride = 1;
  for (int axis = 4; axis >= 0; --axis) {
    view.shape[axis] = tensor.shape[axis];
    view.stride[axis] = tensor.strides ? tensor.strides[axis] : stride;
    stride *= tensor.shape[axis];
  }
  return array;
}

}  // namespace masr::python
