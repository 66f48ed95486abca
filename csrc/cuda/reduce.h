// Sums in a fixed order: each block leaves its own, a second kernel adds those up. No atomics, so the same input gives
// the same bits.
#pragma once

#include "cuda/launch.h"

namespace masr::cuda {

constexpr unsigned all_lanes = 0xFFFFFFFFu;

/// Sums over the threads of a block, in thread 0. All threads must call it.
template <int count>
__device__ void block_sum(double (&values)[count]) {
  __shared__ double of_warp[block_height][count];
  for (int i = 0; i < count; ++i) {
    for (int step = 16; step > 0; step /= 2) values[i] += __shfl_down_sync(all_lanes, values[i], step);
    if (threadIdx.x == 0) of_warp[threadIdx.y][i] = values[i];
  }
  __syncthreads();
  if (thread_index() == 0) {
    for (int i = 0; i < count; ++i) {
      for (int warp = 1; warp < block_height; ++warp) values[i] += of_warp[warp][i];
    }
  }
  __syncthreads();  // of_warp may be used again
}

/// Second stage, by one block: sums of `count` interleaved series of `length` entries, in thread 0.
template <int count>
__device__ void sum_partials(const double* partials, std::int64_t length, double (&total)[count]) {
  for (int i = 0; i < count; ++i) total[i] = 0.0;
  for (std::int64_t entry = thread_index(); entry < length; entry += block_threads) {
    for (int i = 0; i < count; ++i) total[i] += partials[entry * count + i];
  }
  block_sum(total);
}

}  // namespace masr::cuda
