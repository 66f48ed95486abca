// Stands in for csrc/cuda/ in builds without it.
#include <stdexcept>

#include "cuda/ops.h"
#include "masr/cuda.h"

namespace masr::cuda {
namespace {

[[noreturn]] void refuse(const char* op) {
  throw std::invalid_argument(std::string(op) + ": arrays must be in CPU memory, use .cpu(); there are no CUDA " +
                              "kernels here: " + MASR_NO_CUDA_REASON);
}

}  // namespace

Status status() {
  Status result;
  result.reason = MASR_NO_CUDA_REASON;
  return result;
}

void dns(const View&, const DnsParameters&, const View&, const Execution&) { refuse("dns"); }
void dns_backward(const View&, const View&, const DnsParameters&, const View&, const Execution&) {
  refuse("dns_backward");
}
void mind_ssc(const View&, std::int64_t, std::int64_t, const View&, const View&, const Execution&) {
  refuse("mind_ssc");
}
void mind_ssc_backward(const View&, std::int64_t, std::int64_t, const View&, const View&, const View&,
                       const Execution&) {
  refuse("mind_ssc_backward");
}
void warp(const Warp&, const View&, const Execution&) { refuse("warp"); }
void warp_backward(const Warp&, const View&, const View&, const View&, const Execution&) { refuse("warp_backward"); }
void warp_matrix_gradient(const View&, const View&, const Execution&) { refuse("warp_matrix_gradient"); }
void warp_ssd(const WarpSsd&, const View&, const View&, const View&, const Execution&) { refuse("warp_ssd"); }
void bspline_upsample(const View&, const std::array<std::int64_t, 3>&, const View&, const Execution&) {
  refuse("bspline_upsample");
}
void bspline_adjoint(const View&, const std::array<std::int64_t, 3>&, const View&, const Execution&) {
  refuse("bspline_adjoint");
}
void diffusion_energy(const View&, const double (&)[3], const View&, const View&, const Execution&) {
  refuse("diffusion_energy");
}
void bending_energy(const View&, const double (&)[3][3], const View&, const View&, const Execution&) {
  refuse("bending_energy");
}
void scale_field(const View&, float, const View&, const Execution&) { refuse("exponential"); }
void add_field(const View&, const View&, const Execution&) { refuse("compose"); }
void displacement_search(const DisplacementSearch&, const View&, const View&, const Execution&) {
  refuse("displacement_search");
}
void jacobian_determinant(const View&, const View&, const Execution&) { refuse("jacobian_determinant"); }
void jacobian_determinant_backward(const View&, const View&, const View&, const Execution&) {
  refuse("jacobian_determinant_backward");
}

}  // namespace masr::cuda
