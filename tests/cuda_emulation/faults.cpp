// Kernels with one fault each, for the test that the emulation shows them: faults sound|order|barrier|warp|bounds|exit.
// Ends with status 0 when the result is right.
#include <cstdio>
#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace {

constexpr int threads = 64;

std::string fault;

/// Reverses the elements of each block by way of shared memory.
__global__ void reverse(const int* in, int* out) {
  int* const shared = static_cast<int*>(emulated_shared_memory());
  const int i = int(threadIdx.y * 32 + threadIdx.x), first = int(blockIdx.x) * threads;
  if (fault == "exit" && i == 5) return;
  shared[fault == "bounds" ? i + 1 : i] = in[first + i];
  if (fault == "warp") __shfl_xor_sync(~0u, i, 1);  // brings the warp together, but orders nothing in memory
  if (fault != "barrier" && fault != "warp") __syncthreads();
  out[first + i] = shared[fault == "warp" ? i ^ 1 : threads - 1 - i];
}

/// Counts blocks by what the one before it left.
__global__ void count(int* out) {
  if (threadIdx.x == 0 && threadIdx.y == 0) out[blockIdx.x] = blockIdx.x == 0 ? 1 : out[blockIdx.x - 1] + 1;
}

}  // namespace

int main(int, char** arguments) {
  fault = arguments[1];
  const int blocks = 3;
  std::vector<int> in(blocks * threads), out(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = int(i);
  cudaLaunchConfig_t config;
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(32, threads / 32);
  config.dynamicSmemBytes = threads * sizeof(int);
  bool right = true;
  for (int launch = 0; launch < 2; ++launch) {
    if (fault == "order") {
      out.assign(out.size(), 0);
      cudaLaunchKernelEx(&config, count, out.data());
      right = right && out[2] == 3;
      continue;
    }
    cudaLaunchKernelEx(&config, reverse, static_cast<const int*>(in.data()), out.data());
    for (int i = 0; i < blocks * threads; ++i) {
      right = right && out[i] == (fault == "warp" ? i ^ 1 : i / threads * threads + threads - 1 - i % threads);
    }
  }
  return right ? 0 : 1;
}
