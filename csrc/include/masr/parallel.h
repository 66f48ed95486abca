// Threads and instruction sets: settings a program may read and change.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace masr {

/// Threads that the ops may use, the caller's included. Default: MASR_NUM_THREADS, else OMP_NUM_THREADS, else the
/// number of cores that this process may run on.
int num_threads();
void set_num_threads(int count);

/// A reference to a callable `void(std::int64_t task)`; must not outlive it.
class TaskRef {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, TaskRef>>>
  TaskRef(F&& callable)  // NOLINT: meant to convert
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, std::int64_t task) { (*static_cast<std::remove_reference_t<F>*>(object))(task); }) {}
  void operator()(std::int64_t task) const { call_(object_, task); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t);
};

/// Runs task(0) ... task(count - 1), in any order, on up to num_threads() threads, and returns when all are done.
/// The first exception thrown by a task is thrown again here, after the others have ended. Calls from inside a task,
/// and calls while another thread's call is under way, run in the calling thread. How work is cut into tasks must not
/// depend on the number of threads: that is what keeps results equal to the bit.
void parallel_for(std::int64_t count, TaskRef task);

enum class InstructionSet : int { baseline = 0, avx2 = 1, avx512 = 2 };

/// Instruction set in use: the best of this machine, or what MASR_ISA (baseline, avx2, avx512) asked for at load time.
InstructionSet instruction_set();
/// Best one that was compiled and that this machine can run.
InstructionSet best_instruction_set();
/// Changes it for all later calls; throws std::invalid_argument where the machine can't run it.
void set_instruction_set(InstructionSet set);
const char* name(InstructionSet set);

}  // namespace masr
