// The Jacobian of x -> x + u(x) at a voxel, its determinant, and the adjoint.
#pragma once

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// The two voxels whose difference, times `scale`, is the derivative at index i of an axis of n voxels.
template <class Int>
struct Difference {
  Int low, high;
  float scale;
};

template <class Int>
MASR_INLINE Difference<Int> difference(Int i, Int n) {
  const Int low = i > 0 ? i - 1 : 0, high = i < n - 1 ? i + 1 : n - 1;
  return {low, high, high > low ? 1.0f / float(high - low) : 0.0f};
}

/// J[component][axis] = du_component / dv_axis, the identity added; u(k, z, y, x) reads component k.
template <class Read, class Int>
MASR_INLINE void jacobian(const Read& u, const Int (&size)[3], Int z, Int y, Int x, float (&J)[3][3]) {
  const Difference<Int> dz = difference(z, size[0]), dy = difference(y, size[1]), dx = difference(x, size[2]);
  for (int k = 0; k < 3; ++k) {
    J[k][0] = (u(k, dz.high, y, x) - u(k, dz.low, y, x)) * dz.scale;
    J[k][1] = (u(k, z, dy.high, x) - u(k, z, dy.low, x)) * dy.scale;
    J[k][2] = (u(k, z, y, dx.high) - u(k, z, y, dx.low)) * dx.scale;
    J[k][k] += 1.0f;
  }
}

MASR_INLINE float cofactor(const float (&J)[3][3], int r, int c) {
  const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
  return J[r1][c1] * J[r2][c2] - J[r1][c2] * J[r2][c1];
}

MASR_INLINE float determinant(const float (&J)[3][3]) {
  return J[0][0] * cofactor(J, 0, 0) + J[0][1] * cofactor(J, 0, 1) + J[0][2] * cofactor(J, 0, 2);
}

/// Gradient to u at a voxel from those to the determinants, g(z, y, x): voxel v collects from the voxels whose
/// differences read it, so that nothing is written twice.
template <class Read, class ReadGradient, class Int>
MASR_INLINE void determinant_gradient(const Read& u, const ReadGradient& g, const Int (&size)[3], Int z, Int y, Int x,
                                      float (&total)[3]) {
  for (float& value : total) value = 0.0f;
  const Int v[3] = {z, y, x};
  for (int axis = 0; axis < 3; ++axis) {
    const Int here = v[axis], n = size[axis];
    for (Int i = here > 0 ? here - 1 : 0; i <= (here < n - 1 ? here + 1 : n - 1); ++i) {
      const Difference<Int> d = difference(i, n);
      const float sign = float(d.high == here) - float(d.low == here);
      if (sign == 0.0f) continue;
      const Int pz = axis == 0 ? i : z, py = axis == 1 ? i : y, px = axis == 2 ? i : x;
      float J[3][3];
      jacobian(u, size, pz, py, px, J);
      const float weight = sign * d.scale * g(pz, py, px);
      for (int k = 0; k < 3; ++k) total[k] += weight * cofactor(J, k, axis);
    }
  }
}

}  // namespace
}  // namespace masr
