#include "masr/warp.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {
namespace {

Padding padding_named(const std::string& text) {
  if (text == "border") return Padding::border;
  if (text == "zeros") return Padding::zeros;
  throw py::value_error("warp: padding must be 'border' or 'zeros', got '" + text + "'");
}

Interpolation mode_named(const std::string& text) {
  if (text == "linear") return Interpolation::linear;
  if (text == "nearest") return Interpolation::nearest;
  throw py::value_error("warp: mode must be 'linear' or 'nearest', got '" + text + "'");
}

}  // namespace

void bind_warp(py::module_& m) {
  m.def("warp", [](const Array& image, const Array& displacement, const Array& matrix, const std::string& padding,
                   const std::string& mode, const Array& out, const PythonExecution& execution) {
    const Padding outside = padding_named(padding);
    const Interpolation between = mode_named(mode);
    py::gil_scoped_release release;
    warp(image.view(), displacement.view(), matrix.view(), outside, between, out.view(), execution.value());
  });
  m.def("warp_backward",
        [](const Array& image, const Array& displacement, const Array& matrix, const std::string& padding,
           const std::string& mode, const Array& gradient, const Array& image_gradient,
           const Array& displacement_gradient, const PythonExecution& execution) {
          const Padding outside = padding_named(padding);
          const Interpolation between = mode_named(mode);
          py::gil_scoped_release release;
          warp_backward(image.view(), displacement.view(), matrix.view(), outside, between, gradient.view(),
                        image_gradient.view(), displacement_gradient.view(), execution.value());
        });
  m.def("warp_matrix_gradient", [](const Array& displacement_gradient, const Array& out,
                                   const PythonExecution& execution) {
    py::gil_scoped_release release;
    warp_matrix_gradient(displacement_gradient.view(), out.view(), execution.value());
  });
}

}  // namespace masr::python
