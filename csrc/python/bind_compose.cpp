#include "masr/compose.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_compose(py::module_& m) {
  m.def("compose", [](const Array& outer, const Array& inner, bool zeros, const Array& out,
                      const PythonExecution& execution) {
    py::gil_scoped_release release;
    compose(outer.view(), inner.view(), zeros ? Padding::zeros : Padding::border, out.view(), execution.value());
  });
  m.def("compose_backward", [](const Array& outer, const Array& inner, bool zeros, const Array& gradient,
                               const Array& outer_gradient, const Array& inner_gradient,
                               const PythonExecution& execution) {
    py::gil_scoped_release release;
    compose_backward(outer.view(), inner.view(), zeros ? Padding::zeros : Padding::border, gradient.view(),
                     outer_gradient.view(), inner_gradient.view(), execution.value());
  });
  m.def("exponential", [](const Array& velocity, int steps, const Array& out, const PythonExecution& execution) {
    py::gil_scoped_release release;
    exponential(velocity.view(), steps, out.view(), execution.value());
  });
  m.def("exponential_backward", [](const Array& velocity, int steps, const Array& gradient, const Array& out,
                                   const PythonExecution& execution) {
    py::gil_scoped_release release;
    exponential_backward(velocity.view(), steps, gradient.view(), out.view(), execution.value());
  });
}

}  // namespace masr::python
