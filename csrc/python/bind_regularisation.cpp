#include "masr/regularisation.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_regularisation(py::module_& m) {
  using Spacing = std::array<double, 3>;
  m.def("diffusion_energy",
        [](const Array& field, const Spacing& spacing, const Array& value, const Array& gradient,
           const PythonExecution& execution) {
          py::gil_scoped_release release;
          diffusion_energy(field.view(), spacing, value.view(), gradient.view(), execution.value());
        });
  m.def("bending_energy",
        [](const Array& field, const Spacing& spacing, const Array& value, const Array& gradient,
           const PythonExecution& execution) {
          py::gil_scoped_release release;
          bending_energy(field.view(), spacing, value.view(), gradient.view(), execution.value());
        });
}

}  // namespace masr::python
