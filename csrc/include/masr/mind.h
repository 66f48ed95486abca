// MIND-SSC, the modality-independent neighbourhood descriptor with self-similarity context.
#pragma once

#include <cstdint>

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

/// MIND-SSC (Heinrich et al., MICCAI 2013): 12 channels from one.
///
/// For a pair (i, j) of neighbours of a voxel at distance `dilation` (>= 1), D is the mean of (f(x+i) - f(x+j))^2 over
/// a cube of 2 radius + 1 voxels, the squared differences replicated at the border; the least of the 12 is subtracted.
/// out = exp(-D / V), V the mean of the 12, bounded by 0.001 and 1000 times its mean over the volume.
///
/// image (N, 1, D, H, W), out (N, 12, D, H, W), both float32, float16 or bfloat16 and of any strides; mean
/// (N, 1, 1, 1, 1) float32 receives the mean of V that bounds each item. Arithmetic is float32. Channels are in the
/// order of mind_pairs (csrc/math/mind.h). Takes memory for one float32 volume (D, H, W) beside its arguments.
void mind_ssc(const View& image, std::int64_t radius, std::int64_t dilation, const View& out, const View& mean,
              const Execution& execution = {});

/// Gradient of a loss to the image; gradient (N, 12, D, H, W) is that to the descriptor, mean what mind_ssc gave; out
/// (N, 1, D, H, W). The bounds of V are constants; of equal distances the first one counts as the least. An item
/// whose V is 0 everywhere has gradient 0. Takes memory for 13 float32 volumes (D, H, W) beside its arguments.
void mind_ssc_backward(const View& image, std::int64_t radius, std::int64_t dilation, const View& mean,
                       const View& gradient, const View& out, const Execution& execution = {});

}  // namespace masr
