#pragma once

#include "core/warp.h"
#include "cpu/isa.h"

namespace masr {

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
