#include "masr/warp_ssd.h"

#include <limits>
#include <vector>

#include "core/check.h"
#include "cpu/warp_ssd.h"
#include "cuda/ops.h"

namespace masr {
namespace {

constexpr const char* op = "warp_ssd";

void check_arguments(const WarpSsd& in, const View& value, const View& total_weight, const View& gradient) {
  const View& fixed = in.fixed;
  const View& moving = in.moving;
  const std::int64_t batch = fixed.batch();
  const auto same_grid = [batch](const View& grid, std::int64_t channels) {
    return std::array<std::int64_t, 5>{batch, channels, grid.depth(), grid.height(), grid.width()};
  };
  const std::array<std::int64_t, 5> scalar{batch, 1, 1, 1, 1}, matrix{batch, 1, 1, 3, 4};

  check_dtype(op, "fixed", fixed, {DType::float32, DType::float16, DType::bfloat16});
  check_dtype(op, "moving", moving, {fixed.dtype});
  check(moving.batch() == batch && moving.channels() == fixed.channels(), op, [&] {
    return "moving must have the batch size and channels of fixed " + describe(fixed) + ", got " + describe(moving);
  });
  check(fixed.channels() > 0, op, [&] { return "fixed must have a channel, got " + describe(fixed); });
  check(moving.voxels() > 0, op, [&] { return "moving must have a voxel, got " + describe(moving); });
  if (in.displacement) {
    check_dtype(op, "displacement", in.displacement, {DType::float32});
    check_shape(op, "displacement", in.displacement, same_grid(fixed, 3));
  }
  if (in.matrix) {
    check_dtype(op, "matrix", in.matrix, {DType::float64});
    check_shape(op, "matrix", in.matrix, matrix);
  }
  if (in.weights) {
    check_dtype(op, "weights", in.weights, {DType::float32});
    check_shape(op, "weights", in.weights, same_grid(fixed, 1));
  }
  if (in.moving_mask) {
    check_dtype(op, "moving_mask", in.moving_mask, {DType::uint8, DType::float32});
    check_shape(op, "moving_mask", in.moving_mask, same_grid(moving, 1));
  }
  check_dtype(op, "value", value, {DType::float64});
  check_shape(op, "value", value, scalar);
  if (total_weight) {
    check_dtype(op, "total_weight", total_weight, {DType::float64});
    check_shape(op, "total_weight", total_weight, scalar);
  }
  if (gradient && gradient.dtype == DType::float64) {
    check(!in.displacement, op, [] { return "gradient must be that to the displacement when one is given"; });
    check_shape(op, "gradient", gradient, matrix);
  } else if (gradient) {
    check_dtype(op, "gradient", gradient, {DType::float32});
    check_shape(op, "gradient", gradient, same_grid(fixed, 3));
  }
}

}  // namespace

void warp_ssd(const WarpSsd& in, const View& value, const View& total_weight, const View& gradient,
              const Execution& execution) {
  check_arguments(in, value, total_weight, gradient);
  if (on_cuda(op, {{"fixed", in.fixed}, {"moving", in.moving}, {"displacement", in.displacement},
                   {"matrix", in.matrix}, {"weights", in.weights}, {"moving_mask", in.moving_mask},
                   {"value", value}, {"total_weight", total_weight}, {"gradient", gradient}})) {
    return cuda::warp_ssd(in, value, total_weight, gradient, execution);
  }
  const View& fixed = in.fixed;
  const bool to_matrix = gradient && gradient.dtype == DType::float64;
  const bool to_field = gradient && !to_matrix;
  const auto blocks = [](std::int64_t size, std::int64_t block) { return (size + block - 1) / block; };
  const std::int64_t slabs = blocks(fixed.depth(), warp_ssd_task_planes);
  const std::int64_t per_item = fixed.voxels() > 0 ? slabs * blocks(fixed.height(), warp_ssd_task_rows) : 0;

  // The weights' sum is known only afterwards; until then every voxel is taken to count once.
  const double assumed = double(fixed.voxels()), channels = double(fixed.channels());
  const float scale = float(2.0 / (assumed * channels));
  std::vector<WarpSsdSums> sums(fixed.batch() * per_item);
  const auto task = MASR_PICK(warp_ssd_task);
  parallel_for(std::int64_t(sums.size()), [&](std::int64_t i) {
    const std::int64_t block = i % per_item;  // slabs of one strip of rows follow each other: they share planes of moving
    sums[i] = task(in, i / per_item, block % slabs * warp_ssd_task_planes, block / slabs * warp_ssd_task_rows,
                   to_field ? gradient : View{}, scale, to_matrix);
  });

  for (std::int64_t n = 0; n < fixed.batch(); ++n) {
    WarpSsdSums total;
    for (std::int64_t i = n * per_item; i < (n + 1) * per_item; ++i) {
      total.weight += sums[i].weight;
      total.squared += sums[i].squared;
      for (int k = 0; k < 3; ++k) {
        for (int j = 0; j < 4; ++j) total.matrix[k][j] += sums[i].matrix[k][j];
      }
    }
    const bool none = total.weight == 0.0;
    *value.at<double>(n, 0, 0, 0, 0) =
        none ? std::numeric_limits<double>::quiet_NaN() : total.squared / (channels * total.weight);
    if (total_weight) *total_weight.at<double>(n, 0, 0, 0, 0) = total.weight;
    if (to_matrix) {
      for (int k = 0; k < 3; ++k) {
        for (int j = 0; j < 4; ++j) {
          *gradient.at<double>(n, 0, 0, k, j) = none ? 0.0 : 2.0 * total.matrix[k][j] / (channels * total.weight);
        }
      }
    }
    if (to_field && !none && total.weight != assumed) {
      const float factor = float(assumed / total.weight);
      parallel_for(fixed.depth(), [&](std::int64_t z) { MASR_PICK(warp_ssd_rescale)(gradient, n, z, factor); });
    }
  }
}

}  // namespace masr
