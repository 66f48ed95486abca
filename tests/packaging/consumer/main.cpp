// A program outside the project: the determinant of a field of zeros is 1 everywhere.
#include <cstdio>
#include <vector>

#include "masr/jacobian.h"
#include "masr/parallel.h"

int main() {
  std::vector<float> field(3 * 4 * 5 * 6), determinant(4 * 5 * 6);
  const auto u = masr::contiguous_view(field.data(), masr::DType::float32, {1, 3, 4, 5, 6});
  const auto out = masr::contiguous_view(determinant.data(), masr::DType::float32, {1, 1, 4, 5, 6});
  masr::jacobian_determinant(u, out);
  for (float value : determinant) {
    if (value != 1.0f) return 1;
  }
  std::printf("%s\n", masr::name(masr::instruction_set()));
  return 0;
}
