#include "itkDSIRDenseMapping.h"
#include "itkDSIRSplineLattice.h"

#include "itkBSplineTransform.h"
#include "itkCompositeTransform.h"
#include "itkDisplacementFieldTransform.h"
#include "masr/parallel.h"

#include <cmath>

namespace itk
{
namespace DSIR
{
namespace
{
using CompositeType = CompositeTransform<double, 3>;
using FieldTransformType = DisplacementFieldTransform<double, 3>;
using SplineTransformType = BSplineTransform<double, 3, 3>;

/** A matrix that takes steps in physical space, (x, y, z), to steps in voxels, (z, y, x). */
using StepMatrix = std::array<std::array<double, 3>, 3>;

StepMatrix
StepsOf(const AffineMap & toVoxels)
{
  StepMatrix steps;
  for (unsigned int row = 0; row < 3; ++row)
  {
    for (unsigned int column = 0; column < 3; ++column)
    {
      steps[row][column] = toVoxels.linear(2 - row, column);
    }
  }
  return steps;
}

bool
SameGrid(const Grid & a, const Grid & b)
{
  if (a.size != b.size)
  {
    return false;
  }
  // from voxels of one to voxels of the other; they may part by a thousandth of a voxel
  const AffineMap map = b.FromPhysical().After(a.toPhysical);
  PointType       last;
  for (unsigned int k = 0; k < 3; ++k)
  {
    last[k] = static_cast<double>(a.size[k] - 1);
  }
  return map(PointType{}).GetVectorFromOrigin().GetNorm() < 1e-3 && (map(last) - last).GetNorm() < 1e-3;
}

class LinearMapping : public DenseMapping
{
public:
  LinearMapping(const TransformType * transform, const Grid & from, const Grid & to)
    : DenseMapping(to.FromPhysical().After(AffineMapOf(transform, from)).After(from.toPhysical), from)
    , m_Transform(transform)
    , m_ToVoxels(to.FromPhysical())
  {}

  bool
  HasDisplacement() const override
  {
    return false;
  }

  void
  WriteDisplacement(float *) const override
  {}

  void
  AddParameterGradient(const masr::View & gradient, double factor, Array<double> & result) const override
  {
    // g[k][j] = sum over the voxels v of (gradient to the position of v, physical axis k) * (v, 1)[j], j in (x, y, z, 1)
    const auto * matrixGradient = gradient.at<const double>(0, 0, 0, 0, 0);
    const auto   steps = StepsOf(m_ToVoxels);
    double       g[3][4];
    for (unsigned int k = 0; k < 3; ++k)
    {
      for (unsigned int j = 0; j < 4; ++j)
      {
        g[k][j] = 0.0;
        for (unsigned int row = 0; row < 3; ++row)
        {
          g[k][j] += steps[row][k] * matrixGradient[4 * row + (j < 3 ? 2 - j : 3)];
        }
      }
    }
    // The Jacobian of a linear transform is affine in the point, so that it is known from four voxels.
    const auto jacobianAt = [this](unsigned int axis, double voxel) {
      PointType point{};
      if (axis < 3)
      {
        point[axis] = voxel;
      }
      TransformType::JacobianType jacobian;
      m_Transform->ComputeJacobianWithRespectToParameters(m_From.toPhysical(point), jacobian);
      return jacobian;
    };
    const auto jacobian = jacobianAt(3, 0.0);
    const auto parameters = jacobian.cols();
    for (unsigned int p = 0; p < parameters; ++p)
    {
      for (unsigned int k = 0; k < 3; ++k)
      {
        result[p] += factor * jacobian(k, p) * g[k][3];
      }
    }
    for (unsigned int axis = 0; axis < 3; ++axis)
    {
      const double far = static_cast<double>(std::max<std::int64_t>(m_From.size[axis] - 1, 1));
      const auto   farJacobian = jacobianAt(axis, far);
      for (unsigned int p = 0; p < parameters; ++p)
      {
        for (unsigned int k = 0; k < 3; ++k)
        {
          result[p] += factor * (farJacobian(k, p) - jacobian(k, p)) / far * g[k][axis];
        }
      }
    }
  }

private:
  const TransformType * m_Transform;
  const AffineMap       m_ToVoxels;
};

/** A displacement field on the grid `from`, then a linear map. */
class FieldMapping : public DenseMapping
{
public:
  FieldMapping(const FieldTransformType * transform, const AffineMap & toVoxels, const Grid & from)
    : DenseMapping(toVoxels.After(from.toPhysical), from)
    , m_Field(transform->GetDisplacementField())
    , m_Steps(StepsOf(toVoxels))
  {}

