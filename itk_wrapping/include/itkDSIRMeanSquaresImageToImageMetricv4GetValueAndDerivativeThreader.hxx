#ifndef itkDSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader_hxx
#define itkDSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader_hxx

namespace itk
{

template <typename TDomainPartitioner, typename TImageToImageMetric, typename TMetric>
void
DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<TDomainPartitioner, TImageToImageMetric, TMetric>::
  BeforeThreadedExecution()
{
  Superclass::BeforeThreadedExecution();
  const auto * metric = static_cast<const TMetric *>(this->m_Associate);
  const auto   channels = metric->m_FixedSampler.Channels();
  m_Work.resize(this->GetNumberOfWorkUnitsUsed());
  for (Work & work : m_Work)
  {
    work.fixed.resize(channels);
    work.moving.resize(channels);
    work.slopes.resize(3 * channels);
    work.weight.ResetToZero();
  }
}

template <typename TDomainPartitioner, typename TImageToImageMetric, typename TMetric>
void
DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<TDomainPartitioner, TImageToImageMetric, TMetric>::
  AfterThreadedExecution()
{
  Superclass::AfterThreadedExecution();
  auto * metric = static_cast<const TMetric *>(this->m_Associate);
  if (metric->m_Weights.IsNull() || metric->m_NumberOfValidPoints == 0)
  {
    return;
  }
  CompensatedSummation<double> weight;
  for (const Work & work : m_Work)
  {
    weight += work.weight.GetSum();
  }
  const double factor = static_cast<double>(metric->m_NumberOfValidPoints) / weight.GetSum();
  metric->m_Value *= factor;
  if (metric->GetComputeDerivative() && !metric->HasLocalSupport())
  {
    *metric->m_DerivativeResult *= factor;
  }
}

template <typename TDomainPartitioner, typename TImageToImageMetric, typename TMetric>
bool
DSIRMeanSquaresImageToImageMetricv4GetValueAndDerivativeThreader<TDomainPartitioner, TImageToImageMetric, TMetric>::
  ProcessPoint(const VirtualIndexType &,
               const VirtualPointType &    virtualPoint,
               const FixedImagePointType & mappedFixedPoint,
               const FixedImagePixelType &,
               const FixedImageGradientType &,
               const MovingImagePointType & mappedMovingPoint,
               const MovingImagePixelType &,
               const MovingImageGradientType &,
               MeasureType &      metricValueReturn,
               DerivativeType &   localDerivativeReturn,
               const ThreadIdType threadId) const
{
  const auto * metric = static_cast<const TMetric *>(this->m_Associate);
  Work &       work = m_Work[threadId];
  const bool   derivative = this->GetComputeDerivative();
  const double weight = metric->WeightAt(mappedFixedPoint);
  if (!(weight > 0.0) || !metric->m_FixedSampler.Evaluate(mappedFixedPoint, work.fixed.data(), nullptr) ||
      !metric->m_MovingSampler.Evaluate(
        mappedMovingPoint, work.moving.data(), derivative ? work.slopes.data() : nullptr))
  {
    return false;
  }
  work.weight += weight;

  const auto channels = metric->m_FixedSampler.Channels();
  double     squares = 0.0, toPoint[3] = {};
  for (unsigned int c = 0; c < channels; ++c)
  {
    const double difference = work.fixed[c] - work.moving[c];
    squares += difference * difference;
    for (unsigned int k = 0; derivative && k < 3; ++k)
    {
      toPoint[k] += difference * work.slopes[k * channels + c];
    }
  }
  metricValueReturn = weight * squares / channels;
  if (!derivative)
  {
    return true;
  }

  auto & jacobian = this->m_GetValueAndDerivativePerThreadVariables[threadId].MovingTransformJacobian;
  auto & positional = this->m_GetValueAndDerivativePerThreadVariables[threadId].MovingTransformJacobianPositional;
  metric->GetMovingTransform()->ComputeJacobianWithRespectToParametersCachedTemporaries(
    virtualPoint, jacobian, positional);
  const double factor = 2.0 * weight / channels;
  for (unsigned int p = 0; p < this->GetCachedNumberOfLocalParameters(); ++p)
  {
    localDerivativeReturn[p] =
      factor * (toPoint[0] * jacobian(0, p) + toPoint[1] * jacobian(1, p) + toPoint[2] * jacobian(2, p));
  }
  return true;
}

} // namespace itk

#endif
