// B-spline upsampling and its adjoint, one axis after the other.
//
// Between two knots (a cell, `spacing` voxels) the same four control points count, with weights that depend only on the
// place within the cell. Forward goes x, z, y and the adjoint y, z, x, so that the work along x, which does not
// vectorise well, is done on 1 / (spacing_y spacing_z) of the data and the work on every voxel is that along y: vectors
// over x with four weights that are the same for the whole row. Both are bound by the 4 bytes a voxel and channel that
// must move.
#include "cpu/bspline.h"

#include "cpu/convert.h"
#include "cpu/lanes.h"
#include "cpu/scratch.h"
#include "math/bspline.h"

namespace masr::MASR_ISA {
namespace {

constexpr std::int64_t planes_per_task = 16;

std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// One axis: cell c holds the voxels c * spacing + r and reads the control points c ... c + 3 with weights(r).
class Axis {
 public:
  const std::int64_t voxels, spacing, cells, controls;
  const std::int64_t period;  ///< different places within a cell

  Axis(std::int64_t voxels, std::int64_t spacing)
      : voxels(voxels), spacing(spacing), cells((voxels - 1) / spacing + 1), controls(cells + 3),
        period(smaller(spacing, voxels)), weights_(4 * period) {
    for (std::int64_t r = 0; r < period; ++r) {
      float weight[4];
      cubic_bspline(double(r) / double(spacing), weight);
      std::memcpy(weights_.data() + 4 * r, weight, sizeof(weight));
    }
  }

  const float* weights(std::int64_t r) const { return weights_.data() + 4 * r; }
  /// Voxels of a cell: `spacing`, or fewer at the end.
  std::int64_t length(std::int64_t cell) const { return smaller(spacing, voxels - cell * spacing); }

