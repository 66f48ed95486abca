#pragma once

#include "cpu/isa.h"

MASR_CPU_KERNEL(void mind_ssc(const View& image, std::int64_t radius, std::int64_t dilation, const View& out,
                              const View& mean);
                void mind_ssc_backward(const View& image, std::int64_t radius, std::int64_t dilation, const View& mean,
                                       const View& gradient, const View& out);)
