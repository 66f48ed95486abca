// A small pool of threads that sleep when there is nothing to do.
//
// torch brings an OpenMP runtime whose threads spin for a while after every region; a second spinning pool in the same
// process makes both crawl. This one waits on a condition variable. Workers are started on first use and after a fork
// the child starts its own.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "masr/parallel.h"

namespace masr {
namespace {

thread_local bool inside_task = false;

int threads_from_environment() {
  for (const char* variable : {"MASR_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const char* text = std::getenv(variable)) {
      const int value = std::atoi(text);
      if (value > 0) return value;
    }
  }
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

struct Job {
  TaskRef task;
  std::int64_t count;
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;

  Job(TaskRef task, std::int64_t count) : task(task), count(count) {}

  void work() {
    inside_task = true;
    for (;;) {
      const std::int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) break;
      try {
        task(index);
      } catch (...) {
        std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(count, std::memory_order_relaxed);  // the remaining tasks are dropped
      }
    }
    inside_task = false;
  }
};

class Pool {
 public:
  ~Pool() { stop(); }

  void run(Job& job, int helpers) {
    start(helpers);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      wanted_ = helpers;
      running_ = 0;
      ++generation_;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // whoever has not begun yet need not
    done_.wait(lock, [&] { return running_ == 0; });
    job_ = nullptr;
  }

 private:
  void start(int helpers) {
    while (static_cast<int>(workers_.size()) < helpers) workers_.emplace_back([this] { loop(); });
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void loop() {
    std::uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || (generation_ != seen && wanted_ > 0); });
      if (stopping_) return;
      seen = generation_;
      --wanted_;
      ++running_;
      Job* job = job_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--running_ == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  Job* job_ = nullptr;
  std::uint64_t generation_ = 0;
  int wanted_ = 0, running_ = 0;
  bool stopping_ = false;
};

// The pool lives for as long as the process: joining threads in static destructors deadlocks when a host (Python)
// unloads libraries in its own order. In a forked child only the forking thread exists, so the child drops the pool.
std::mutex* pool_mutex = new std::mutex;
Pool* pool = nullptr;

void forget_pool() {
  pool = nullptr;
  pool_mutex = new std::mutex;
  inside_task = false;
}

std::atomic<int>& thread_setting() {
  static std::atomic<int> setting{threads_from_environment()};
  return setting;
}

}  // namespace

int num_threads() { return thread_setting().load(std::memory_order_relaxed); }

void set_num_threads(int count) {
  if (count < 1) throw std::invalid_argument("set_num_threads: expected at least 1, got " + std::to_string(count));
  thread_setting().store(count, std::memory_order_relaxed);
}

void parallel_for(std::int64_t count, TaskRef task) {
  const int helpers = static_cast<int>(std::min<std::int64_t>(num_threads(), count)) - 1;
  Job job(task, count);
  if (helpers <= 0 || inside_task) {
    for (std::int64_t index = 0; index < count; ++index) task(index);
    return;
  }
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  (void)registered;
  std::unique_lock<std::mutex> lock(*pool_mutex, std::try_to_lock);
  if (!lock.owns_lock()) {  // another thread's call is under way
    job.work();
  } else {
    if (pool == nullptr) pool = new Pool;
    pool->run(job, helpers);
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace masr
