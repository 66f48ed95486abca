#include "masr/jacobian.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_jacobian(py::module_& m) {
  m.def("jacobian_determinant", [](const Array& displacement, const Array& out, const PythonExecution& execution) {
    py::gil_scoped_release release;
    jacobian_determinant(displacement.view(), out.view(), execution.value());
  });
  m.def("jacobian_determinant_backward", [](const Array& displacement, const Array& gradient, const Array& out,
                                            const PythonExecution& execution) {
    py::gil_scoped_release release;
    jacobian_determinant_backward(displacement.view(), gradient.view(), out.view(), execution.value());
  });
}

}  // namespace masr::python
