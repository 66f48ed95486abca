#include "masr/cuda.h"
#include "masr/parallel.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {
namespace {

InstructionSet instruction_set_named(const std::string& text) {
  for (InstructionSet set : {InstructionSet::baseline, InstructionSet::avx2, InstructionSet::avx512}) {
    if (text == name(set)) return set;
  }
  throw py::value_error("set_instruction_set: expected baseline, avx2 or avx512, got " + text);
}

}  // namespace

void bind_runtime(py::module_& m) {
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("instruction_set", [] { return name(instruction_set()); });
  m.def("best_instruction_set", [] { return name(best_instruction_set()); });
  m.def("set_instruction_set", [](const std::string& text) { set_instruction_set(instruction_set_named(text)); });
  m.def("cuda_status", [] {
    const cuda::Status status = cuda::status();
    py::dict result;
    result["built"] = status.built;
    result["runtime_version"] = status.runtime_version;
    result["driver_version"] = status.driver_version;
    result["devices"] = status.devices;
    result["reason"] = status.reason;
    return result;
  });
  m.attr("compiler") = MASR_COMPILER;
  m.attr("version") = MASR_VERSION;
}

}  // namespace masr::python