  void
  WriteDisplacement(float * displacement) const override
  {
    const auto    voxels = m_From.Voxels(), plane = m_From.size[0] * m_From.size[1];
    const auto *  field = m_Field->GetBufferPointer()->GetDataPointer();
    masr::parallel_for(m_From.size[2], [&](std::int64_t z) {
      for (std::int64_t v = z * plane; v < (z + 1) * plane; ++v)
      {
        const double * d = field + 3 * v;
        for (unsigned int row = 0; row < 3; ++row)
        {
          const auto & step = m_Steps[row];
          displacement[row * voxels + v] = static_cast<float>(step[0] * d[0] + step[1] * d[1] + step[2] * d[2]);
        }
      }
    });
  }

  void
  AddParameterGradient(const masr::View & gradient, double factor, Array<double> & result) const override
  {
    const auto    voxels = m_From.Voxels(), plane = m_From.size[0] * m_From.size[1];
    const auto *  g = gradient.at<const float>(0, 0, 0, 0, 0);
    double *      out = result.data_block();
    StepMatrix    steps = m_Steps;
    for (auto & row : steps)
    {
      for (double & entry : row)
      {
        entry *= factor;
      }
    }
    masr::parallel_for(m_From.size[2], [&](std::int64_t z) {
      for (std::int64_t v = z * plane; v < (z + 1) * plane; ++v)
      {
        const double gz = g[v], gy = g[voxels + v], gx = g[2 * voxels + v];
        for (unsigned int k = 0; k < 3; ++k)
        {
          out[3 * v + k] += steps[0][k] * gz + steps[1][k] * gy + steps[2][k] * gx;
        }
      }
    });
  }

private:
  const FieldTransformType::DisplacementFieldType * m_Field;
  const StepMatrix                                  m_Steps;
};

/** A cubic B-spline along the axes of `from`, then a linear map. */
class SplineMapping : public DenseMapping
{
public:
  SplineMapping(const SplineTransformType * transform,
                const AffineMap &           toVoxels,
                const Grid &                from,
                const SplineLattice &       lattice)
    : DenseMapping(toVoxels.After(from.toPhysical), from)
    , m_Transform(transform)
    , m_Steps(StepsOf(toVoxels))
    , m_Lattice(lattice)
  {}

  void
  WriteDisplacement(float * displacement) const override
  {
    // coefficients in voxels of `to`: (z, y, x)
    const auto          points = m_Lattice.ControlPoints();
    std::vector<double> coefficients(3 * points, 0.0);
    for (unsigned int k = 0; k < 3; ++k)
    {
      const double * source = m_Transform->GetCoefficientImages()[k]->GetBufferPointer();
      for (unsigned int row = 0; row < 3; ++row)
      {
        for (std::int64_t i = 0; i < points; ++i)
        {
          coefficients[row * points + i] += m_Steps[row][k] * source[i];
        }
      }
    }
    m_Lattice.Expand(coefficients.data(), displacement);
  }

  void
  AddParameterGradient(const masr::View & gradient, double factor, Array<double> & result) const override
  {
    const auto          points = m_Lattice.ControlPoints();
    std::vector<double> collected(3 * points);
    m_Lattice.Collect(gradient.at<const float>(0, 0, 0, 0, 0), collected.data());
    for (unsigned int k = 0; k < 3; ++k)
    {
      for (std::int64_t i = 0; i < points; ++i)
      {
        double sum = 0.0;
        for (unsigned int row = 0; row < 3; ++row)
        {
          sum += m_Steps[row][k] * collected[row * points + i];
        }
        result[k * points + i] += factor * sum;
      }
    }
  }

private:
  const SplineTransformType * m_Transform;
  const StepMatrix            m_Steps;
  const SplineLattice         m_Lattice;
};

/** Any transform, evaluated at every voxel; knows no parameters. */
class PointwiseMapping : public DenseMapping
{
public:
  PointwiseMapping(const TransformType * transform, const Grid & from, const Grid & to)
    : DenseMapping(to.FromPhysical().After(from.toPhysical), from)
    , m_Transform(transform)
    , m_Steps(StepsOf(to.FromPhysical()))
  {}

