// The scheduler behind cuda_runtime.h: fibers for the threads of one block at a time, on one thread of the CPU.
#include <cstdio>
#include <cstdlib>
#include <memory>
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

/// Where threads meet: `arrived` of the `members` are there; it opens for all at once.
struct Barrier {
  int members = 0, arrived = 0;
  unsigned passed = 0;
};

struct Fiber {
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  void* pointer = nullptr;
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
const std::function<void()>* body = nullptr;
char* shared = nullptr;
bool reverse = false, progress = false;

void yield() { emulation_switch(&current->pointer, scheduler); }

void wait(Barrier& barrier) {
  const unsigned passed = barrier.passed;
  progress = true;
  if (++barrier.arrived == barrier.members) {
    barrier.arrived = 0;
    ++barrier.passed;
  }
  while (barrier.passed == passed) yield();
}

void enter() {
  (*body)();
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
  of_block = {threads, 0, 0};
  for (Warp& warp : warps) warp.barrier = {warp_size, 0, 0};
  for (int i = 0; i < threads; ++i) start(fibers[i]);
  for (int left = threads; left > 0;) {
    progress = false;
    for (int i = 0; i < threads; ++i) {
      current = &fibers[reverse ? threads - 1 - i : i];
      if (current->done) continue;
      thread = current->index;
      emulation_switch(&scheduler, current->pointer);
      left -= current->done;
    }
    if (!progress && left > 0) fail("threads wait for others that have left or wait elsewhere");
  }
}

}  // namespace

void synchronise_block() { wait(of_block); }
void synchronise_warp() { wait(warps[thread.y].barrier); }

void exchange(const void* mine, void* theirs, std::size_t size, int source) {
  Warp& warp = warps[thread.y];
  std::memcpy(warp.values[lane()], mine, size);
  wait(warp.barrier);
  std::memcpy(theirs, warp.values[source & (warp_size - 1)], size);
  wait(warp.barrier);  // so that nobody's next value comes too early
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
  for (unsigned i = 0; i < config.gridDim.x; ++i) {
    block = dim3(reverse ? config.gridDim.x - 1 - i : i, 0, 0);
    const std::unique_ptr<float[]> memory(new float[config.dynamicSmemBytes / sizeof(float)]);
    std::memset(memory.get(), 0xFF, config.dynamicSmemBytes);
    shared = reinterpret_cast<char*>(memory.get());
    run_block(threads);
  }
  reverse = !reverse;
  return cudaSuccess;
}

}  // namespace emulation

void* emulated_shared_memory() { return emulation::shared; }
