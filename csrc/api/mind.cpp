#include "masr/mind.h"

#include "core/check.h"
#include "cpu/mind.h"

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

void mind_ssc(const View& image, std::int64_t radius, std::int64_t dilation, const View& out, const View& mean) {
  check_arguments("mind_ssc", image, radius, dilation, mean, "out", out);
  if (!out.empty()) MASR_PICK(mind_ssc)(image, radius, dilation, out, mean);
}

void mind_ssc_backward(const View& image, std::int64_t radius, std::int64_t dilation, const View& mean,
                       const View& gradient, const View& out) {
  check_arguments("mind_ssc_backward", image, radius, dilation, mean, "gradient", gradient);
  check_dtype("mind_ssc_backward", "out", out, storage);
  check_shape("mind_ssc_backward", "out", out, image.shape);
  if (!out.empty()) MASR_PICK(mind_ssc_backward)(image, radius, dilation, mean, gradient, out);
}

}  // namespace masr
