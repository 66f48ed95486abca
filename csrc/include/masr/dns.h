// Deep neighbourhood self-similarity (DNS): relations between the six neighbours of every voxel.
#pragma once

#include <cstdint>
#include <vector>

#include "masr/execution.h"
#include "masr/view.h"

namespace masr {

enum class DnsReduction {
  l2,   ///< squared distance over all channels: 12 relations a layout
  none  ///< one distance per channel, each with its own V: 12 relations a layout and channel
};

/// S_p = exp(-D_p / max(V, eps)) for the 12 pairs p = (i, j) of neighbours x +- d e_k that are no opposites, with
/// D_p(x) = |f(x + i) - f(x + j)|^2 and V(x) the mean of the D_p(x) (arXiv 2402.18933, section 3.2). Replicate border.
/// features (N, C, D, H, W) and out (N, layouts * C' * 12, D, H, W), C' = 1 ("l2") or C ("none"), channel
/// (layout * C' + c) * 12 + pair: each float32, float16 or bfloat16 with any strides. Computed in float32, without
/// temporaries beyond a tile per thread. `out` must not overlap `features`.
void dns(const View& features, const std::vector<std::int64_t>& dilations, DnsReduction reduction, float eps,
         const View& out, const Execution& execution = {});

/// Gradient of a loss to the features; gradient (N, layouts * C' * 12, D, H, W) is that to the relations, out is shaped
/// as features. The bound `eps` passes no gradient.
void dns_backward(const View& features, const View& gradient, const std::vector<std::int64_t>& dilations,
                  DnsReduction reduction, float eps, const View& out, const Execution& execution = {});

}  // namespace masr
