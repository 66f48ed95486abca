// det(I + du/dv) and its adjoint, row by row. Speed is bound by memory: 16 bytes a voxel forward.
#include "cpu/jacobian.h"

namespace masr::MASR_ISA {
namespace {

/// The two planes whose difference, times `scale`, is the derivative at index i of an axis of n voxels.
struct Difference {
  std::int64_t low, high;
  float scale;
};

Difference difference(std::int64_t i, std::int64_t n) {
  const std::int64_t low = i > 0 ? i - 1 : 0, high = i < n - 1 ? i + 1 : n - 1;
  return {low, high, high > low ? 1.0f / float(high - low) : 0.0f};
}

/// J[component][axis] = du_component / dv_axis, the identity added.
void jacobian(const View& u, std::int64_t n, std::int64_t z, std::int64_t y, std::int64_t x, float (&J)[3][3]) {
  const Difference dz = difference(z, u.depth()), dy = difference(y, u.height()), dx = difference(x, u.width());
  for (int k = 0; k < 3; ++k) {
    J[k][0] = (*u.at<float>(n, k, dz.high, y, x) - *u.at<float>(n, k, dz.low, y, x)) * dz.scale;
    J[k][1] = (*u.at<float>(n, k, z, dy.high, x) - *u.at<float>(n, k, z, dy.low, x)) * dy.scale;
    J[k][2] = (*u.at<float>(n, k, z, y, dx.high) - *u.at<float>(n, k, z, y, dx.low)) * dx.scale;
    J[k][k] += 1.0f;
  }
}

float cofactor(const float (&J)[3][3], int r, int c) {
  const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
  return J[r1][c1] * J[r2][c2] - J[r1][c2] * J[r2][c1];
}

}  // namespace

void jacobian_determinant(const View& u, const View& out) {
  parallel_for(u.batch() * u.depth(), [&](std::int64_t task) {
    const std::int64_t n = task / u.depth(), z = task % u.depth();
    for (std::int64_t y = 0; y < u.height(); ++y) {
      for (std::int64_t x = 0; x < u.width(); ++x) {
        float J[3][3];
        jacobian(u, n, z, y, x, J);
        *out.at<float>(n, 0, z, y, x) =
            J[0][0] * cofactor(J, 0, 0) + J[0][1] * cofactor(J, 0, 1) + J[0][2] * cofactor(J, 0, 2);
      }
    }
  });
}

void jacobian_determinant_backward(const View& u, const View& gradient, const View& out) {
  // Gather: voxel v collects from the voxels whose differences read it, so that tasks never write the same place.
  parallel_for(u.batch() * u.depth(), [&](std::int64_t task) {
    const std::int64_t n = task / u.depth();
    const std::int64_t v[2] = {task % u.depth(), 0};
    for (std::int64_t y = 0; y < u.height(); ++y) {
      for (std::int64_t x = 0; x < u.width(); ++x) {
        float total[3] = {0, 0, 0};
        for (int axis = 0; axis < 3; ++axis) {
          const std::int64_t here = axis == 0 ? v[0] : axis == 1 ? y : x;
          const std::int64_t size = u.shape[2 + axis];
          for (std::int64_t i = here > 0 ? here - 1 : 0; i <= (here < size - 1 ? here + 1 : size - 1); ++i) {
            const Difference d = difference(i, size);
            const float sign = float(d.high == here) - float(d.low == here);
            if (sign == 0.0f) continue;
            const std::int64_t pz = axis == 0 ? i : v[0], py = axis == 1 ? i : y, px = axis == 2 ? i : x;
            float J[3][3];
            jacobian(u, n, pz, py, px, J);
            const float weight = sign * d.scale * *gradient.at<float>(n, 0, pz, py, px);
            for (int k = 0; k < 3; ++k) total[k] += weight * cofactor(J, k, axis);
          }
        }
        for (int k = 0; k < 3; ++k) *out.at<float>(n, k, v[0], y, x) = total[k];
      }
    }
  });
}

}  // namespace masr::MASR_ISA
