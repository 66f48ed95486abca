#include "masr/search.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_search(py::module_& m) {
  m.def("displacement_search", [](const Array& fixed, const Array& moving, const std::array<std::int64_t, 3>& radius,
                                  const Array& coupling, double theta, const Array& weights, const Array& moving_mask,
                                  const Array& displacement, const Array& cost, const PythonExecution& execution) {
    DisplacementSearch input;
    input.fixed = fixed.view();
    input.moving = moving.view();
    input.weights = weights.view();
    input.moving_mask = moving_mask.view();
    input.coupling = coupling.view();
    input.theta = theta;
    input.radius = radius;
    py::gil_scoped_release release;
    displacement_search(input, displacement.view(), cost.view(), execution.value());
  });
}

}  // namespace masr::python
