// Which voxels MIND-SSC compares, and the bounds of its normalisation.
#pragma once

namespace masr {
namespace {  // internal linkage: the CPU compiles this for several instruction sets

/// Neighbours are numbered -z, +z, -y, +y, -x, +x; the pairs i < j without opposites, in the order of the channels.
constexpr int mind_pairs[12][2] = {{0, 2}, {0, 3}, {0, 4}, {0, 5}, {1, 2}, {1, 3},
                                   {1, 4}, {1, 5}, {2, 4}, {2, 5}, {3, 4}, {3, 5}};

/// Axis and sign of a neighbour.
constexpr int neighbour_axis(int neighbour) { return neighbour / 2; }
constexpr int neighbour_sign(int neighbour) { return neighbour % 2 ? 1 : -1; }

/// Bounds of V as multiples of its mean over the volume, and the bound that keeps a constant image finite.
constexpr float mind_lower_bound = 0.001f, mind_upper_bound = 1000.0f, mind_smallest_variance = 1e-30f;

}  // namespace
}  // namespace masr
