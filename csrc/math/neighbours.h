// The six neighbours of a voxel that DNS and MIND-SSC compare, numbered -z, +z, -y, +y, -x, +x.
#pragma once

#include "math/host_device.h"

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// Axis and sign of a neighbour.
MASR_HOST_DEVICE constexpr int neighbour_axis(int neighbour) { return neighbour / 2; }
MASR_HOST_DEVICE constexpr int neighbour_sign(int neighbour) { return neighbour % 2 ? 1 : -1; }

/// The voxels i of an axis of n, begin <= i < end, whose neighbour at `offset` is j where the border is replicated:
/// clamp(i + offset) = j.
template <class Int>
struct Readers {
  Int begin, end;

  MASR_INLINE Readers(Int j, Int offset, Int n) : begin(0), end(n) {
    if (offset > 0 || j > 0) begin = j - offset > 0 ? j - offset : 0;
    if (offset < 0 || j < n - 1) end = j - offset + 1 < n ? j - offset + 1 : n;
  }
};

}  // namespace
}  // namespace masr
