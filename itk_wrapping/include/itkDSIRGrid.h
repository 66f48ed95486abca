// Regular grids of voxels numbered from 0, and affine maps between them.
#ifndef itkDSIRGrid_h
#define itkDSIRGrid_h

#include "itkImageBase.h"
#include "itkTransform.h"
#include "itkVectorImage.h"

#include "DSIRExport.h"
#include "masr/view.h"

#include <array>
#include <cstdint>

namespace itk
{
namespace DSIR
{
using PointType = Point<double, 3>;
using MatrixType = Matrix<double, 3, 3>;
using TransformType = Transform<double, 3, 3>;
using FeatureImageType = VectorImage<float, 3>;

/** x -> A x + b. */
struct DSIR_EXPORT AffineMap
{
  MatrixType        linear;
  Vector<double, 3> offset;

  PointType
  operator()(const PointType & point) const
  {
    return PointType{} + (linear * point.GetVectorFromOrigin() + offset);
  }

  /** The map that applies `inner` first. */
  AffineMap
  After(const AffineMap & inner) const
  {
    return { linear * inner.linear, linear * inner.offset + offset };
  }

  AffineMap
  Inverse() const;

  bool
  IsIdentity() const;

  /** Entries that are whole numbers but for rounding become so: on grids that fit, samples then fall on voxel centres,
   * and voxels at the border do not fall out. */
  AffineMap
  Snapped() const;

  /** The 3 x 4 matrix in the axis order (z, y, x), row by row, as masr takes it. */
  std::array<double, 12>
  ZYXMatrix() const;
};

/** Where the voxels of an image's buffer lie; the first one has the number (0, 0, 0) whatever its index. */
struct DSIR_EXPORT Grid
{
  std::array<std::int64_t, 3> size; ///< (x, y, z)
  AffineMap                   toPhysical;

  explicit Grid(const ImageBase<3> * image);

  std::int64_t
  Voxels() const
  {
    return size[0] * size[1] * size[2];
  }

  /** Of a point in physical space, in voxels (x, y, z) from the first one. */
  AffineMap
  FromPhysical() const
  {
    return toPhysical.Inverse();
  }

  /** For messages: size, spacing between voxels and position of the first one. */
  std::string
  Describe() const;
};

/** The map of a transform that is affine, found from four points. `region` tells where accuracy counts. */
DSIR_EXPORT AffineMap
            AffineMapOf(const TransformType * transform, const Grid & region);

/** Views on a grid for masr: `channels` numbers a voxel, adjacent, or one volume after the other. */
DSIR_EXPORT masr::View
            InterleavedView(const float * data, std::int64_t channels, const Grid & grid);
DSIR_EXPORT masr::View
            PlanarView(const void * data, masr::DType type, std::int64_t channels, const Grid & grid);

/** View on the buffer of a feature image. */
inline masr::View
ViewOf(const FeatureImageType * features)
{
  return InterleavedView(features->GetBufferPointer(), features->GetNumberOfComponentsPerPixel(), Grid(features));
}

} // namespace DSIR
} // namespace itk

#endif
