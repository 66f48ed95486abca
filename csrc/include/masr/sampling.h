// How an image is read between and outside its voxels.
#pragma once

#include <cstdint>

namespace masr {

/// Outside the image: positions are clamped to it, or every voxel there counts as 0. NaN counts as outside.
enum class Padding : std::uint8_t { border, zeros };

/// Between the voxels: trilinear, or the voxel whose centre is nearest (halves upwards).
enum class Interpolation : std::uint8_t { linear, nearest };

}  // namespace masr
