// Determinant of the Jacobian of x -> x + u(x).
#pragma once

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

/// det(I + du/dv) of a displacement field in voxels of its own grid: central differences inside, one-sided ones on the
/// border, none along an axis of size 1 (as numpy.gradient).
/// displacement (N, 3, D, H, W) float32, component k along array axis k; out (N, 1, D, H, W) float32.
void jacobian_determinant(const View& displacement, const View& out, const Execution& execution = {});

/// Gradient of a loss to the displacement; gradient (N, 1, D, H, W) is that to the determinants, out (N, 3, D, H, W).
void jacobian_determinant_backward(const View& displacement, const View& gradient, const View& out,
                                   const Execution& execution = {});

}  // namespace masr
