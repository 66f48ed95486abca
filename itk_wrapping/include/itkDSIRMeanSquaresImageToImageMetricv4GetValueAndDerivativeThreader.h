#ifndef itkDSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader_h
#define itkDSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader_h

#include "itkCompensatedSummation.h"
#include "itkImageToImageMetricv4GetValueAndDerivativeThreader.h"

#include <vector>

namespace itk
{

/** \class DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader
 * \brief Evaluates DSIRMeanSquaresImageToImageMetricv4 point by point: any transform, mask and point set.
 *
 * \ingroup DSIR
 */
template <typename TDomainPartitioner, typename TImageToImageMetric, typename TMetric>
class ITK_TEMPLATE_EXPORT DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader
  : public ImageToImageMetricv4GetValueAndDerivativeThreader<TDomainPartitioner, TImageToImageMetric>
{
public:
  ITK_DISALLOW_COPY_AND_MOVE(DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader);

  using Self = DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader;
  using Superclass = ImageToImageMetricv4GetValueAndDerivativeThreader<TDomainPartitioner, TImageToImageMetric>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;

  itkFactorylessNewMacro(Self);
  const char *
  GetNameOfClass() const override
  {
    return "DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader";
  }

  using DerivativeType = typename Superclass::DerivativeType;
  using FixedImageGradientType = typename Superclass::FixedImageGradientType;
  using FixedImagePixelType = typename Superclass::FixedImagePixelType;
  using FixedImagePointType = typename Superclass::FixedImagePointType;
  using MeasureType = typename Superclass::MeasureType;
  using MovingImageGradientType = typename Superclass::MovingImageGradientType;
  using MovingImagePixelType = typename Superclass::MovingImagePixelType;
  using MovingImagePointType = typename Superclass::MovingImagePointType;
  using VirtualIndexType = typename Superclass::VirtualIndexType;
  using VirtualPointType = typename Superclass::VirtualPointType;

protected:
  DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader() = default;
  ~DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader() override = default;

  void
  BeforeThreadedExecution() override;

  /** Divides by the sum of the weights where the base class has divided by the number of points. */
  void
  AfterThreadedExecution() override;

  bool
  ProcessPoint(const VirtualIndexType &        virtualIndex,
               const VirtualPointType &        virtualPoint,
               const FixedImagePointType &     mappedFixedPoint,
               const FixedImagePixelType &     mappedFixedPixelValue,
               const FixedImageGradientType &  mappedFixedImageGradient,
               const MovingImagePointType &    mappedMovingPoint,
               const MovingImagePixelType &    mappedMovingPixelValue,
               const MovingImageGradientType & mappedMovingImageGradient,
               MeasureType &                   metricValueReturn,
               DerivativeType &                localDerivativeReturn,
               const ThreadIdType              threadId) const override;

private:
  struct alignas(64) Work
  {
    std::vector<double>          fixed, moving, slopes;
    CompensatedSummation<double> weight;
  };
  mutable std::vector<Work> m_Work; // one for each thread
};

} // namespace itk

#ifndef ITK_MANUAL_INSTANTIATION
#  include "itkDSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader.hxx"
#endif

#endif
