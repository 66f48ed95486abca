#include <cuda_runtime_api.h>

#include <string>

#include "masr/cuda.h"

namespace masr::cuda {
namespace {

/// Compute capabilities that there is code for, times 100, ascending: what nvcc was asked for.
constexpr int compiled_for[] = {__CUDA_ARCH_LIST__};

/// Compute capability of a device, times 100; 0 where it does not say.
int capability(int device) {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return 100 * major + 10 * minor;
}

std::string as_text(int capability) {
  return std::to_string(capability / 100) + "." + std::to_string(capability % 100 / 10);
}

}  // namespace

Status status() {
  Status result;
  result.built = true;
  cudaRuntimeGetVersion(&result.runtime_version);
  cudaDriverGetVersion(&result.driver_version);
  int count = 0, best = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();  // so that a later call does not meet this error again
    result.reason = result.driver_version == 0 ? "no NVIDIA driver found" : cudaGetErrorString(error);
    return result;
  }
  for (int device = 0; device < count; ++device) {
    const int found = capability(device);
    result.devices += found >= compiled_for[0];
    if (found > best) best = found;
  }
  if (count == 0) {
    result.reason = "no CUDA device found";
  } else if (result.devices == 0) {
    result.reason = "the GPU has compute capability " + as_text(best) + ", the kernels need " +
                    as_text(compiled_for[0]) + " or higher";
  }
  return result;
}

}  // namespace masr::cuda
