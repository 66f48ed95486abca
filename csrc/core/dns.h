#pragma once

#include <cstdint>

namespace masr {

/// One layout per dilation, in voxels; per_channel: every channel makes a group of 12 relations of its own.
struct DnsParameters {
  const std::int64_t* dilations;
  std::int64_t layouts;
  bool per_channel;
  float eps;
};

}  // namespace masr
