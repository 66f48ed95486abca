#include "masr/mind.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {

void bind_mind(py::module_& m) {
  m.def("mind_ssc", [](const Array& image, std::int64_t radius, std::int64_t dilation, const Array& out,
                       const Array& mean, const PythonExecution& execution) {
    py::gil_scoped_release release;
    mind_ssc(image.view(), radius, dilation, out.view(), mean.view(), execution.value());
  });
  m.def("mind_ssc_backward", [](const Array& image, std::int64_t radius, std::int64_t dilation, const Array& mean,
                                const Array& gradient, const Array& out, const PythonExecution& execution) {
    py::gil_scoped_release release;
    mind_ssc_backward(image.view(), radius, dilation, mean.view(), gradient.view(), out.view(), execution.value());
  });
}

}  // namespace masr::python
