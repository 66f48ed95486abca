#pragma once

#include "cpu/isa.h"

namespace masr {

/// One layout per dilation, in voxels; per_channel: every channel makes a group of 12 relations of its own.
struct DnsParameters {
  const std::int64_t* dilations;
  std::int64_t layouts;
  bool per_channel;
  float eps;
};

}  // namespace masr

MASR_CPU_KERNEL(void dns(const View& features, const DnsParameters& parameters, const View& out);
                void dns_backward(const View& features, const View& gradient, const DnsParameters& parameters,
                                  const View& out);)
