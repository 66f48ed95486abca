// What this build and this machine offer of CUDA.
#pragma once

#include <string>

namespace masr::cuda {

struct Status {
  bool built = false;       ///< CUDA sources were compiled in
  int runtime_version = 0;  ///< e.g. 13000, of the runtime linked in; 0 when not built
  int driver_version = 0;   ///< newest CUDA version that the driver supports; 0 without a driver
  int devices = 0;          ///< GPUs new enough for the kernels
  std::string reason;       ///< why there is none; empty when there is
};

/// Never throws; may be called on machines without a GPU or a driver.
Status status();

}  // namespace masr::cuda
