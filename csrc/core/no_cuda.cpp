// Stands in for csrc/cuda/ in builds without it.
#include "masr/cuda.h"

namespace masr::cuda {

Status status() {
  Status result;
  result.reason = MASR_NO_CUDA_REASON;
  return result;
}

}  // namespace masr::cuda
