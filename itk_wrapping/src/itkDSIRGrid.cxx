#include "itkDSIRGrid.h"

#include <cmath>
#include <sstream>

namespace itk
{
namespace DSIR
{

AffineMap
AffineMap::Inverse() const
{
  const MatrixType inverse(linear.GetInverse());
  return { inverse, -(inverse * offset) };
}

bool
AffineMap::IsIdentity() const
{
  return linear == MatrixType::GetIdentity() && offset == Vector<double, 3>(0.0);
}

AffineMap
AffineMap::Snapped() const
{
  // A slope this close to a whole number moves no voxel of any volume by what float32 can tell.
  const auto snap = [](double value, double tolerance) {
    const double whole = std::round(value);
    return std::abs(value - whole) < tolerance ? whole : value;
  };
  AffineMap result = *this;
  for (unsigned int row = 0; row < 3; ++row)
  {
    for (unsigned int column = 0; column < 3; ++column)
    {
      result.linear(row, column) = snap(linear(row, column), 1e-10);
    }
    result.offset[row] = snap(offset[row], 1e-7);
  }
  return result;
}

std::array<double, 12>
AffineMap::ZYXMatrix() const
{
  std::array<double, 12> matrix;
  for (unsigned int row = 0; row < 3; ++row)
  {
    for (unsigned int column = 0; column < 3; ++column)
    {
      matrix[4 * row + column] = linear(2 - row, 2 - column);
    }
    matrix[4 * row + 3] = offset[2 - row];
  }
  return matrix;
}

Grid::Grid(const ImageBase<3> * image)
{
  const auto region = image->GetBufferedRegion();
  PointType  first;
  image->TransformIndexToPhysicalPoint(region.GetIndex(), first);
  for (unsigned int k = 0; k < 3; ++k)
  {
    size[k] = static_cast<std::int64_t>(region.GetSize(k));
    for (unsigned int row = 0; row < 3; ++row)
    {
      toPhysical.linear(row, k) = image->GetDirection()(row, k) * image->GetSpacing()[k];
    }
  }
  toPhysical.offset = first.GetVectorFromOrigin();
}

std::string
Grid::Describe() const
{
  std::ostringstream text;
  text << size[0] << " x " << size[1] << " x " << size[2] << " voxels of ";
  for (unsigned int k = 0; k < 3; ++k)
  {
    const auto & step = toPhysical.linear;
    text << (k ? " x " : "")
         << std::sqrt(step(0, k) * step(0, k) + step(1, k) * step(1, k) + step(2, k) * step(2, k));
  }
  text << " mm from " << PointType{} + toPhysical.offset;
  return text.str();
}

AffineMap
AffineMapOf(const TransformType * transform, const Grid & region)
{
  PointType middle;
  double    reach = 0.0;
  for (unsigned int k = 0; k < 3; ++k)
  {
    middle[k] = 0.5 * static_cast<double>(region.size[k] - 1);
  }
  const PointType centre = region.toPhysical(middle);
  reach = std::max(1.0, (centre - region.toPhysical(PointType{})).GetNorm());
  const PointType image = transform->TransformPoint(centre);
  AffineMap       map;
  for (unsigned int column = 0; column < 3; ++column)
  {
    PointType point = centre;
    point[column] += reach;
    const auto difference = transform->TransformPoint(point) - image;
    for (unsigned int row = 0; row < 3; ++row)
    {
      map.linear(row, column) = difference[row] / reach;
    }
  }
  map.offset = image - (PointType{} + map.linear * centre.GetVectorFromOrigin());
  return map;
}

masr::View
InterleavedView(const float * data, std::int64_t channels, const Grid & grid)
{
  masr::View view = PlanarView(data, masr::DType::float32, channels, grid);
  view.stride = { channels * grid.Voxels(), 1, channels * grid.size[0] * grid.size[1], channels * grid.size[0], channels };
  return view;
}

masr::View
PlanarView(const void * data, masr::DType type, std::int64_t channels, const Grid & grid)
{
  return masr::contiguous_view(
    const_cast<void *>(data), type, { 1, channels, grid.size[2], grid.size[1], grid.size[0] });
}

} // namespace DSIR
} // namespace itk
