// Where an op on CUDA arrays runs. Ops on arrays in CPU memory ignore it.
#pragma once

#include <cstddef>
#include <functional>

namespace masr {

struct Execution {
  /// The cudaStream_t that the op's kernels are launched on, of the device that holds the arrays; null is that device's
  /// default stream. Nothing waits for it, and no other stream is touched.
  void* stream = nullptr;

  /// Gives an op so many bytes of scratch memory on that device, aligned to 16; docs/cuda.md says how much each op asks
  /// for. They must stay until what was launched on the stream is done; memory that is reused in the order of the stream
  /// may be given back when the op returns.
  std::function<void*(std::size_t bytes)> allocate;

  /// Sums that many threads add to are taken in a fixed way: the same input gives the same bits. Slower, and takes more
  /// memory. Only gradients to what is sampled (warp, compose, exponential) know a faster way.
  bool deterministic = false;
};

}  // namespace masr
