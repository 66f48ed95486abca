// Which of the compiled variants of the kernels runs: decided once at load time, changeable for tests.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "masr/parallel.h"

namespace masr {
namespace {

InstructionSet from_environment() {
  const InstructionSet best = best_instruction_set();
  const char* asked = std::getenv("MASR_ISA");
  if (asked == nullptr || *asked == '\0') return best;
  for (InstructionSet set : {InstructionSet::baseline, InstructionSet::avx2, InstructionSet::avx512}) {
    if (std::strcmp(asked, name(set)) == 0 && set <= best) return set;
  }
  throw std::invalid_argument(std::string("MASR_ISA must be baseline, avx2 or avx512, and this machine can run at most ") +
                              name(best) + "; got " + asked);
}

std::atomic<InstructionSet>& setting() {
  static std::atomic<InstructionSet> value{from_environment()};
  return value;
}

}  // namespace

InstructionSet best_instruction_set() {
#if defined(MASR_X86_VARIANTS)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return InstructionSet::avx512;
  if (avx2) return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

InstructionSet instruction_set() { return setting().load(std::memory_order_relaxed); }

void set_instruction_set(InstructionSet set) {
  if (set > best_instruction_set() || set < InstructionSet::baseline) {
    throw std::invalid_argument(std::string("set_instruction_set: this machine can run at most ") +
                                name(best_instruction_set()) + ", got " + name(set));
  }
  setting().store(set, std::memory_order_relaxed);
}

const char* name(InstructionSet set) {
  switch (set) {
    case InstructionSet::baseline: return "baseline";
    case InstructionSet::avx2: return "avx2";
    case InstructionSet::avx512: return "avx512";
  }
  return "unknown";
}

}  // namespace masr
