#include "masr/mind.h"

#include "core/check.h"
#include "cpu/mind.h"
#include "cuda/ops.h"

namespace masr {
namespace {

constexpr auto storage = {DType::float32, DType::float16, DType::bfloat16};

void check_arguments(const char* op, const View& image, std::int64_t radius, std::int64_t dilation, const View& mean,
                     const char* descriptor_name, const View& descriptor) {
  check_dtype(op, "image", image, storage);
  check(image.channels() == 1, op, [&] { return "image must be (N, 1, D, H, W), got " + describe(image); });
  check(radius >= 0, op, [&] { return "radius must be at least 0, got " + std::to_string(radius); });
  check(dilation >= 1, op, [&] { return "dilation must be at least 1, got " + std::to_string(dilation); });
  check_dtype(op, "mean", mean, {DType::float32});
  check_shape(op, "mean", mean, {image.batch(), 1, 1, 1, 1});
  check_dtype(op, descriptor_name, descriptor, storage);
  auto shape = image.shape;
  shape[1] = 12;
  check_shape(op, descriptor_name, descriptor, shape);
}

}  // namespace

void mind_ssc(const View& image, std::int64_t radius, std::int64_t dilation, const View& out, const View& mean,
              const Execution& execution) {
  check_arguments("mind_ssc", image, radius, dilation, mean, "out", out);
  if (out.empty()) return;
  if (on_cuda("mind_ssc", {{"image", image}, {"out", out}, {"mean", mean}})) {
    return cuda::mind_ssc(image, radius, dilation, out, mean, execution);
  }
  MASR_PICK(mind_ssc)(image, radius, dilation, out, mean);
}

void mind_ssc_backward(const View& image, std::int64_t radius, std::int64_t dilation, const View& mean,
                       const View& gradient, const View& out, const Execution& execution) {
  check_arguments("mind_ssc_backward", image, radius, dilation, mean, "gradient", gradient);
  check_dtype("mind_ssc_backward", "out", out, storage);
  check_shape("mind_ssc_backward", "out", out, image.shape);
  if (out.empty()) return;
  if (on_cuda("mind_ssc_backward", {{"image", image}, {"mean", mean}, {"gradient", gradient}, {"out", out}})) {
    return cuda::mind_ssc_backward(image, radius, dilation, mean, gradient, out, execution);
  }
  MASR_PICK(mind_ssc_backward)(image, radius, dilation, mean, gradient, out);
}

}  // namespace masr
