// Where a transform takes all voxels of a grid at once, and the way back from there to its parameters.
#ifndef itkDSIRDenseMapping_h
#define itkDSIRDenseMapping_h

#include "itkArray.h"
#include "itkDSIRGrid.h"

#include <memory>

namespace itk
{
namespace DSIR
{

/** Voxel v of `from` goes to the voxel position M (v, 1) + u[v] of `to`: what masr takes.
 *
 * Dense forms exist for linear transforms; for displacement fields on the grid `from`; for cubic B-splines whose axes
 * are those of `from`; and for each of the last two followed by linear transforms, as in
 * CompositeTransform(affine, B-spline). */
class DSIR_EXPORT DenseMapping
{
public:
  virtual ~DenseMapping() = default;

  /** For positions alone: transforms without a dense form are evaluated point by point. */
  static std::unique_ptr<DenseMapping>
  ForPositions(const TransformType * transform, const Grid & from, const Grid & to);

  /** With Derivative(); null where the transform has no dense form, or optimises more than its last part. */
  static std::unique_ptr<DenseMapping>
  ForDerivatives(const TransformType * transform, const Grid & from, const Grid & to);

  /** M, 3 x 4 float64 in the axis order (z, y, x). */
  masr::View
  Matrix() const;

  bool
  MatrixIsIdentity() const
  {
    return m_Map.IsIdentity();
  }

  /** Whether there is a u. */
  virtual bool
  HasDisplacement() const
  {
    return true;
  }

  /** u, three float32 volumes (z, y, x) one after the other. */
  virtual void
  WriteDisplacement(float * displacement) const = 0;

  /** Adds `factor` times the gradient of a function to the transform's parameters, given that to M, twelve float64, or
   * that to u, three float32 volumes, as the mapping has no u or one. */
  virtual void
  AddParameterGradient(const masr::View & gradient, double factor, Array<double> & result) const = 0;

protected:
  DenseMapping(const AffineMap & map, const Grid & from);

  const Grid m_From;

private:
  AffineMap              m_Map;
  std::array<double, 12> m_Matrix;
};

} // namespace DSIR
} // namespace itk

#endif
