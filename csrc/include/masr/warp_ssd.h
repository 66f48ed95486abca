// The loss of every registration here: weighted mean squared difference of a fixed and a warped moving feature volume.
#pragma once

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

/// What warp_ssd compares. A view without data is an argument not given.
///
/// Voxel v of `fixed` is compared with `moving` at M (v, 1) + u[v], trilinear, clamped to the border. It is valid when
/// that position lies within the voxel centres of `moving` (asked only when `exclude_outside`) and the voxel of
/// `moving_mask` nearest to it is above 0.5. A position that is NaN is outside; clamped, it reads voxel 0 with slope 0.
struct WarpSsd {
  View fixed;         ///< (N, C, d, h, w) float32, float16 or bfloat16
  View moving;        ///< (N, C, D, H, W), the type of fixed
  View displacement;  ///< u (N, 3, d, h, w) float32, voxels of moving, component k along array axis k; default 0
  View matrix;        ///< M (N, 1, 1, 3, 4) float64, order (z, y, x); default identity
  View weights;       ///< w (N, 1, d, h, w) float32, not negative; default 1. A voxel of weight 0 is not read.
  View moving_mask;   ///< (N, 1, D, H, W) uint8 or float32; default: all of moving
  bool exclude_outside = true;
};

/// value (N, 1, 1, 1, 1) float64 = sum_v w[v] mean_c (moving[M (v, 1) + u[v]] - fixed[v])^2 / sum_v w[v] over the valid
/// voxels; NaN where their weights sum to 0.
/// total_weight (N, 1, 1, 1, 1) float64, or no data: that sum.
/// gradient, or no data: the gradient of value to the displacement, (N, 3, d, h, w) float32, or without displacement to
/// the matrix, (N, 1, 1, 3, 4) float64; 0 where value is NaN for want of valid voxels.
/// Any strides are read; fast are volumes with all channels of a voxel adjacent (channels-last), and planar ones of few
/// channels. Needs no memory beyond a few bytes per thousand voxels.
void warp_ssd(const WarpSsd& input, const View& value, const View& total_weight, const View& gradient,
              const Execution& execution = {});

}  // namespace masr
