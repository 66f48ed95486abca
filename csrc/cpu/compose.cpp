// What composition needs beside warping: sums of fields.
#include "cpu/compose.h"

#include "cpu/lanes.h"

namespace masr::MASR_ISA {
namespace {

/// element(source element, target element) for all elements, by rows where both have contiguous ones.
template <class Element>
void for_elements(const View& source, const View& target, Element&& element) {
  parallel_for(target.batch() * target.channels() * target.depth(), [&](std::int64_t task) {
    const std::int64_t z = task % target.depth(), series = task / target.depth();
    const std::int64_t n = series / target.channels(), c = series % target.channels(), width = target.width();
    for (std::int64_t y = 0; y < target.height(); ++y) {
      const float* from = source.at<float>(n, c, z, y, 0);
      float* to = target.at<float>(n, c, z, y, 0);
      if (source.planar() && target.planar()) {
        for_lanes(0, width, [&](auto kind, std::int64_t x) {
          using V = decltype(kind);
          put<V>(to + x, element(get<V>(from + x), get<V>(to + x)));
        });
      } else {
        for (std::int64_t x = 0; x < width; ++x) {
          float& here = to[x * target.stride[4]];
          here = element(from[x * source.stride[4]], here);
        }
      }
    }
  });
}

}  // namespace

void scale_field(const View& source, float factor, const View& target) {
  for_elements(source, target, [&](auto from, auto) { return from * factor; });
}

void add_field(const View& source, const View& target) {
  for_elements(source, target, [](auto from, auto to) { return to + from; });
}

}  // namespace masr::MASR_ISA
