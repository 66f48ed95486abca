// Composition is a warp of one field by the other and a sum, so there is one definition of sampling.
#include "masr/compose.h"

#include <cmath>
#include <memory>
#include <vector>

#include "core/check.h"
#include "cpu/compose.h"
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

/// A planar field of its own memory.
class Field {
 public:
  explicit Field(const View& like)
      : data_(new float[like.elements()]), view_(contiguous_view(data_.get(), DType::float32, like.shape)) {}
  const View& view() const { return view_; }

 private:
  std::unique_ptr<float[]> data_;
  View view_;
};

void add(const View& source, const View& target) { MASR_PICK(add_field)(source, target); }

void scale(const View& source, double factor, const View& target) {
  MASR_PICK(scale_field)(source, float(factor), target);
}

}  // namespace

void compose(const View& outer, const View& inner, Padding padding, const View& out) {
  check_field("compose", "inner", inner);
  check_field("compose", "outer", outer, inner);
  check_field("compose", "out", out, inner);
  if (out.empty()) return;
  warp(outer, inner, View{}, padding, Interpolation::linear, out);
  add(inner, out);
}

void compose_backward(const View& outer, const View& inner, Padding padding, const View& gradient,
                      const View& outer_gradient, const View& inner_gradient) {
  const char* op = "compose_backward";
  check_field(op, "inner", inner);
  check_field(op, "outer", outer, inner);
  check_field(op, "gradient", gradient, inner);
  if (outer_gradient) check_field(op, "outer_gradient", outer_gradient, inner);
  if (inner_gradient) check_field(op, "inner_gradient", inner_gradient, inner);
  if (inner.empty()) return;
  warp_backward(outer, inner, View{}, padding, Interpolation::linear, gradient, outer_gradient, inner_gradient);
  if (inner_gradient) add(gradient, inner_gradient);
}

void exponential(const View& velocity, int steps, const View& out) {
  check_field("exponential", "velocity", velocity);
  check_field("exponential", "out", out, velocity);
  check_steps("exponential", steps);
  if (out.empty()) return;
  if (steps == 0) return scale(velocity, 1.0, out);
  const Field other(velocity);
  const View* field[2] = {&out, &other.view()};  // field[i % 2] holds what i more steps turn into the result
  scale(velocity, std::ldexp(1.0, -steps), *field[steps % 2]);
  for (int left = steps; left > 0; --left) {
    compose(*field[left % 2], *field[left % 2], Padding::border, *field[(left - 1) % 2]);
  }
}

void exponential_backward(const View& velocity, int steps, const View& gradient, const View& out) {
  const char* op = "exponential_backward";
  check_field(op, "velocity", velocity);
  check_field(op, "gradient", gradient, velocity);
  check_field(op, "out", out, velocity);
  check_steps(op, steps);
  if (out.empty()) return;
  if (steps == 0) return scale(gradient, 1.0, out);
  std::vector<Field> fields;  // the argument of every step
  fields.emplace_back(velocity);
  scale(velocity, std::ldexp(1.0, -steps), fields[0].view());
  while (int(fields.size()) < steps) {
    Field next(velocity);
    compose(fields.back().view(), fields.back().view(), Padding::border, next.view());
    fields.push_back(std::move(next));
  }
  const Field as_outer(velocity), as_inner(velocity);
  scale(gradient, 1.0, out);
  for (; !fields.empty(); fields.pop_back()) {
    const View& field = fields.back().view();
    compose_backward(field, field, Padding::border, out, as_outer.view(), as_inner.view());
    scale(as_outer.view(), 1.0, out);
    add(as_inner.view(), out);
  }
  scale(out, std::ldexp(1.0, -steps), out);
}

}  // namespace masr
