#include "masr/bspline.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_bspline(py::module_& m) {
  m.def("bspline_upsample", [](const Array& control, const std::array<std::int64_t, 3>& spacing, const Array& out,
                               const PythonExecution& execution) {
    py::gil_scoped_release release;
    bspline_upsample(control.view(), spacing, out.view(), execution.value());
  });
  m.def("bspline_adjoint", [](const Array& gradient, const std::array<std::int64_t, 3>& spacing, const Array& out,
                              const PythonExecution& execution) {
    py::gil_scoped_release release;
    bspline_adjoint(gradient.view(), spacing, out.view(), execution.value());
  });
}

}  // namespace masr::python
