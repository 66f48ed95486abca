// det(I + du/dv) and its adjoint, row by row. Speed is bound by memory: 16 bytes a voxel forward.
#include "cpu/jacobian.h"

#include "math/jacobian.h"

namespace masr::MASR_ISA {
namespace {

/// f(size, n, z, y, x) for every voxel.
template <class F>
void for_voxels(const View& view, F&& f) {
  const std::int64_t size[3] = {view.depth(), view.height(), view.width()};
  parallel_for(view.batch() * size[0], [&](std::int64_t task) {
    for (std::int64_t y = 0; y < size[1]; ++y) {
      for (std::int64_t x = 0; x < size[2]; ++x) f(size, task / size[0], task % size[0], y, x);
    }
  });
}

}  // namespace

void jacobian_determinant(const View& u, const View& out) {
  for_voxels(u, [&](const auto& size, std::int64_t n, std::int64_t z, std::int64_t y, std::int64_t x) {
    const auto read = [&](int k, std::int64_t pz, std::int64_t py, std::int64_t px) {
      return *u.at<float>(n, k, pz, py, px);
    };
    float J[3][3];
    jacobian(read, size, z, y, x, J);
    *out.at<float>(n, 0, z, y, x) = determinant(J);
  });
}

void jacobian_determinant_backward(const View& u, const View& gradient, const View& out) {
  for_voxels(u, [&](const auto& size, std::int64_t n, std::int64_t z, std::int64_t y, std::int64_t x) {
    const auto read = [&](int k, std::int64_t pz, std::int64_t py, std::int64_t px) {
      return *u.at<float>(n, k, pz, py, px);
    };
    const auto read_gradient = [&](std::int64_t pz, std::int64_t py, std::int64_t px) {
      return *gradient.at<float>(n, 0, pz, py, px);
    };
    float total[3];
    determinant_gradient(read, read_gradient, size, z, y, x, total);
    for (int k = 0; k < 3; ++k) *out.at<float>(n, k, z, y, x) = total[k];
  });
}

}  // namespace masr::MASR_ISA
