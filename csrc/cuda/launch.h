// How every op of this directory reaches the GPU: on the caller's stream, in the caller's memory, each launch checked.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "masr/execution.h"
#include "masr/view.h"

namespace masr::cuda {

/// Threads of a block in all kernels here.
constexpr int block_width = 32, block_height = 8, block_threads = block_width * block_height;
/// Blocks that a multiprocessor shall hold at least of kernels that need many registers: 128 a thread are left for
/// them.
constexpr int few_blocks = 2;
constexpr std::int64_t longest_axis = 1 << 30;

/// One call of an op.
class Call {
 public:
  /// Makes the device that holds `view` the current one of this thread, and leaves it so: giving the one from before back
  /// could make a context on it. A context on that device that the caller has made current stays: all copies of the CUDA
  /// runtime in a process work in the thread's current context.
  Call(const char* op, const View& view, const Execution& execution);

  /// Refuses axes whose indices, and sums of two of them, do not fit in 32 bits; the constructor does so for its view.
  void check_axes(const View& view) const;

  bool deterministic() const { return execution_.deterministic; }

  /// Memory for `count` elements, aligned to 16 bytes.
  template <class T>
  T* scratch(std::int64_t count) const {
    return static_cast<T*>(allocate(count * std::int64_t(sizeof(T))));
  }

  /// Runs `kernel` on blocks of block_width x block_height threads with `shared` bytes of dynamic shared memory.
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), std::int64_t blocks, std::size_t shared,
              const Arguments&... arguments) const {
    if (blocks == 0) return;
    check_blocks(blocks);
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(unsigned(blocks));
    config.blockDim = dim3(block_width, block_height);
    config.dynamicSmemBytes = shared;
    config.stream = static_cast<cudaStream_t>(execution_.stream);
    check(cudaLaunchKernelEx(&config, kernel, arguments...));
  }

  /// Sets bytes to 0, in the order of the stream.
  void clear(void* memory, std::int64_t bytes) const;

 private:
  void* allocate(std::int64_t bytes) const;
  void check_blocks(std::int64_t blocks) const;
  void check(cudaError_t error) const;

  const char* op_;
  const Execution& execution_;
};

/// The dynamic shared memory of a block.
template <class T>
__device__ T* shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ float4 memory[];
  return reinterpret_cast<T*>(memory);
#else
  return reinterpret_cast<T*>(emulated_shared_memory());
#endif
}

__device__ inline int thread_index() { return int(threadIdx.y) * block_width + int(threadIdx.x); }

}  // namespace masr::cuda
