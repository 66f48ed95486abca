#include <cuda_runtime_api.h>

#include "masr/cuda.h"

namespace masr::cuda {

Status status() {
  Status result;
  result.built = true;
  cudaRuntimeGetVersion(&result.runtime_version);
  cudaDriverGetVersion(&result.driver_version);
  const cudaError_t error = cudaGetDeviceCount(&result.devices);
  if (error != cudaSuccess) {
    cudaGetLastError();  // so that a later call does not meet this error again
    result.devices = 0;
    result.reason = result.driver_version == 0 ? "no NVIDIA driver found" : cudaGetErrorString(error);
  } else if (result.devices == 0) {
    result.reason = "no CUDA device found";
  }
  return result;
}

}  // namespace masr::cuda
