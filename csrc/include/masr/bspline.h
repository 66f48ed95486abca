// Uniform cubic B-spline between a coarse grid of control points and a dense field, and the adjoint of it.
#pragma once

#include <array>

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

/// Control points of an axis of `voxels` voxels: floor((voxels - 1) / spacing) + 4; control point k lies at voxel
/// (k - 1) spacing.
inline std::int64_t bspline_control_points(std::int64_t voxels, std::int64_t spacing) {
  return (voxels - 1) / spacing + 4;
}

/// out[v] = sum over k of B(v / spacing + 1 - k) control[k], the tensor product of cubic B-splines.
/// control (N, C, gz, gy, gx) float32 with bspline_control_points() along each axis, out (N, C, D, H, W) float32;
/// `spacing` in voxels along z, y, x. Working memory: 5 planes of gy * W floats a thread.
void bspline_upsample(const View& control, const std::array<std::int64_t, 3>& spacing, const View& out,
                      const Execution& execution = {});

/// The adjoint: out[k] = sum over v of B(v / spacing + 1 - k) gradient[v]; shapes as above. Working memory: as above, and
/// for every 16 planes of the gradient at most 15 / spacing_z + 5 planes of the control grid.
void bspline_adjoint(const View& gradient, const std::array<std::int64_t, 3>& spacing, const View& out,
                     const Execution& execution = {});

}  // namespace masr
