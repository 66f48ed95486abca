#pragma once

#include "core/dns.h"
#include "cpu/isa.h"

MASR_CPU_KERNEL(void dns(const View& features, const DnsParameters& parameters, const View& out);
                void dns_backward(const View& features, const View& gradient, const DnsParameters& parameters,
                                  const View& out);)
