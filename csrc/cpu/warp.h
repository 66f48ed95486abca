#pragma once

#include "cpu/isa.h"
#include "masr/sampling.h"

namespace masr {

/// What forward and backward pass have in common; see masr/warp.h.
struct Warp {
  View image, displacement, matrix;
  Padding padding;
  Interpolation mode;

  const double* matrix_of(std::int64_t n) const {
    return matrix ? matrix.at<double>(matrix.batch() == 1 ? 0 : n, 0, 0, 0, 0) : nullptr;
  }
};

/// Image planes a task of warp_backward owns.
inline constexpr std::int64_t slab_planes = 16;

}  // namespace masr

MASR_CPU_KERNEL(
    void warp(const Warp& warp, const View& out);
    /// `planes`: scratch, the first and last image plane that each row of the output touches, 2 N d h entries.
    void warp_backward(const Warp& warp, const View& gradient, const View& image_gradient,
                       const View& displacement_gradient, std::int32_t* planes);
    /// `partial`: scratch, 12 N d entries.
    void warp_matrix_gradient(const View& displacement_gradient, const View& out, double* partial);)
