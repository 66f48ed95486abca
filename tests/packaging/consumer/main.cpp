// A program outside the project: calls an op, and holds the thread pool to its promises.
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "masr/jacobian.h"
#include "masr/parallel.h"

namespace {

bool a_field_of_zeros_keeps_volume() {
  std::vector<float> field(3 * 4 * 5 * 6), determinant(4 * 5 * 6);
  const auto u = masr::contiguous_view(field.data(), masr::DType::float32, {1, 3, 4, 5, 6});
  const auto out = masr::contiguous_view(determinant.data(), masr::DType::float32, {1, 1, 4, 5, 6});
  masr::jacobian_determinant(u, out);
  for (float value : determinant) {
    if (value != 1.0f) return false;
  }
  return true;
}

bool wrong_shapes_are_refused() {
  std::vector<float> field(2 * 4 * 5 * 6);
  const auto u = masr::contiguous_view(field.data(), masr::DType::float32, {1, 2, 4, 5, 6});
  try {
    masr::jacobian_determinant(u, u);
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

bool every_task_runs_once_also_when_nested() {
  std::vector<std::atomic<int>> runs(64);
  masr::parallel_for(8, [&](std::int64_t outer) {
    masr::parallel_for(8, [&](std::int64_t inner) { ++runs[8 * outer + inner]; });
  });
  for (const auto& count : runs) {
    if (count != 1) return false;
  }
  return true;
}

bool an_exception_reaches_the_caller_and_the_pool_goes_on() {
  bool caught = false;
  try {
    masr::parallel_for(100, [](std::int64_t task) {
      if (task == 37) throw std::runtime_error("task 37");
    });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  return caught && every_task_runs_once_also_when_nested();
}

}  // namespace

int main() {
  for (int threads : {1, 2, 5}) {
    masr::set_num_threads(threads);
    if (!a_field_of_zeros_keeps_volume() || !wrong_shapes_are_refused() || !every_task_runs_once_also_when_nested() ||
        !an_exception_reaches_the_caller_and_the_pool_goes_on()) {
      return threads;
    }
  }
  std::printf("%s\n", masr::name(masr::instruction_set()));
  return 0;
}
