// The scheduler behind cuda_runtime.h: fibers for the threads of one block at a time, on one thread of the CPU.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "cuda_runtime.h"

#if !defined(__x86_64__)
#error "the emulation switches fibers by instructions of x86-64"
#endif

namespace emulation {

dim3 thread, block;

namespace {

constexpr std::size_t stack_bytes = 256 << 10;
constexpr int warp_size = 32;

/// Saves the registers a function must keep and the stack pointer in *from, goes on where `to` was saved.
extern "C" void emulation_switch(void** from, void* to);
asm(R"(
.text
.globl emulation_switch
.type emulation_switch, @function
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_switch, .-emulation_switch
)");

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s, in block %u\n", what, block.x);
  std::abort();
}

#if defined(EMULATION_SHOWS_RACES)
// What ThreadSanitizer has to be told: each fiber is a thread to it, which knows of what others did by barriers alone.
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
void* this_context() { return __tsan_get_current_fiber(); }
void* new_context() { return __tsan_create_fiber(0); }
void use_context(void* context) { __tsan_switch_to_fiber(context, 1); }  // 1: tells neither of what the other did
void tell(void* address) { __tsan_release(address); }
void learn(void* address) { __tsan_acquire(address); }
#else
void* this_context() { return nullptr; }
void* new_context() { return nullptr; }
void use_context(void*) {}
void tell(void*) {}
void learn(void*) {}
#endif

/// Where threads meet: `arrived` of the `members` are there; it opens for all at once.
struct Barrier {
  int members = 0, arrived = 0;
  unsigned passed = 0;
  char odd_or_even[2];  ///< places to tell at: some meet again before others have learned
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  void* pointer = nullptr;
  void* context = new_context();
  dim3 index;
  bool done = true;
};

struct Warp {
  Barrier barrier;
  alignas(16) char values[warp_size][16];
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
Barrier of_block;
Fiber* current = nullptr;
void* scheduler = nullptr;
void* scheduler_context = nullptr;
char block_begins, block_ends;  ///< places to tell at
const std::function<void()>* body = nullptr;
char* shared = nullptr;
unsigned launches = 0;
bool progress = false;

/// The order in which `count` blocks or threads are run: as they are numbered, reversed, or far from each other; another
/// one at every launch.
struct Order {
  unsigned count, step, start;

  explicit Order(unsigned count) : count(count), start(launches * 97 % count) {
    const unsigned steps[] = {1, count - 1, 61, 149};
    step = steps[launches % 4];
    while (std::gcd(step, count) != 1) ++step;
  }
  unsigned operator[](unsigned i) const { return unsigned((std::uint64_t(i) * step + start) % count); }
};

void yield() {
  use_context(scheduler_context);
  emulation_switch(&current->pointer, scheduler);
}

/// `in_memory`: what threads did to memory before, they see after.
void wait(Barrier& barrier, bool in_memory) {
  const unsigned passed = barrier.passed;
  if (in_memory) tell(&barrier.odd_or_even[passed % 2]);
  progress = true;
  if (++barrier.arrived == barrier.members) {
    barrier.arrived = 0;
    ++barrier.passed;
  }
  while (barrier.passed == passed) yield();
  if (in_memory) learn(&barrier.odd_or_even[passed % 2]);
}

void enter() {
  learn(&block_begins);
  (*body)();
  tell(&block_ends);
  current->done = true;
  progress = true;
  yield();
  fail("a thread went on after its end");
}

void start(Fiber& fiber) {
  const auto top = reinterpret_cast<std::uintptr_t>(fiber.stack.get() + stack_bytes) & ~std::uintptr_t(15);
  void** stack = reinterpret_cast<void**>(top) - 1;  // as after a call: 8 bytes off alignment
  *--stack = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; ++i) *--stack = nullptr;
  fiber.pointer = stack;
  fiber.done = false;
}

void run_block(int threads) {
  of_block = {threads, 0, 0, {}};
  for (Warp& warp : warps) warp.barrier = {warp_size, 0, 0, {}};
  for (int i = 0; i < threads; ++i) start(fibers[i]);
  const Order order{unsigned(threads)};
  for (int left = threads; left > 0;) {
    progress = false;
    for (int i = 0; i < threads; ++i) {
      current = &fibers[order[unsigned(i)]];
      if (current->done) continue;
      thread = current->index;
      use_context(current->context);
      emulation_switch(&scheduler, current->pointer);
      left -= current->done;
    }
    if (!progress && left > 0) fail("threads wait for others that have left or wait elsewhere");
  }
}

}  // namespace

void synchronise_block() { wait(of_block, true); }
void synchronise_warp() { wait(warps[thread.y].barrier, true); }

void exchange(const void* mine, void* theirs, std::size_t size, int source) {
  Warp& warp = warps[thread.y];
  std::memcpy(warp.values[lane()], mine, size);
  wait(warp.barrier, false);  // CUDA promises nothing about memory here
  std::memcpy(theirs, warp.values[source & (warp_size - 1)], size);
  wait(warp.barrier, false);  // so that nobody's next value comes too early
}

cudaError_t run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  const dim3 size = config.blockDim;
  if (config.gridDim.x == 0 || size.x != unsigned(warp_size) || size.z != 1 || config.dynamicSmemBytes > 48 << 10) {
    return cudaErrorInvalidConfiguration;
  }
  const int threads = int(size.x * size.y);
  if (int(fibers.size()) < threads) fibers.resize(threads);
  if (warps.size() < size.y) warps.resize(size.y);
  for (int i = 0; i < threads; ++i) fibers[i].index = dim3(unsigned(i) % size.x, unsigned(i) / size.x);
  body = &kernel;
  scheduler_context = this_context();
  const Order order{config.gridDim.x};
  for (unsigned i = 0; i < config.gridDim.x; ++i) {
    block = dim3(order[i], 0, 0);
    const std::unique_ptr<float[]> memory(new float[config.dynamicSmemBytes / sizeof(float)]);
    std::memset(memory.get(), 0xFF, config.dynamicSmemBytes);
    shared = reinterpret_cast<char*>(memory.get());
    tell(&block_begins);
    run_block(threads);
    learn(&block_ends);
  }
  ++launches;
  return cudaSuccess;
}

}  // namespace emulation

void* emulated_shared_memory() { return emulation::shared; }
