#include "masr/jacobian.h"

#include "core/check.h"
#include "cpu/jacobian.h"
#include "cuda/ops.h"

namespace masr {
namespace {

void check_arguments(const char* op, const View& displacement, const char* scalar_name, const View& scalar) {
  check_dtype(op, "displacement", displacement, {DType::float32});
  check(displacement.channels() == 3, op,
        [&] { return "displacement must be (N, 3, D, H, W), got " + describe(displacement); });
  check_dtype(op, scalar_name, scalar, {DType::float32});
  auto shape = displacement.shape;
  shape[1] = 1;
  check_shape(op, scalar_name, scalar, shape);
}

}  // namespace

void jacobian_determinant(const View& displacement, const View& out, const Execution& execution) {
  check_arguments("jacobian_determinant", displacement, "out", out);
  if (out.empty()) return;
  if (on_cuda("jacobian_determinant", {{"displacement", displacement}, {"out", out}})) {
    return cuda::jacobian_determinant(displacement, out, execution);
  }
  MASR_PICK(jacobian_determinant)(displacement, out);
}

void jacobian_determinant_backward(const View& displacement, const View& gradient, const View& out,
                                   const Execution& execution) {
  check_arguments("jacobian_determinant_backward", displacement, "gradient", gradient);
  check_dtype("jacobian_determinant_backward", "out", out, {DType::float32});
  check_shape("jacobian_determinant_backward", "out", out, displacement.shape);
  if (out.empty()) return;
  if (on_cuda("jacobian_determinant_backward",
              {{"displacement", displacement}, {"gradient", gradient}, {"out", out}})) {
    return cuda::jacobian_determinant_backward(displacement, gradient, out, execution);
  }
  MASR_PICK(jacobian_determinant_backward)(displacement, gradient, out);
}

}  // namespace masr
