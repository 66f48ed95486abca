// Composition of displacement fields, and the exponential of a stationary velocity field.
#pragma once

#include "masr/execution.h"
#include "masr/sampling.h"
#include "masr/view.h"

namespace masr {

/// Displacement of x -> outer(inner(x)): out[v] = inner[v] + outer[v + inner[v]], trilinear.
/// All are (N, 3, D, H, W) float32 in voxels of one grid, component k along axis k (z, y, x); `out` shares no memory with
/// the others.
void compose(const View& outer, const View& inner, Padding padding, const View& out, const Execution& execution = {});

/// Gradients of a loss given that to `out`, `gradient`; both are shaped as it, an empty View leaves one out.
void compose_backward(const View& outer, const View& inner, Padding padding, const View& gradient,
                      const View& outer_gradient, const View& inner_gradient, const Execution& execution = {});

/// Scaling and squaring: `steps` times compose(u, u, border), beginning with velocity / 2^steps. velocity and out as
/// above. Makes one more field, 12 bytes a voxel.
void exponential(const View& velocity, int steps, const View& out, const Execution& execution = {});

/// Gradient of a loss to the velocity, given that to the exponential. Computes the intermediate fields again and keeps
/// them: steps + 2 fields of 12 bytes a voxel.
void exponential_backward(const View& velocity, int steps, const View& gradient, const View& out,
                          const Execution& execution = {});

}  // namespace masr
