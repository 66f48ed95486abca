// The uniform cubic B-spline basis.
#pragma once

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// Weights of the four control points around a point `t` in [0, 1) of the way from the second to the third.
MASR_HOST_DEVICE inline void cubic_bspline(double t, float (&weight)[4]) {
  const double s = 1.0 - t;
  weight[0] = float(s * s * s / 6.0);
  weight[1] = float(2.0 / 3.0 - t * t + t * t * t / 2.0);
  weight[2] = float(2.0 / 3.0 - s * s + s * s * s / 2.0);
  weight[3] = float(t * t * t / 6.0);
}

}  // namespace
}  // namespace masr
