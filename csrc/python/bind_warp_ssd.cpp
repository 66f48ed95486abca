#include "masr/warp_ssd.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_warp_ssd(py::module_& m) {
  m.def("warp_ssd", [](const Array& fixed, const Array& moving, const Array& displacement, const Array& matrix,
                       const Array& weights, const Array& moving_mask, bool exclude_outside, const Array& value,
                       const Array& total_weight, const Array& gradient, const PythonExecution& execution) {
    WarpSsd input;
    input.fixed = fixed.view();
    input.moving = moving.view();
    input.displacement = displacement.view();
    input.matrix = matrix.view();
    input.weights = weights.view();
    input.moving_mask = moving_mask.view();
    input.exclude_outside = exclude_outside;
    py::gil_scoped_release release;
    warp_ssd(input, value.view(), total_weight.view(), gradient.view(), execution.value());
  });
}

}  // namespace masr::python
