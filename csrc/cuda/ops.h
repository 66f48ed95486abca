// What the files in api/ call for arrays in CUDA memory, after their checks: the functions of the .cu files. Builds
// without CUDA have csrc/core/no_cuda.cpp in their place.
#pragma once

#include <array>

#include "core/dns.h"
#include "core/warp.h"
#include "masr/execution.h"
#include "masr/search.h"
#include "masr/warp_ssd.h"

namespace masr::cuda {

void dns(const View& features, const DnsParameters& parameters, const View& out, const Execution& execution);
void dns_backward(const View& features, const View& gradient, const DnsParameters& parameters, const View& out,
                  const Execution& execution);

void mind_ssc(const View& image, std::int64_t radius, std::int64_t dilation, const View& out, const View& mean,
              const Execution& execution);
void mind_ssc_backward(const View& image, std::int64_t radius, std::int64_t dilation, const View& mean,
                       const View& gradient, const View& out, const Execution& execution);

void warp(const Warp& warp, const View& out, const Execution& execution);
void warp_backward(const Warp& warp, const View& gradient, const View& image_gradient,
                   const View& displacement_gradient, const Execution& execution);
void warp_matrix_gradient(const View& displacement_gradient, const View& out, const Execution& execution);

void warp_ssd(const WarpSsd& input, const View& value, const View& total_weight, const View& gradient,
              const Execution& execution);

void bspline_upsample(const View& control, const std::array<std::int64_t, 3>& spacing, const View& out,
                      const Execution& execution);
void bspline_adjoint(const View& gradient, const std::array<std::int64_t, 3>& spacing, const View& out,
                     const Execution& execution);

/// weight[axis], and weight[a][b]: what the squared differences count.
void diffusion_energy(const View& field, const double (&weight)[3], const View& value, const View& gradient,
                      const Execution& execution);
void bending_energy(const View& field, const double (&weight)[3][3], const View& value, const View& gradient,
                    const Execution& execution);

/// target = factor * source
void scale_field(const View& source, float factor, const View& target, const Execution& execution);
/// target += source
void add_field(const View& source, const View& target, const Execution& execution);

void displacement_search(const DisplacementSearch& input, const View& displacement, const View& cost,
                         const Execution& execution);

void jacobian_determinant(const View& displacement, const View& out, const Execution& execution);
void jacobian_determinant_backward(const View& displacement, const View& gradient, const View& out,
                                   const Execution& execution);

}  // namespace masr::cuda
