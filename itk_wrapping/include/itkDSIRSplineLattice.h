// Cubic B-splines on a lattice of control points, evaluated on all voxels of a grid along whose axes it lies.
#ifndef itkDSIRSplineLattice_h
#define itkDSIRSplineLattice_h

#include "itkDSIRGrid.h"

#include <optional>
#include <vector>

namespace itk
{
namespace DSIR
{

/** The tensor product of three one-dimensional tables, so that the sums over 64 control points fall into sums over 4. */
class DSIR_EXPORT SplineLattice
{
public:
  /** Nothing where an axis of the lattice is none of the grid's. As in BSplineTransform, voxels whose support does not
   * lie within the lattice are not moved. */
  static std::optional<SplineLattice>
  Of(const ImageBase<3> * coefficients, const Grid & grid);

  std::int64_t
  ControlPoints() const
  {
    return m_Controls[0] * m_Controls[1] * m_Controls[2];
  }

  /** values (3, D, H, W) of coefficients (3, controls). */
  void
  Expand(const double * coefficients, float * values) const;

  /** The transpose: out (3, controls) from values (3, D, H, W), summed in an order that does not depend on threads. */
  void
  Collect(const float * values, double * out) const;

private:
  struct Tap
  {
    std::int64_t          first;  ///< control point; -1 where the voxel is not moved
    std::array<double, 4> weight; ///< of `first` and the three that follow
  };

  std::int64_t
  Plane() const
  {
    return m_Controls[0] * m_Controls[1];
  }

  std::array<std::int64_t, 3>     m_Controls; // (x, y, z), as the taps
  std::array<std::vector<Tap>, 3> m_Taps;     // one a voxel along the axis
};

} // namespace DSIR
} // namespace itk

#endif
