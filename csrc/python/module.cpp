// pymasr._C: the ops on 5-D arrays given by DLPack, and the settings of the library. No arithmetic here.
#include "python/bind.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Kernels of pymasr; use them through pymasr.ops.";
  masr::python::bind_runtime(m);
  masr::python::bind_dns(m);
  masr::python::bind_jacobian(m);
  masr::python::bind_warp(m);
  masr::python::bind_mind(m);
  masr::python::bind_warp_ssd(m);
  masr::python::bind_bspline(m);
  masr::python::bind_compose(m);
  masr::python::bind_regularisation(m);
  masr::python::bind_search(m);
}
