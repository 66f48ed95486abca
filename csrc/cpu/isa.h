// Every .cpp in this directory is compiled once per instruction set, each time into a namespace of its own (MASR_ISA);
// the files in api/ pick one of them at run time.
//
//   // cpu/dns.h                                      // cpu/dns.cpp
//   MASR_CPU_KERNEL(void dns_forward(const View&);)   namespace masr::MASR_ISA { void dns_forward(...) {...} }
//   // api/dns.cpp
//   MASR_PICK(dns_forward)(features);
//
// Inside these files keep to functions of the MASR_ISA namespace and to plain arrays: an inline function shared with
// other files could be linked in its AVX-512 version and run on a machine without it.
#pragma once

#include "masr/parallel.h"
#include "masr/view.h"

#if defined(MASR_X86_VARIANTS)
#define MASR_CPU_KERNEL(declarations)       \
  namespace masr {                          \
  namespace baseline { declarations }       \
  namespace avx2 { declarations }           \
  namespace avx512 { declarations }         \
  }
#define MASR_PICK(function) \
  ::masr::pick(&::masr::baseline::function, &::masr::avx2::function, &::masr::avx512::function)
#else
#define MASR_CPU_KERNEL(declarations) \
  namespace masr {                    \
  namespace baseline { declarations } \
  }
#define MASR_PICK(function) (&::masr::baseline::function)
#endif

namespace masr {

template <class F>
F* pick(F* baseline, F* avx2, F* avx512) {
  switch (instruction_set()) {
    case InstructionSet::avx512: return avx512;
    case InstructionSet::avx2: return avx2;
    default: return baseline;
  }
}

}  // namespace masr