  void
  WriteDisplacement(float * displacement) const override
  {
    const auto voxels = m_From.Voxels();
    masr::parallel_for(m_From.size[2], [&](std::int64_t z) {
      std::int64_t v = z * m_From.size[0] * m_From.size[1];
      for (std::int64_t y = 0; y < m_From.size[1]; ++y)
      {
        for (std::int64_t x = 0; x < m_From.size[0]; ++x, ++v)
        {
          PointType voxel;
          voxel[0] = static_cast<double>(x);
          voxel[1] = static_cast<double>(y);
          voxel[2] = static_cast<double>(z);
          const PointType point = m_From.toPhysical(voxel);
          const auto      d = m_Transform->TransformPoint(point) - point;
          for (unsigned int row = 0; row < 3; ++row)
          {
            const auto & step = m_Steps[row];
            displacement[row * voxels + v] = static_cast<float>(step[0] * d[0] + step[1] * d[1] + step[2] * d[2]);
          }
        }
      }
    });
  }

  void
  AddParameterGradient(const masr::View &, double, Array<double> &) const override
  {
    itkGenericExceptionMacro("a mapping that is evaluated point by point has no gradient to parameters");
  }

private:
  const TransformType * m_Transform;
  const StepMatrix      m_Steps;
};

/** The dense form, null if there is none. */
std::unique_ptr<DenseMapping>
MakeDense(const TransformType * transform, const Grid & from, const Grid & to, bool derivatives)
{
  if (transform->IsLinear())
  {
    return std::make_unique<LinearMapping>(transform, from, to);
  }
  // A composite applies its last transform first. What follows that must be linear and stay as it is.
  AffineMap toVoxels = to.FromPhysical();
  while (const auto * composite = dynamic_cast<const CompositeType *>(transform))
  {
    const auto last = composite->GetNumberOfTransforms() - 1;
    if (derivatives && !composite->GetNthTransformToOptimize(last))
    {
      return nullptr;
    }
    for (SizeValueType n = 0; n < last; ++n)
    {
      const auto * part = composite->GetNthTransformConstPointer(n);
      if (!part->IsLinear() || (derivatives && composite->GetNthTransformToOptimize(n)))
      {
        return nullptr;
      }
      toVoxels = toVoxels.After(AffineMapOf(part, from));
    }
    transform = composite->GetNthTransformConstPointer(last);
  }
  if (const auto * fieldTransform = dynamic_cast<const FieldTransformType *>(transform))
  {
    const bool isField = transform->GetTransformCategory() == TransformType::TransformCategoryEnum::DisplacementField;
    if ((isField || !derivatives) && SameGrid(Grid(fieldTransform->GetDisplacementField()), from))
    {
      return std::make_unique<FieldMapping>(fieldTransform, toVoxels, from);
    }
  }
  else if (const auto * spline = dynamic_cast<const SplineTransformType *>(transform))
  {
    if (const auto lattice = SplineLattice::Of(spline->GetCoefficientImages()[0], from))
    {
      return std::make_unique<SplineMapping>(spline, toVoxels, from, *lattice);
    }
  }
  return nullptr;
}

} // namespace

DenseMapping::DenseMapping(const AffineMap & map, const Grid & from)
  : m_From(from)
  , m_Map(map.Snapped())
  , m_Matrix(m_Map.ZYXMatrix())
{}

masr::View
DenseMapping::Matrix() const
{
  return masr::contiguous_view(
    const_cast<double *>(m_Matrix.data()), masr::DType::float64, { 1, 1, 1, 3, 4 });
}

std::unique_ptr<DenseMapping>
DenseMapping::ForPositions(const TransformType * transform, const Grid & from, const Grid & to)
{
  auto mapping = MakeDense(transform, from, to, false);
  return mapping ? std::move(mapping) : std::make_unique<PointwiseMapping>(transform, from, to);
}

std::unique_ptr<DenseMapping>
DenseMapping::ForDerivatives(const TransformType * transform, const Grid & from, const Grid & to)
{
  return MakeDense(transform, from, to, true);
}

} // namespace DSIR
} // namespace itk
