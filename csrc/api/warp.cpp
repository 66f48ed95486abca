#include "masr/warp.h"

#include <memory>

#include "core/check.h"
#include "cpu/warp.h"
#include "cuda/ops.h"

namespace masr {
namespace {

void check_arguments(const char* op, const Warp& warp, const char* output_name, const View& output) {
  const View& image = warp.image;
  check_dtype(op, "image", image, {DType::float32, DType::float16, DType::bfloat16});
  check_dtype(op, output_name, output, {image.dtype});
  check(output.batch() == image.batch() && output.channels() == image.channels(), op, [&] {
    return std::string(output_name) + " must have the batch and channels of image, " + describe(image) + ", got " +
           describe(output);
  });
  for (int axis = 2; axis < 5; ++axis) {
    check(image.shape[axis] <= 1 << 24 && output.shape[axis] <= 1 << 24, op,
          [&] { return "axes must have at most 16777216 voxels, got image " + describe(image); });
    check(image.shape[axis] > 0 || output.empty(), op,
          [&] { return "image must have at least one voxel, got " + describe(image); });
  }
  if (warp.displacement) {
    check_dtype(op, "displacement", warp.displacement, {DType::float32});
    auto shape = output.shape;
    shape[1] = 3;
    check_shape(op, "displacement", warp.displacement, shape);
  }
  if (warp.matrix) {
    check_dtype(op, "matrix", warp.matrix, {DType::float64});
    const auto& shape = warp.matrix.shape;
    check((shape[0] == 1 || shape[0] == image.batch()) && shape[1] == 1 && shape[2] == 1 && shape[3] == 3 &&
              shape[4] == 4 && warp.matrix.stride[3] == 4 && warp.matrix.stride[4] == 1,
          op, [&] { return "matrix must be (N or 1, 1, 1, 3, 4) contiguous, got " + describe(warp.matrix); });
  }
}

}  // namespace

void warp(const View& image, const View& displacement, const View& matrix, Padding padding, Interpolation mode,
          const View& out, const Execution& execution) {
  const Warp arguments{image, displacement, matrix, padding, mode};
  check_arguments("warp", arguments, "out", out);
  if (out.empty()) return;
  if (on_cuda("warp", {{"image", image}, {"displacement", displacement}, {"matrix", matrix}, {"out", out}})) {
    return cuda::warp(arguments, out, execution);
  }
  MASR_PICK(warp)(arguments, out);
}

void warp_backward(const View& image, const View& displacement, const View& matrix, Padding padding,
                   Interpolation mode, const View& gradient, const View& image_gradient,
                   const View& displacement_gradient, const Execution& execution) {
  const char* op = "warp_backward";
  const Warp arguments{image, displacement, matrix, padding, mode};
  check_arguments(op, arguments, "gradient", gradient);
  if (image_gradient) {
    check_dtype(op, "image_gradient", image_gradient, {image.dtype});
    check_shape(op, "image_gradient", image_gradient, image.shape);
  }
  if (displacement_gradient) {
    check(mode == Interpolation::linear, op,
          [] { return "displacement_gradient must be left out with nearest interpolation, got one"; });
    check_dtype(op, "displacement_gradient", displacement_gradient, {DType::float32});
    auto shape = gradient.shape;
    shape[1] = 3;
    check_shape(op, "displacement_gradient", displacement_gradient, shape);
  }
  if (image.empty()) return;
  if (on_cuda(op, {{"image", image}, {"displacement", displacement}, {"matrix", matrix}, {"gradient", gradient},
                   {"image_gradient", image_gradient}, {"displacement_gradient", displacement_gradient}})) {
    return cuda::warp_backward(arguments, gradient, image_gradient, displacement_gradient, execution);
  }
  const std::int64_t rows = gradient.batch() * gradient.depth() * gradient.height();
  const std::unique_ptr<std::int32_t[]> planes(image_gradient ? new std::int32_t[2 * rows] : nullptr);
  MASR_PICK(warp_backward)(arguments, gradient, image_gradient, displacement_gradient, planes.get());
}

void warp_matrix_gradient(const View& displacement_gradient, const View& out, const Execution& execution) {
  const char* op = "warp_matrix_gradient";
  check_dtype(op, "displacement_gradient", displacement_gradient, {DType::float32});
  check(displacement_gradient.channels() == 3, op, [&] {
    return "displacement_gradient must be (N, 3, D, H, W), got " + describe(displacement_gradient);
  });
  check_dtype(op, "out", out, {DType::float64});
  check_shape(op, "out", out, {displacement_gradient.batch(), 1, 1, 3, 4});
  if (on_cuda(op, {{"displacement_gradient", displacement_gradient}, {"out", out}})) {
    return cuda::warp_matrix_gradient(displacement_gradient, out, execution);
  }
  const std::unique_ptr<double[]> partial(
      new double[12 * displacement_gradient.batch() * displacement_gradient.depth()]);
  MASR_PICK(warp_matrix_gradient)(displacement_gradient, out, partial.get());
}

}  // namespace masr
