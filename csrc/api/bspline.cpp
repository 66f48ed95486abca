#include "masr/bspline.h"

#include "core/check.h"
#include "cpu/bspline.h"
#include "cuda/ops.h"

namespace masr {
namespace {

using Spacing = std::array<std::int64_t, 3>;

void check_arguments(const char* op, const char* dense_name, const View& dense, const Spacing& spacing,
                     const char* control_name, const View& control) {
  check_dtype(op, dense_name, dense, {DType::float32});
  check_dtype(op, control_name, control, {DType::float32});
  for (std::int64_t step : spacing) {
    check(step >= 1, op, [&] { return "spacing must be at least 1 voxel, got " + std::to_string(step); });
  }
  check(dense.voxels() > 0, op, [&] {
    return std::string(dense_name) + " must have at least one voxel along each axis, got " + describe(dense);
  });
  auto expected = dense.shape;
  for (int axis = 0; axis < 3; ++axis) {
    expected[2 + axis] = bspline_control_points(dense.shape[2 + axis], spacing[axis]);
  }
  check_shape(op, control_name, control, expected);
}

}  // namespace

void bspline_upsample(const View& control, const Spacing& spacing, const View& out, const Execution& execution) {
  check_arguments("bspline_upsample", "out", out, spacing, "control", control);
  if (out.empty()) return;
  if (on_cuda("bspline_upsample", {{"control", control}, {"out", out}})) {
    return cuda::bspline_upsample(control, spacing, out, execution);
  }
  MASR_PICK(bspline_upsample)(control, spacing.data(), out);
}

void bspline_adjoint(const View& gradient, const Spacing& spacing, const View& out, const Execution& execution) {
  check_arguments("bspline_adjoint", "gradient", gradient, spacing, "out", out);
  if (out.empty()) return;
  if (on_cuda("bspline_adjoint", {{"gradient", gradient}, {"out", out}})) {
    return cuda::bspline_adjoint(gradient, spacing, out, execution);
  }
  MASR_PICK(bspline_adjoint)(gradient, spacing.data(), out);
}

}  // namespace masr
