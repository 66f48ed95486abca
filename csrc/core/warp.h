// What the passes of warp have in common; see masr/warp.h.
#pragma once

#include "masr/sampling.h"
#include "masr/view.h"

namespace masr {

struct Warp {
  View image, displacement, matrix;
  Padding padding;
  Interpolation mode;

  const double* matrix_of(std::int64_t n) const {
    return matrix ? matrix.at<double>(matrix.batch() == 1 ? 0 : n, 0, 0, 0, 0) : nullptr;
  }
};

}  // namespace masr
