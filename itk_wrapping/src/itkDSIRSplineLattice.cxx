#include "itkDSIRSplineLattice.h"

#include "masr/parallel.h"

#include <algorithm>
#include <cmath>

namespace itk
{
namespace DSIR
{

std::optional<SplineLattice>
SplineLattice::Of(const ImageBase<3> * coefficients, const Grid & grid)
{
  const Grid      controls(coefficients);
  const AffineMap map = controls.FromPhysical().After(grid.toPhysical);
  SplineLattice   lattice;
  lattice.m_Controls = controls.size;
  for (unsigned int k = 0; k < 3; ++k)
  {
    for (unsigned int other = 0; other < 3; ++other)
    {
      // a millionth of a control point over the whole grid
      if (other != k && std::abs(map.linear(k, other)) * static_cast<double>(grid.size[other]) > 1e-6)
      {
        return std::nullopt;
      }
    }
    const double lowest = 1.0, highest = static_cast<double>(controls.size[k]) - 2.0;
    for (std::int64_t v = 0; v < grid.size[k]; ++v)
    {
      double position = map.linear(k, k) * static_cast<double>(v) + map.offset[k];
      // Rounding must not decide whether a voxel at the edge moves.
      if (std::abs(position - lowest) < 1e-9)
      {
        position = lowest;
      }
      const bool inside = position >= lowest && position < highest + 1e-9;
      const auto first = inside ? std::min(static_cast<std::int64_t>(position) - 1, controls.size[k] - 4) : -1;
      const double t = position - static_cast<double>(first + 1), s = 1.0 - t;
      lattice.m_Taps[k].push_back({ first,
                                    { s * s * s / 6.0,
                                      (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0,
                                      (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0,
                                      t * t * t / 6.0 } });
    }
  }
  return lattice;
}

void
SplineLattice::Expand(const double * coefficients, float * values) const
{
  const auto width = static_cast<std::int64_t>(m_Taps[0].size()), height = static_cast<std::int64_t>(m_Taps[1].size()),
             depth = static_cast<std::int64_t>(m_Taps[2].size());
  masr::parallel_for(depth, [&](std::int64_t z) {
    const Tap &         tz = m_Taps[2][z];
    std::vector<double> plane(Plane()), row(m_Controls[0]);
    for (int component = 0; component < 3; ++component)
    {
      float * out = values + (component * depth + z) * height * width;
      if (tz.first < 0)
      {
        std::fill(out, out + height * width, 0.0f);
        continue;
      }
      const double * source = coefficients + component * ControlPoints() + tz.first * Plane();
      for (std::int64_t i = 0; i < Plane(); ++i)
      {
        plane[i] = tz.weight[0] * source[i] + tz.weight[1] * source[i + Plane()] +
                   tz.weight[2] * source[i + 2 * Plane()] + tz.weight[3] * source[i + 3 * Plane()];
      }
      for (std::int64_t y = 0; y < height; ++y, out += width)
      {
        const Tap & ty = m_Taps[1][y];
        if (ty.first < 0)
        {
          std::fill(out, out + width, 0.0f);
          continue;
        }
        const double * line = plane.data() + ty.first * m_Controls[0];
        for (std::int64_t i = 0; i < m_Controls[0]; ++i)
        {
          row[i] = ty.weight[0] * line[i] + ty.weight[1] * line[i + m_Controls[0]] +
                   ty.weight[2] * line[i + 2 * m_Controls[0]] + ty.weight[3] * line[i + 3 * m_Controls[0]];
        }
        for (std::int64_t x = 0; x < width; ++x)
        {
          const Tap & tx = m_Taps[0][x];
          if (tx.first < 0)
          {
            out[x] = 0.0f;
            continue;
          }
          const double * four = row.data() + tx.first;
          out[x] = static_cast<float>(tx.weight[0] * four[0] + tx.weight[1] * four[1] + tx.weight[2] * four[2] +
                                      tx.weight[3] * four[3]);
        }
      }
    }
  });
}

void
SplineLattice::Collect(const float * values, double * out) const
{
  const auto width = static_cast<std::int64_t>(m_Taps[0].size()), height = static_cast<std::int64_t>(m_Taps[1].size()),
             depth = static_cast<std::int64_t>(m_Taps[2].size());
  std::fill(out, out + 3 * ControlPoints(), 0.0);
  // The planes of some voxels along z are brought to planes of control points side by side, then added up one by one.
  constexpr std::int64_t together = 16;
  std::vector<double>    planes(together * 3 * Plane());
  for (std::int64_t begin = 0; begin < depth; begin += together)
  {
    const std::int64_t count = std::min(together, depth - begin);
    masr::parallel_for(count, [&](std::int64_t i) {
      double * plane = planes.data() + i * 3 * Plane();
      std::fill(plane, plane + 3 * Plane(), 0.0);
      if (m_Taps[2][begin + i].first < 0)
      {
        return;
      }
      std::vector<double> row(m_Controls[0]);
      for (int component = 0; component < 3; ++component, plane += Plane())
      {
        const float * source = values + (component * depth + begin + i) * height * width;
        for (std::int64_t y = 0; y < height; ++y, source += width)
        {
          const Tap & ty = m_Taps[1][y];
          if (ty.first < 0)
          {
            continue;
          }
          std::fill(row.begin(), row.end(), 0.0);
          for (std::int64_t x = 0; x < width; ++x)
          {
            const Tap & tx = m_Taps[0][x];
            if (tx.first < 0)
            {
              continue;
            }
            double * four = row.data() + tx.first;
            for (int k = 0; k < 4; ++k)
            {
              four[k] += tx.weight[k] * static_cast<double>(source[x]);
            }
          }
          double * line = plane + ty.first * m_Controls[0];
          for (int k = 0; k < 4; ++k, line += m_Controls[0])
          {
            for (std::int64_t j = 0; j < m_Controls[0]; ++j)
            {
              line[j] += ty.weight[k] * row[j];
            }
          }
        }
      }
    });
    for (std::int64_t i = 0; i < count; ++i)
    {
      const Tap & tz = m_Taps[2][begin + i];
      if (tz.first < 0)
      {
        continue;
      }
      for (int component = 0; component < 3; ++component)
      {
        const double * plane = planes.data() + (i * 3 + component) * Plane();
        double *       target = out + component * ControlPoints() + tz.first * Plane();
        for (int k = 0; k < 4; ++k, target += Plane())
        {
          for (std::int64_t j = 0; j < Plane(); ++j)
          {
            target[j] += tz.weight[k] * plane[j];
          }
        }
      }
    }
  }
}

} // namespace DSIR
} // namespace itk
