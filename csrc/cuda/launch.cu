#include "cuda/launch.h"

#include <stdexcept>
#include <string>

namespace masr::cuda {

Call::Call(const char* op, const View& view, const Execution& execution) : op_(op), execution_(execution) {
  check_axes(view);
  int current = 0;
  check(cudaGetDevice(&current));
  if (current != view.device_index) check(cudaSetDevice(view.device_index));
}

void Call::check_axes(const View& view) const {
  for (int axis = 2; axis < 5; ++axis) {
    if (view.shape[axis] > longest_axis) {
      throw std::invalid_argument(std::string(op_) + ": axes must have at most " + std::to_string(longest_axis) +
                                  " voxels, got " + describe(view));
    }
  }
}

void* Call::allocate(std::int64_t bytes) const {
  if (!execution_.allocate) {
    throw std::invalid_argument(std::string(op_) + ": needs scratch memory, but execution.allocate is empty");
  }
  return execution_.allocate(std::size_t(bytes > 0 ? bytes : 1));
}

void Call::clear(void* memory, std::int64_t bytes) const {
  check(cudaMemsetAsync(memory, 0, std::size_t(bytes), static_cast<cudaStream_t>(execution_.stream)));
}

void Call::check_blocks(std::int64_t blocks) const {
  if (blocks > INT32_MAX) {
    throw std::invalid_argument(std::string(op_) + ": volume too large, it needs " + std::to_string(blocks) +
                                " blocks of threads and CUDA has 2147483647");
  }
}

void Call::check(cudaError_t error) const {
  if (error != cudaSuccess) {
    cudaGetLastError();  // or whoever asks for it next would take it for theirs
    throw std::runtime_error(std::string(op_) + ": CUDA failed: " + cudaGetErrorString(error));
  }
}

}  // namespace masr::cuda