 private:
  Scratch weights_;
};

/// target = sum over j of weight[j] * source[j], rows of `count` elements.
void blend(float* target, const float* const (&source)[4], const float* weight, std::int64_t count) {
  for_lanes(0, count, [&](auto kind, std::int64_t i) {
    using V = decltype(kind);
    put<V>(target + i, get<V>(source[0] + i) * weight[0] + get<V>(source[1] + i) * weight[1] +
                           get<V>(source[2] + i) * weight[2] + get<V>(source[3] + i) * weight[3]);
  });
}

/// The adjoint for a cell of `rows` rows: target[j] += sum over r of weight[4 r + j] * source row r. The targets may
/// overlap.
void collect(float* const (&target)[4], const float* source, std::int64_t stride, std::int64_t rows,
             const float* weight, std::int64_t count) {
  for_lanes(0, count, [&](auto kind, std::int64_t i) {
    using V = decltype(kind);
    V sum[4] = {};
    for (std::int64_t r = 0; r < rows; ++r) {
      if (stride > 0) prefetch(source + (r + rows) * stride + i);  // the next cell: no pattern the hardware sees
      const V value = get<V>(source + r * stride + i);
      for (int j = 0; j < 4; ++j) sum[j] += value * weight[4 * r + j];
    }
    for (int j = 0; j < 4; ++j) put<V>(target[j] + i, get<V>(target[j] + i) + sum[j]);
  });
}

/// One row along x; `scratch` holds axis.cells floats.
void upsample_row(const Axis& axis, const float* control, float* out, float* scratch) {
  for (std::int64_t r = 0; r < axis.period; ++r) {
    blend(scratch, {control, control + 1, control + 2, control + 3}, axis.weights(r), axis.cells);
    const float* value = scratch;
    for (std::int64_t x = r; x < axis.voxels; x += axis.spacing) out[x] = *value++;
  }
}

/// The adjoint of upsample_row; `scratch` holds axis.period * axis.cells floats.
void adjoint_row(const Axis& axis, const float* gradient, float* out, float* scratch) {
  for (std::int64_t r = 0; r < axis.period; ++r) {
    float* value = scratch + r * axis.cells;
    value[axis.cells - 1] = 0.0f;  // the last cell may be short
    for (std::int64_t x = r; x < axis.voxels; x += axis.spacing) *value++ = gradient[x];
  }
  std::memset(out, 0, axis.controls * sizeof(float));
  collect({out, out + 1, out + 2, out + 3}, scratch, axis.cells, axis.period, axis.weights(0), axis.cells);
}

/// The planes of the four control points in use, each in the place of the one four before it.
struct Ring {
  float* data;
  std::int64_t plane;
  float* operator[](std::int64_t control) const { return data + control % 4 * plane; }
};

}  // namespace

void bspline_upsample(const View& control, const std::int64_t* spacing, const View& out) {
  const Axis az(out.depth(), spacing[0]), ay(out.height(), spacing[1]), ax(out.width(), spacing[2]);
  const std::int64_t width = ax.voxels, plane = ay.controls * width;
  const std::int64_t blocks = (az.voxels + planes_per_task - 1) / planes_per_task;
  parallel_for(out.batch() * out.channels() * blocks, [&](std::int64_t task) {
    const std::int64_t n = task / blocks / out.channels(), c = task / blocks % out.channels();
    const std::int64_t begin = task % blocks * planes_per_task, end = smaller(begin + planes_per_task, az.voxels);
    const Scratch memory(5 * plane + width + ax.controls + ax.cells);
    const Ring ring{memory.data(), plane};              // control planes, expanded along x
    float* const expanded = ring.data + 4 * plane;  // one plane, expanded along z too
    float* const out_row = expanded + plane;
    float* const control_row = out_row + width;
    float* const row_scratch = control_row + ax.controls;
    std::int64_t next = begin / az.spacing;
    for (std::int64_t z = begin; z < end; ++z) {
      const std::int64_t cell = z / az.spacing;
      for (; next < cell + 4; ++next) {
        for (std::int64_t y = 0; y < ay.controls; ++y) {
          upsample_row(ax, row(control, n, c, next, y, control_row), ring[next] + y * width, row_scratch);
        }
      }
      blend(expanded, {ring[cell], ring[cell + 1], ring[cell + 2], ring[cell + 3]}, az.weights(z % az.spacing), plane);
      for (std::int64_t y = 0; y < ay.voxels; ++y) {
        const float* first = expanded + y / ay.spacing * width;
        float* target = out.at<float>(n, c, z, y, 0);
        blend(out.planar() ? target : out_row, {first, first + width, first + 2 * width, first + 3 * width},
              ay.weights(y % ay.spacing), width);
        if (!out.planar()) narrow(target, out_row, DType::float32, width, out.stride[4]);
      }
    }
  });
}

void bspline_adjoint(const View& gradient, const std::int64_t* spacing, const View& out) {
  const Axis az(gradient.depth(), spacing[0]), ay(gradient.height(), spacing[1]), ax(gradient.width(), spacing[2]);
  const std::int64_t width = ax.voxels, plane = ay.controls * width, control_plane = ay.controls * ax.controls;
  const std::int64_t blocks = (az.voxels + planes_per_task - 1) / planes_per_task;
  const std::int64_t block_controls = smaller(az.cells, (planes_per_task - 1) / az.spacing + 2) + 3;

  // Every task sums its planes into control planes of its own; these are added afterwards, in the order of the tasks.
  const std::int64_t series = gradient.batch() * gradient.channels();
  const Scratch partial(series * blocks * block_controls * control_plane);
  parallel_for(series * blocks, [&](std::int64_t task) {
    const std::int64_t n = task / blocks / gradient.channels(), c = task / blocks % gradient.channels();
    const std::int64_t begin = task % blocks * planes_per_task, end = smaller(begin + planes_per_task, az.voxels);
    const Scratch memory(5 * plane + ay.period * width + ax.period * ax.cells);
    const Ring ring{memory.data(), plane};             // sums over y and z so far
    float* const reduced = ring.data + 4 * plane;  // one plane, summed along y
    float* const rows = reduced + plane;
    float* const row_scratch = rows + ay.period * width;
    std::int64_t next = begin / az.spacing;  // the first control plane that is not yet summed along x
    float* target = partial.data() + task * block_controls * control_plane;
    const auto finish_until = [&](std::int64_t control) {
      for (; next < control; ++next) {
        for (std::int64_t y = 0; y < ay.controls; ++y, target += ax.controls) {
          adjoint_row(ax, ring[next] + y * width, target, row_scratch);
        }
        std::memset(ring[next], 0, plane * sizeof(float));
      }
    };
    std::memset(ring.data, 0, 4 * plane * sizeof(float));
    for (std::int64_t z = begin; z < end; ++z) {
      const std::int64_t cell = z / az.spacing;
      finish_until(cell);
      std::memset(reduced, 0, plane * sizeof(float));
      for (std::int64_t y = 0; y < ay.cells; ++y) {
        float* const first = reduced + y * width;
        const float* source = gradient.at<float>(n, c, z, y * ay.spacing, 0);
        std::int64_t stride = gradient.stride[3];
        if (!gradient.planar()) {
          for (std::int64_t r = 0; r < ay.length(y); ++r) {
            widen(rows + r * width, source + r * stride, DType::float32, width, gradient.stride[4]);
          }
          source = rows;
          stride = width;
        }
        collect({first, first + width, first + 2 * width, first + 3 * width}, source, stride, ay.length(y),
                ay.weights(0), width);
      }
      collect({ring[cell], ring[cell + 1], ring[cell + 2], ring[cell + 3]}, reduced, 0, 1,
              az.weights(z % az.spacing), plane);
    }
    finish_until((end - 1) / az.spacing + 4);
  });

  parallel_for(series * az.controls, [&](std::int64_t task) {
    const std::int64_t s = task / az.controls, control = task % az.controls;
    const Scratch memory(ax.controls);
    float* const sum = memory.data();
    for (std::int64_t y = 0; y < ay.controls; ++y) {
      std::memset(sum, 0, ax.controls * sizeof(float));
      for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t first = block * planes_per_task / az.spacing;
        const std::int64_t last = (smaller((block + 1) * planes_per_task, az.voxels) - 1) / az.spacing + 3;
        if (control < first || control > last) continue;
        const float* part =
            partial.data() + ((s * blocks + block) * block_controls + control - first) * control_plane + y * ax.controls;
        for (std::int64_t x = 0; x < ax.controls; ++x) sum[x] += part[x];
      }
      narrow(out.at<float>(s / out.channels(), s % out.channels(), control, y, 0), sum, DType::float32, ax.controls,
             out.stride[4]);
    }
  });
}

}  // namespace masr::MASR_ISA
