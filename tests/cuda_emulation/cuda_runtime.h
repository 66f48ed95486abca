// CUDA's execution model on the CPU, as far as csrc/cuda uses it: the very .cu files, compiled as C++ with this header
// in place of the toolkit's, run there one thread of a block after the other.
//
// Each thread of a block is a fiber of its own. It runs until it meets __syncthreads or a shuffle and then waits for
// the others of its block or warp; one that leaves while others wait is an error, as on a GPU it would hang or worse.
// Blocks and threads take turns in another order at every launch, so that what depends on it shows; dynamic shared
// memory starts out as NaN, and has redzones under AddressSanitizer. To ThreadSanitizer each fiber is a thread and
// barriers are all that orders them: accesses of a block's threads to the same memory without one between them are a
// data race, whatever the order they happen to run in. What this cannot show: races between blocks, timing, and anything
// about registers or the compiler of CUDA.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define __CUDA_ARCH_LIST__ 800

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorInvalidDevice = 101 };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMinor, cudaDevAttrComputeCapabilityMajor };
using cudaStream_t = void*;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace emulation {

extern dim3 thread, block;  // of the fiber that runs

/// Runs the kernel, bound to its arguments, for all blocks and threads.
cudaError_t run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel);
void synchronise_block();
void synchronise_warp();
/// Gives every lane of the warp the `size` bytes that lane `source` brought; all 32 lanes must take part.
void exchange(const void* mine, void* theirs, std::size_t size, int source);

template <class T>
T shuffle(T value, int source) {
  T result;
  exchange(&value, &result, sizeof(T), source);
  return result;
}

inline int lane() { return int(thread.x) % 32; }  // blocks are 32 threads wide

inline cudaError_t last_error = cudaSuccess;  ///< stays until somebody asks for it, as CUDA's does
inline cudaError_t reported(cudaError_t error) { return error == cudaSuccess ? error : last_error = error; }

}  // namespace emulation

#define threadIdx emulation::thread
#define blockIdx emulation::block

void* emulated_shared_memory();

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  return emulation::reported(emulation::run(*config, [&] { kernel(arguments...); }));
}

inline void __syncthreads() { emulation::synchronise_block(); }
inline void __syncwarp() { emulation::synchronise_warp(); }

template <class T>
T __shfl_sync(unsigned, T value, int source) {
  return emulation::shuffle(value, source);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int step) {
  const int source = emulation::lane() + step;
  return emulation::shuffle(value, source < 32 ? source : emulation::lane());
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::shuffle(value, emulation::lane() ^ mask);
}

// One thread of the CPU runs all: what makes these atomic is for ThreadSanitizer to see.
template <class T, class V>
T atomicAdd(T* address, V value) {
  T before;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  T after = before + T(value);
  __atomic_store(address, &after, __ATOMIC_RELAXED);
  return before;
}
inline unsigned atomicMax(unsigned* address, unsigned value) {
  const unsigned before = __atomic_load_n(address, __ATOMIC_RELAXED);
  if (value > before) __atomic_store_n(address, value, __ATOMIC_RELAXED);
  return before;
}

inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : error == cudaErrorInvalidDevice ? "invalid device ordinal"
                                                                             : "invalid configuration argument";
}
inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulation::last_error;
  emulation::last_error = cudaSuccess;
  return error;
}
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) {
  return emulation::reported(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  return *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 0, cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 0, cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 0, cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
