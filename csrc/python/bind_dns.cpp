#include "masr/dns.h"
#include "python/bind.h"

namespace py = pybind11;

namespace masr::python {
namespace {

DnsReduction reduction_named(const std::string& text) {
  if (text == "l2") return DnsReduction::l2;
  if (text == "none") return DnsReduction::none;
  throw py::value_error("dns: reduction must be 'l2' or 'none', got '" + text + "'");
}

}  // namespace

void bind_dns(py::module_& m) {
  m.def("dns", [](const Array& features, const std::vector<std::int64_t>& dilations, const std::string& reduction,
                  float eps, const Array& out, const PythonExecution& execution) {
    const DnsReduction kind = reduction_named(reduction);
    py::gil_scoped_release release;
    dns(features.view(), dilations, kind, eps, out.view(), execution.value());
  });
  m.def("dns_backward", [](const Array& features, const Array& gradient, const std::vector<std::int64_t>& dilations,
                           const std::string& reduction, float eps, const Array& out,
                           const PythonExecution& execution) {
    const DnsReduction kind = reduction_named(reduction);
    py::gil_scoped_release release;
    dns_backward(features.view(), gradient.view(), dilations, kind, eps, out.view(), execution.value());
  });
}

}  // namespace masr::python
