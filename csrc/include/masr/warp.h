// Backward warping: out[v] = image[M (v, 1) + u[v]].
#pragma once

#include "masr/execution.h"
#include "masr/sampling.h"
#include "masr/view.h"

namespace masr {

/// Resamples `image` (N, C, D, H, W) float32, float16 or bfloat16 onto the grid of `out` (N, C, d, h, w), same type.
/// displacement (N, 3, d, h, w) float32 in voxels of the image, component k along axis k (z, y, x), or an empty View;
/// matrix (N or 1, 1, 1, 3, 4) float64 contiguous, from voxels of `out` to voxels of the image, or an empty View for the
/// identity. Any strides are read and written; fastest are planar and channels-last image and out alike.
void warp(const View& image, const View& displacement, const View& matrix, Padding padding, Interpolation mode,
          const View& out, const Execution& execution = {});

/// Gradients of a loss given that to `out`, `gradient`: image_gradient (shape and type of image) and
/// displacement_gradient (N, 3, d, h, w) float32, which is also that to M (v, 1); an empty View leaves one out.
/// With Interpolation::nearest there is only the first. Float16 and bfloat16 images are summed in float32, in
/// 4 * 16 * C * H * W bytes of scratch memory a thread, and rounded once.
void warp_backward(const View& image, const View& displacement, const View& matrix, Padding padding,
                   Interpolation mode, const View& gradient, const View& image_gradient,
                   const View& displacement_gradient, const Execution& execution = {});

/// Gradient to M from displacement_gradient: the sum over v of g[v] (v, 1)^T; out (N, 1, 1, 3, 4) float64 contiguous.
void warp_matrix_gradient(const View& displacement_gradient, const View& out, const Execution& execution = {});

}  // namespace masr
