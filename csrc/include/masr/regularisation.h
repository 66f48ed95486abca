// Energies of a field that grow with its roughness, and their gradients.
#pragma once

#include <array>

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

/// Mean over voxels of the squared first differences along z, y, x divided by `spacing`, summed over the channels. An
/// axis of n voxels has n - 1 differences; one of size 1 adds nothing.
/// field (N, C, D, H, W) float32, value (N, 1, 1, 1, 1) float64, gradient (the derivative of the value) as the field. A
/// field that is not finite gives a value that is not.
void diffusion_energy(const View& field, const std::array<double, 3>& spacing, const View& value, const View& gradient,
                      const Execution& execution = {});

/// Mean over voxels of the squared second differences, the thin-plate energy: [1 -2 1] on the interior voxels of each
/// axis once, the differences of differences on each cell of 2 x 2 voxels twice; otherwise as diffusion_energy.
void bending_energy(const View& field, const std::array<double, 3>& spacing, const View& value, const View& gradient,
                    const Execution& execution = {});

}  // namespace masr
