#include "masr/search.h"

#include "core/check.h"
#include "cpu/search.h"
#include "cuda/ops.h"

namespace masr {
namespace {

constexpr const char* op = "displacement_search";

void check_arguments(const DisplacementSearch& in, const View& displacement, const View& cost) {
  const auto with_channels = [&](std::int64_t channels) {
    auto shape = in.fixed.shape;
    shape[1] = channels;
    return shape;
  };
  check_dtype(op, "fixed", in.fixed, {DType::float32, DType::float16, DType::bfloat16});
  check(in.fixed.channels() > 0, op, [&] { return "fixed must have a channel, got " + describe(in.fixed); });
  check_dtype(op, "moving", in.moving, {in.fixed.dtype});
  check_shape(op, "moving", in.moving, in.fixed.shape);
  if (in.weights) {
    check_dtype(op, "weights", in.weights, {DType::float32});
    check_shape(op, "weights", in.weights, with_channels(1));
  }
  if (in.moving_mask) {
    check_dtype(op, "moving_mask", in.moving_mask, {DType::uint8, DType::float32});
    check_shape(op, "moving_mask", in.moving_mask, with_channels(1));
  }
  if (in.coupling) {
    check_dtype(op, "coupling", in.coupling, {DType::float32});
    check_shape(op, "coupling", in.coupling, with_channels(3));
  }
  check(in.theta >= 0, op, [&] { return "theta must be at least 0, got " + std::to_string(in.theta); });
  for (std::int64_t r : in.radius) {
    check(r >= 0 && r <= search_max_radius, op, [&] {
      return "radius must be 0 to " + std::to_string(search_max_radius) + " cells, got " + std::to_string(r);
    });
  }
  check_dtype(op, "displacement", displacement, {DType::float32});
  check_shape(op, "displacement", displacement, with_channels(3));
  check_dtype(op, "cost", cost, {DType::float32});
  check_shape(op, "cost", cost, with_channels(1));
}

}  // namespace

void displacement_search(const DisplacementSearch& input, const View& displacement, const View& cost,
                         const Execution& execution) {
  check_arguments(input, displacement, cost);
  const bool cuda = on_cuda(op, {{"fixed", input.fixed}, {"moving", input.moving}, {"weights", input.weights},
                                 {"moving_mask", input.moving_mask}, {"coupling", input.coupling},
                                 {"displacement", displacement}, {"cost", cost}});
  if (cost.empty()) return;
  if (cuda) return cuda::displacement_search(input, displacement, cost, execution);
  MASR_PICK(displacement_search)(input, displacement, cost);
}

}  // namespace masr
