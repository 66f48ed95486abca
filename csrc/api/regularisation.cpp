#include "masr/regularisation.h"

#include <vector>

#include "core/check.h"
#include "cpu/regularisation.h"
#include "cuda/ops.h"

namespace masr {
namespace {

void check_arguments(const char* op, const View& field, const std::array<double, 3>& spacing, const View& value,
                     const View& gradient) {
  check_dtype(op, "field", field, {DType::float32});
  check(field.voxels() > 0, op,
        [&] { return "field must have at least one voxel along each axis, got " + describe(field); });
  for (double step : spacing) {
    check(step > 0, op, [&] { return "spacing must be positive, got " + std::to_string(step); });
  }
  check_dtype(op, "value", value, {DType::float64});
  check_shape(op, "value", value, {field.batch(), 1, 1, 1, 1});
  check_dtype(op, "gradient", gradient, {DType::float32});
  check_shape(op, "gradient", gradient, field.shape);
}

/// The kernels leave one sum per task; added in order, the result doesn't depend on which thread did which.
void add_up(const std::vector<double>& sums, const View& value) {
  const std::int64_t count = value.batch() ? std::int64_t(sums.size()) / value.batch() : 0;
  for (std::int64_t n = 0; n < value.batch(); ++n) {
    double total = 0;
    for (std::int64_t i = 0; i < count; ++i) total += sums[n * count + i];
    *value.at<double>(n, 0, 0, 0, 0) = total;
  }
}

}  // namespace

void diffusion_energy(const View& field, const std::array<double, 3>& spacing, const View& value,
                      const View& gradient, const Execution& execution) {
  check_arguments("diffusion_energy", field, spacing, value, gradient);
  double weight[3];
  for (int axis = 0; axis < 3; ++axis) weight[axis] = 1.0 / (spacing[axis] * spacing[axis] * double(field.voxels()));
  if (on_cuda("diffusion_energy", {{"field", field}, {"value", value}, {"gradient", gradient}})) {
    return cuda::diffusion_energy(field, weight, value, gradient, execution);
  }
  std::vector<double> sums(RegularisationTasks(field).count);
  MASR_PICK(diffusion_energy)(field, weight, sums.data(), gradient);
  add_up(sums, value);
}

void bending_energy(const View& field, const std::array<double, 3>& spacing, const View& value,
                    const View& gradient, const Execution& execution) {
  check_arguments("bending_energy", field, spacing, value, gradient);
  double weight[3][3];
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      const double area = spacing[a] * spacing[b];
      weight[a][b] = (a == b ? 1.0 : 2.0) / (area * area * double(field.voxels()));
    }
  }
  if (on_cuda("bending_energy", {{"field", field}, {"value", value}, {"gradient", gradient}})) {
    return cuda::bending_energy(field, weight, value, gradient, execution);
  }
  std::vector<double> sums(RegularisationTasks(field).count);
  MASR_PICK(bending_energy)(field, weight, sums.data(), gradient);
  add_up(sums, value);
}

}  // namespace masr
