// One function per op adds its entries to the module; see module.cpp.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "python/array.h"
#include "python/execution.h"

namespace masr::python {

void bind_runtime(pybind11::module_& m);
void bind_dns(pybind11::module_& m);
void bind_jacobian(pybind11::module_& m);
void bind_warp(pybind11::module_& m);
void bind_mind(pybind11::module_& m);
void bind_warp_ssd(pybind11::module_& m);
void bind_bspline(pybind11::module_& m);
void bind_compose(pybind11::module_& m);
void bind_regularisation(pybind11::module_& m);
void bind_search(pybind11::module_& m);

}  // namespace masr::python
