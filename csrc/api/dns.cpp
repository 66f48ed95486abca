#include "masr/dns.h"

#include <cfloat>
#include <cmath>

#include "core/check.h"
#include "cpu/dns.h"
#include "cuda/ops.h"

namespace masr {
namespace {

DnsParameters checked(const char* op, const View& features, const char* relations_name, const View& relations,
                      const std::vector<std::int64_t>& dilations, DnsReduction reduction, float eps) {
  const auto storage = {DType::float32, DType::float16, DType::bfloat16};
  check_dtype(op, "features", features, storage);
  check_dtype(op, relations_name, relations, storage);
  check(features.channels() >= 1, op,
        [&] { return "features must have at least one channel, got " + describe(features); });
  check(!dilations.empty(), op, [] { return std::string("dilations must name at least one layout, got none"); });
  for (std::int64_t dilation : dilations) {
    check(dilation >= 1, op, [&] { return "dilations must be at least 1 voxel, got " + std::to_string(dilation); });
  }
  check(eps >= FLT_MIN && std::isfinite(eps), op,
        [&] { return "eps must be positive and finite, got " + std::to_string(eps); });
  const bool per_channel = reduction == DnsReduction::none;
  const auto layouts = static_cast<std::int64_t>(dilations.size());
  auto shape = features.shape;
  shape[1] = 12 * layouts * (per_channel ? features.channels() : 1);
  check_shape(op, relations_name, relations, shape);
  return {dilations.data(), layouts, per_channel, eps};
}

void check_output(const char* op, const View& out) {
  for (int axis = 0; axis < 5; ++axis) {
    check(out.stride[axis] != 0 || out.shape[axis] <= 1, op,
          [] { return std::string("out must have memory of its own for every element, got an expanded array"); });
  }
}

}  // namespace

void dns(const View& features, const std::vector<std::int64_t>& dilations, DnsReduction reduction, float eps,
         const View& out, const Execution& execution) {
  const DnsParameters parameters = checked("dns", features, "out", out, dilations, reduction, eps);
  check_output("dns", out);
  if (out.empty()) return;
  if (on_cuda("dns", {{"features", features}, {"out", out}})) return cuda::dns(features, parameters, out, execution);
  MASR_PICK(dns)(features, parameters, out);
}

void dns_backward(const View& features, const View& gradient, const std::vector<std::int64_t>& dilations,
                  DnsReduction reduction, float eps, const View& out, const Execution& execution) {
  const DnsParameters parameters = checked("dns_backward", features, "gradient", gradient, dilations, reduction, eps);
  check_dtype("dns_backward", "out", out, {DType::float32, DType::float16, DType::bfloat16});
  check_shape("dns_backward", "out", out, features.shape);
  check_output("dns_backward", out);
  if (out.empty()) return;
  if (on_cuda("dns_backward", {{"features", features}, {"gradient", gradient}, {"out", out}})) {
    return cuda::dns_backward(features, gradient, parameters, out, execution);
  }
  MASR_PICK(dns_backward)(features, gradient, parameters, out);
}

}  // namespace masr
