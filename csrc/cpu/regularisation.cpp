// Energies of differences of a field, value and gradient in one pass: each voxel reads its neighbours and writes its
// own entry of the gradient, so tasks share nothing. Bound by the 8 bytes a voxel and channel that must move.
#include "cpu/regularisation.h"

#include "cpu/convert.h"
#include "cpu/lanes.h"
#include "cpu/scratch.h"
#include "math/regularisation.h"

namespace masr::MASR_ISA {
namespace {

std::int64_t clamp(std::int64_t i, std::int64_t n) { return i < 0 ? 0 : i < n ? i : n - 1; }

/// Sum of step(place, kind, x) over a row. Floats are added in chunks short enough not to lose digits, those in double.
template <class Step>
double sum_row(std::int64_t width, std::int64_t margin, Step&& step) {
  double total = 0;
  vec chunk{};
  int steps = 0;
  for_row(width, margin, [&](auto place, auto kind, std::int64_t x, int done) __attribute__((always_inline)) {
    if constexpr (decltype(place)::at_border) {
      total += step(place, kind, x);
    } else {
      vec energy = step(place, kind, x);
      for (int i = 0; i < done; ++i) energy[i] = 0.0f;
      chunk += energy;
      if (++steps % 64 == 0) {
        total += sum(chunk);
        chunk = vec{};
      }
    }
  });
  return total + sum(chunk);
}

/// Calls row_energy(z, y, read, target) for every row and keeps the sum of what it returns by task; read(dz, dy) gives
/// a neighbouring row, clamped to the volume, and target takes the gradient.
template <class RowEnergy>
void for_rows(const View& field, int rows_read, double* sums, const View& gradient, RowEnergy&& row_energy) {
  const RegularisationTasks tasks(field);
  parallel_for(tasks.count, [&](std::int64_t task) {
    const std::int64_t y_begin = task % tasks.y_blocks * tasks.rows, block = task / tasks.y_blocks;
    const std::int64_t z_begin = block % tasks.z_blocks * tasks.planes, series = block / tasks.z_blocks;
    const std::int64_t n = series / field.channels(), c = series % field.channels(), width = field.width();
    const Scratch memory((rows_read + 1) * width);
    double total = 0;
    for (std::int64_t z = z_begin; z < z_begin + tasks.planes && z < field.depth(); ++z) {
      for (std::int64_t y = y_begin; y < y_begin + tasks.rows && y < field.height(); ++y) {
        float* const target = gradient.at<float>(n, c, z, y, 0);
        float* converted = memory.data();
        const auto read = [&](std::int64_t dz, std::int64_t dy) {
          return row(field, n, c, clamp(z + dz, field.depth()), clamp(y + dy, field.height()), converted += width);
        };
        total += row_energy(z, y, read, gradient.planar() ? target : memory.data());
        if (!gradient.planar()) narrow(target, memory.data(), DType::float32, width, gradient.stride[4]);
      }
    }
    sums[task] = total;
  });
}

}  // namespace

void diffusion_energy(const View& field, const double (&weight)[3], double* sums, const View& gradient) {
  const float wz = float(weight[0]), wy = float(weight[1]), wx = float(weight[2]);
  for_rows(field, 5, sums, gradient, [&](std::int64_t, std::int64_t, auto&& read, float* target) {
    const float *here = read(0, 0), *above = read(-1, 0), *below = read(1, 0), *before = read(0, -1), *after = read(0, 1);
    const std::int64_t width = field.width();
    return sum_row(width, 1, [&](auto place, auto kind, std::int64_t x) __attribute__((always_inline)) {
      using V = decltype(kind);
      const V u = get<V>(here + x);
      V half{};
      V energy = add_slope<V>(get<V>(above + x), u, get<V>(below + x), wz, half);
      energy += add_slope<V>(get<V>(before + x), u, get<V>(after + x), wy, half);
      energy += add_slope<V>(neighbour<V>(place, here, x - 1, width), u, neighbour<V>(place, here, x + 1, width), wx,
                             half);
      put<V>(target + x, half * 2.0f);
      return energy;
    });
  });
}

void bending_energy(const View& field, const double (&weight)[3][3], double* sums, const View& gradient) {
  const float wzy = float(weight[0][1]), wzx = float(weight[0][2]), wyx = float(weight[1][2]);
  for_rows(field, 13, sums, gradient, [&](std::int64_t z, std::int64_t y, auto&& read, float* target) {
    const float *here = read(0, 0), *z0 = read(-2, 0), *z1 = read(-1, 0), *z3 = read(1, 0), *z4 = read(2, 0);
    const float *y0 = read(0, -2), *y1 = read(0, -1), *y3 = read(0, 1), *y4 = read(0, 2);
    const float *z1y1 = read(-1, -1), *z1y3 = read(-1, 1), *z3y1 = read(1, -1), *z3y3 = read(1, 1);
    const Curvature along_z(z, field.depth(), weight[0][0]), along_y(y, field.height(), weight[1][1]);
    const Curvature inside_x(2, 5, weight[2][2]);
    const std::int64_t width = field.width();
    return sum_row(width, 2, [&](auto place, auto kind, std::int64_t x) __attribute__((always_inline)) {
      using V = decltype(kind);
      const auto at = [&](const float* row, int dx) { return neighbour<V>(place, row, x + dx, width); };
      const V u = get<V>(here + x), uz1 = get<V>(z1 + x), uz3 = get<V>(z3 + x), uy1 = get<V>(y1 + x),
              uy3 = get<V>(y3 + x), ux1 = at(here, -1), ux3 = at(here, 1);
      V half{};
      V energy = along_z.add<V>({get<V>(z0 + x), uz1, u, uz3, get<V>(z4 + x)}, half);
      energy += along_y.add<V>({get<V>(y0 + x), uy1, u, uy3, get<V>(y4 + x)}, half);
      const V row[5] = {at(here, -2), ux1, u, ux3, at(here, 2)};
      if constexpr (decltype(place)::at_border) {
        energy += Curvature(x, width, weight[2][2]).add(row, half);
      } else {
        energy += inside_x.add(row, half);
      }
      energy += add_mixed<V>({{get<V>(z1y1 + x), uz1, get<V>(z1y3 + x)}, {uy1, u, uy3},
                              {get<V>(z3y1 + x), uz3, get<V>(z3y3 + x)}}, wzy, half);
      energy += add_mixed<V>({{at(z1, -1), uz1, at(z1, 1)}, {ux1, u, ux3}, {at(z3, -1), uz3, at(z3, 1)}}, wzx, half);
      energy += add_mixed<V>({{at(y1, -1), uy1, at(y1, 1)}, {ux1, u, ux3}, {at(y3, -1), uy3, at(y3, 1)}}, wyx, half);
      put<V>(target + x, half * 2.0f);
      return energy;
    });
  });
}

}  // namespace masr::MASR_ISA
