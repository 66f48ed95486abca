#pragma once

#include "cpu/isa.h"

namespace masr {

/// How the work is cut: blocks of rows small enough for the neighbouring planes of a block to stay in the cache.
struct RegularisationTasks {
  static constexpr std::int64_t planes = 16, rows = 32;
  std::int64_t z_blocks, y_blocks, count;

  explicit RegularisationTasks(const View& field)
      : z_blocks((field.depth() + planes - 1) / planes), y_blocks((field.height() + rows - 1) / rows),
        count(field.batch() * field.channels() * z_blocks * y_blocks) {}
};

}  // namespace masr

// `sums` receives the energy of each task; those of a batch entry follow each other.
MASR_CPU_KERNEL(
    void diffusion_energy(const View& field, const double (&weight)[3], double* sums, const View& gradient);
    void bending_energy(const View& field, const double (&weight)[3][3], double* sums, const View& gradient);)
