#include "itkDSIRNormalisation.h"

#include <algorithm>
#include <cmath>

namespace itk
{
namespace DSIR
{
namespace
{
/** Interpolated linearly between the values nearest in rank; reorders them. */
double
Percentile(std::vector<float> & values, double percent)
{
  const double rank = percent / 100.0 * static_cast<double>(values.size() - 1);
  const auto   below = static_cast<std::size_t>(rank);
  const auto   place = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), place, values.end());
  const double lower = *place;
  const double upper = below + 1 < values.size() ? *std::min_element(place + 1, values.end()) : lower;
  return lower + (upper - lower) * (rank - static_cast<double>(below));
}
} // namespace

std::array<double, 2>
ForegroundWindow(const std::vector<float> & intensities, const std::array<std::int64_t, 3> & size)
{
  constexpr double   samples = 2e6, backgroundShare = 1e-3;
  const auto         step = std::max<std::int64_t>(1, std::llround(std::cbrt(intensities.size() / samples)));
  std::vector<float> values;
  for (std::int64_t z = 0; z < size[2]; z += step)
  {
    for (std::int64_t y = 0; y < size[1]; y += step)
    {
      for (std::int64_t x = 0; x < size[0]; x += step)
      {
        values.push_back(intensities[(z * size[1] + y) * size[0] + x]);
      }
    }
  }
  if (values.empty())
  {
    return { 0.0, 0.0 };
  }
  const auto   ends = std::minmax_element(values.begin(), values.end());
  const double bottom = *ends.first, highest = *ends.second;
  double       top = Percentile(values, 99.5);
  top = top > bottom ? top : highest;
  std::vector<float> foreground;
  const double       threshold = bottom + backgroundShare * (top - bottom);
  std::copy_if(values.begin(), values.end(), std::back_inserter(foreground), [threshold](float value) {
    return static_cast<double>(value) > threshold;
  });
  if (foreground.empty())
  {
    return { bottom, bottom };
  }
  const double low = Percentile(foreground, 1.0), high = Percentile(foreground, 99.0);
  return { high > low ? low : bottom, high }; // a binary image: its background is the other value
}

void
ApplyWindow(const std::array<double, 2> & window, std::vector<float> & intensities)
{
  const auto low = static_cast<float>(window[0]), range = static_cast<float>(window[1] - window[0]);
  for (float & value : intensities)
  {
    value = std::min(std::max((value - low) / range, 0.0f), 1.0f);
  }
}
} // namespace DSIR
} // namespace itk
