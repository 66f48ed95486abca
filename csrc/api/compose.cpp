// Composition is a warp of one field by the other and a sum, so there is one definition of sampling.
#include "masr/compose.h"

#include <cmath>
#include <memory>
#include <vector>

#include "core/check.h"
#include "cpu/compose.h"
#include "cuda/ops.h"
#include "masr/warp.h"

namespace masr {
namespace {

void check_field(const char* op, const char* name, const View& field) {
  check_dtype(op, name, field, {DType::float32});
  check(field.channels() == 3, op,
        [&] { return std::string(name) + " must be (N, 3, D, H, W), got " + describe(field); });
}

void check_field(const char* op, const char* name, const View& field, const View& like) {
  check_dtype(op, name, field, {DType::float32});
  check_shape(op, name, field, like.shape);
}

void check_steps(const char* op, int steps) {
  check(steps >= 0 && steps <= 30, op, [&] { return "steps must be 0 to 30, got " + std::to_string(steps); });
}

/// Makes planar fields shaped as another one, on its device.
class Fields {
 public:
  Fields(const View& like, const Execution& execution) : like_(like), execution_(execution) {}

  View next() {
    View view = contiguous_view(nullptr, DType::float32, like_.shape);
    view.device = like_.device;
    view.device_index = like_.device_index;
    if (like_.device == Device::cuda) {
      check(bool(execution_.allocate), "exponential", [] { return std::string("needs execution.allocate on CUDA"); });
      view.data = execution_.allocate(std::size_t(like_.elements()) * sizeof(float));
    } else {
      memory_.emplace_back(new float[like_.elements()]);
      view.data = memory_.back().get();
    }
    return view;
  }

 private:
  const View& like_;
  const Execution& execution_;
  std::vector<std::unique_ptr<float[]>> memory_;
};

void add(const View& source, const View& target, const Execution& execution) {
  if (target.device == Device::cuda) return cuda::add_field(source, target, execution);
  MASR_PICK(add_field)(source, target);
}

void scale(const View& source, double factor, const View& target, const Execution& execution) {
  if (target.device == Device::cuda) return cuda::scale_field(source, float(factor), target, execution);
  MASR_PICK(scale_field)(source, float(factor), target);
}

}  // namespace

void compose(const View& outer, const View& inner, Padding padding, const View& out, const Execution& execution) {
  check_field("compose", "inner", inner);
  check_field("compose", "outer", outer, inner);
  check_field("compose", "out", out, inner);
  if (out.empty()) return;
  on_cuda("compose", {{"inner", inner}, {"outer", outer}, {"out", out}});
  warp(outer, inner, View{}, padding, Interpolation::linear, out, execution);
  add(inner, out, execution);
}

void compose_backward(const View& outer, const View& inner, Padding padding, const View& gradient,
                      const View& outer_gradient, const View& inner_gradient, const Execution& execution) {
  const char* op = "compose_backward";
  check_field(op, "inner", inner);
  check_field(op, "outer", outer, inner);
  check_field(op, "gradient", gradient, inner);
  if (outer_gradient) check_field(op, "outer_gradient", outer_gradient, inner);
  if (inner_gradient) check_field(op, "inner_gradient", inner_gradient, inner);
  if (inner.empty()) return;
  on_cuda(op, {{"inner", inner}, {"outer", outer}, {"gradient", gradient}, {"outer_gradient", outer_gradient},
               {"inner_gradient", inner_gradient}});
  warp_backward(outer, inner, View{}, padding, Interpolation::linear, gradient, outer_gradient, inner_gradient,
                execution);
  if (inner_gradient) add(gradient, inner_gradient, execution);
}

void exponential(const View& velocity, int steps, const View& out, const Execution& execution) {
  check_field("exponential", "velocity", velocity);
  check_field("exponential", "out", out, velocity);
  check_steps("exponential", steps);
  if (out.empty()) return;
  on_cuda("exponential", {{"velocity", velocity}, {"out", out}});
  if (steps == 0) return scale(velocity, 1.0, out, execution);
  Fields fields(velocity, execution);
  const View field[2] = {out, fields.next()};  // field[i % 2] holds what i more steps turn into the result
  scale(velocity, std::ldexp(1.0, -steps), field[steps % 2], execution);
  for (int left = steps; left > 0; --left) {
    compose(field[left % 2], field[left % 2], Padding::border, field[(left - 1) % 2], execution);
  }
}

void exponential_backward(const View& velocity, int steps, const View& gradient, const View& out,
                          const Execution& execution) {
  const char* op = "exponential_backward";
  check_field(op, "velocity", velocity);
  check_field(op, "gradient", gradient, velocity);
  check_field(op, "out", out, velocity);
  check_steps(op, steps);
  if (out.empty()) return;
  on_cuda(op, {{"velocity", velocity}, {"gradient", gradient}, {"out", out}});
  if (steps == 0) return scale(gradient, 1.0, out, execution);
  Fields fields(velocity, execution);
  std::vector<View> arguments{fields.next()};  // of every step
  scale(velocity, std::ldexp(1.0, -steps), arguments[0], execution);
  while (int(arguments.size()) < steps) {
    const View next = fields.next();
    compose(arguments.back(), arguments.back(), Padding::border, next, execution);
    arguments.push_back(next);
  }
  const View as_outer = fields.next(), as_inner = fields.next();
  scale(gradient, 1.0, out, execution);
  for (; !arguments.empty(); arguments.pop_back()) {
    const View& field = arguments.back();
    compose_backward(field, field, Padding::border, out, as_outer, as_inner, execution);
    scale(as_outer, 1.0, out, execution);
    add(as_inner, out, execution);
  }
  scale(out, std::ldexp(1.0, -steps), out, execution);
}

}  // namespace masr
