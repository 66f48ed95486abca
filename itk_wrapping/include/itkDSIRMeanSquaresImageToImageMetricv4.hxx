#ifndef itkDSIRMeanSquaresImageToImageMetricv4_hxx
#define itkDSIRMeanSquaresImageToImageMetricv4_hxx

#include "itkCastImageFilter.h"
#include "itkDSIRThreadLimit.h"
#include "itkImageMaskSpatialObject.h"
#include "masr/parallel.h"
#include "masr/warp.h"
#include "masr/warp_ssd.h"

#include <algorithm>
#include <atomic>
#include <cmath>

namespace itk
{
#define DSIR_TEMPLATE                                                                                                  \
  template <typename TFixedImage,                                                                                      \
            typename TMovingImage,                                                                                     \
            typename TVirtualImage,                                                                                    \
            typename TInternalComputationValueType,                                                                    \
            typename TMetricTraits>
#define DSIR_METRIC                                                                                                    \
  DSIRMeanSquaresImageToImageMetricv4<TFixedImage,                                                                     \
                                      TMovingImage,                                                                    \
                                      TVirtualImage,                                                                   \
                                      TInternalComputationValueType,                                                   \
                                      TMetricTraits>

DSIR_TEMPLATE
DSIR_METRIC::DSIRMeanSquaresImageToImageMetricv4()
{
  this->m_DenseGetValueAndDerivativeThreader = DenseThreaderType::New();
  this->m_SparseGetValueAndDerivativeThreader = SparseThreaderType::New();
  this->SetUseFixedImageGradientFilter(false);
  this->SetUseMovingImageGradientFilter(false);
}

DSIR_TEMPLATE
void
DSIR_METRIC::SetFixedFeatures(const FeatureImageType * features)
{
  if (m_GivenByLevel)
  {
    itkExceptionMacro("features were already given for single levels");
  }
  m_GivenFeatures.resize(1);
  m_GivenFeatures[0].first = features;
  m_GivenFixedImage = m_GivenMovingImage = nullptr;
  this->Modified();
}

DSIR_TEMPLATE
void
DSIR_METRIC::SetMovingFeatures(const FeatureImageType * features)
{
  if (m_GivenByLevel)
  {
    itkExceptionMacro("features were already given for single levels");
  }
  m_GivenFeatures.resize(1);
  m_GivenFeatures[0].second = features;
  m_GivenFixedImage = m_GivenMovingImage = nullptr;
  this->Modified();
}

DSIR_TEMPLATE
void
DSIR_METRIC::AddLevelFeatures(const FeatureImageType * fixed, const FeatureImageType * moving)
{
  if (!m_GivenByLevel && !m_GivenFeatures.empty())
  {
    itkExceptionMacro("features were already given for all levels");
  }
  m_GivenByLevel = true;
  m_GivenFeatures.emplace_back(fixed, moving);
  this->Modified();
}

DSIR_TEMPLATE
void
DSIR_METRIC::Initialize()
{
  Superclass::Initialize();
  if (this->GetGradientSourceIncludesFixed())
  {
    itkExceptionMacro("the gradient source must be the moving image, as it is by default");
  }
  m_FixedSide.time = 0;
  if (m_GivenFeatures.empty())
  {
    this->ExtractFeatures();
  }
  else
  {
    this->UseGivenFeatures();
  }
  const auto channels = m_CurrentFixedFeatures->GetNumberOfComponentsPerPixel();
  if (channels != m_CurrentMovingFeatures->GetNumberOfComponentsPerPixel() || channels == 0)
  {
    itkExceptionMacro("fixed and moving features must have as many channels, at least 1, got "
                      << channels << " and " << m_CurrentMovingFeatures->GetNumberOfComponentsPerPixel());
  }
  this->RequireSameVolume("fixed", m_CurrentFixedFeatures, this->m_FixedImage);
  this->RequireSameVolume("moving", m_CurrentMovingFeatures, this->m_MovingImage);

  // Point sets hold their points in float32: those on the border of an image must not fall out.
  const double margin = this->GetUseSampledPointSet() ? 1e-3 : 0.0;
  m_FixedSampler = FeatureSampler(
    m_CurrentFixedFeatures->GetBufferPointer(), channels, DSIR::Grid(m_CurrentFixedFeatures), margin);
  m_MovingSampler = FeatureSampler(
    m_CurrentMovingFeatures->GetBufferPointer(), channels, DSIR::Grid(m_CurrentMovingFeatures), margin);
  if (m_Weights)
  {
    const DSIR::Grid grid(m_Weights);
    const float *    buffer = m_Weights->GetBufferPointer();
    const auto       wrong = [](float weight) { return !(weight >= 0.0f) || std::isinf(weight); };
    const float *    found = std::find_if(buffer, buffer + grid.Voxels(), wrong);
    if (found != buffer + grid.Voxels())
    {
      itkExceptionMacro("weights must be finite and not negative, got " << *found);
    }
    m_WeightSampler = FeatureSampler(buffer, 1, grid, margin);
  }
}

DSIR_TEMPLATE
void
DSIR_METRIC::ExtractFeatures()
{
  if (m_FeatureFilter.IsNull())
  {
    itkExceptionMacro("there are no features: call SetFeatureFilter(), or SetFixedFeatures() and SetMovingFeatures()");
  }
  std::vector<Extraction> known;
  if (m_FilterTime == m_FeatureFilter->GetMTime())
  {
    known.swap(m_Extractions);
  }
  m_Extractions.clear();
  m_Extractions.push_back(this->Extract(this->m_FixedImage.GetPointer(), known));
  known.push_back(m_Extractions.back());
  m_Extractions.push_back(this->Extract(this->m_MovingImage.GetPointer(), known));
  m_FilterTime = m_FeatureFilter->GetMTime();
  m_CurrentFixedFeatures = m_Extractions[0].features;
  m_CurrentMovingFeatures = m_Extractions[1].features;
}

DSIR_TEMPLATE
template <typename TImage>
auto
DSIR_METRIC::Extract(const TImage * image, const std::vector<Extraction> & known) -> Extraction
{
  for (const Extraction & extraction : known)
  {
    if (extraction.image == image && extraction.time == image->GetMTime())
    {
      return extraction;
    }
  }
  if constexpr (std::is_same_v<TImage, ScalarImageType>)
  {
    m_FeatureFilter->SetInput(image);
  }
  else
  {
    auto cast = CastImageFilter<TImage, ScalarImageType>::New();
    cast->SetInput(image);
    cast->Update();
    m_FeatureFilter->SetInput(cast->GetOutput());
  }
  m_FeatureFilter->Update();
  FeatureImageType::Pointer features = m_FeatureFilter->GetOutput();
  features->DisconnectPipeline();
  m_FeatureFilter->SetInput(nullptr); // the image need not stay
  ++m_NumberOfFeatureExtractions;
  this->RequireFinite(static_cast<const void *>(image) == this->m_FixedImage.GetPointer() ? "fixed" : "moving",
                      features);
  return { image, image->GetMTime(), features.GetPointer() };
}

DSIR_TEMPLATE
void
DSIR_METRIC::UseGivenFeatures()
{
  if (m_GivenByLevel && m_CurrentLevel >= m_GivenFeatures.size())
  {
    itkExceptionMacro("there are features for " << m_GivenFeatures.size() << " levels, and this is level number "
                                                << m_CurrentLevel << ", counted from 0");
  }
  const FeaturePair & given = m_GivenFeatures[m_GivenByLevel ? m_CurrentLevel : 0];
  if (!given.first || !given.second)
  {
    itkExceptionMacro("the " << (given.first ? "moving" : "fixed") << " features were not given");
  }
  // This is how SyN evaluates images that it has resampled in the middle: nothing else shares a field so.
  if (static_cast<const void *>(this->m_FixedTransform.GetPointer()) == this->m_MovingTransform.GetPointer() &&
      this->HasLocalSupport())
  {
    itkExceptionMacro("given features don't belong to the images that SyN resamples in every iteration: call "
                      "SetDownsampleImagesForMetricDerivatives(false) of the registration, or SetFeatureFilter() "
                      "instead of giving features");
  }
  const DataObject * fixed = this->m_FixedImage.GetPointer();
  const DataObject * moving = this->m_MovingImage.GetPointer();
  const bool         exchanged = fixed != moving && fixed == m_GivenMovingImage && moving == m_GivenFixedImage;
  if (!exchanged)
  {
    m_GivenFixedImage = fixed;
    m_GivenMovingImage = moving;
  }
  m_CurrentFixedFeatures = exchanged ? given.second : given.first;
  m_CurrentMovingFeatures = exchanged ? given.first : given.second;

  std::vector<std::pair<const DataObject *, ModifiedTimeType>> finite;
  for (const auto & features : { m_CurrentFixedFeatures, m_CurrentMovingFeatures })
  {
    finite.emplace_back(features.GetPointer(), features->GetMTime());
    if (std::find(m_FiniteFeatures.begin(), m_FiniteFeatures.end(), finite.back()) == m_FiniteFeatures.end())
    {
      this->RequireFinite(features == m_CurrentFixedFeatures ? "fixed" : "moving", features);
    }
  }
  m_FiniteFeatures = finite;
}

DSIR_TEMPLATE
void
DSIR_METRIC::RequireFinite(const char * role, const FeatureImageType * features)
{
  const auto                count = DSIR::Grid(features).Voxels() * features->GetNumberOfComponentsPerPixel();
  const float *             buffer = features->GetBufferPointer();
  constexpr std::int64_t    part = 1 << 18;
  std::atomic<std::int64_t> wrong{ 0 };
  DSIR::ThreadLimit         threads(this->GetMaximumNumberOfWorkUnits());
  masr::parallel_for((count + part - 1) / part, [&](std::int64_t task) {
    std::int64_t       here = 0;
    const std::int64_t end = std::min(count, (task + 1) * part);
    for (std::int64_t i = task * part; i < end; ++i)
    {
      here += !(std::abs(buffer[i]) <= NumericTraits<float>::max());
    }
    wrong += here;
  });
  if (wrong > 0)
  {
    itkExceptionMacro("the " << role << " features must be finite, got " << wrong << " of " << count
                             << " values that are not");
  }
}

DSIR_TEMPLATE
void
DSIR_METRIC::RequireSameVolume(const char *             role,
                               const FeatureImageType * features,
                               const ImageBase<3> *     image) const
{
  const DSIR::Grid featureGrid(features), imageGrid(image);
  // The volumes that the voxels fill must agree to one voxel of the features, and their centres lie in the image.
  const auto toImage = imageGrid.FromPhysical().After(featureGrid.toPhysical);
  const auto toFeatures = featureGrid.FromPhysical().After(imageGrid.toPhysical);
  for (unsigned int corner = 0; corner < 8; ++corner)
  {
    DSIR::PointType centre, edge;
    for (unsigned int k = 0; k < 3; ++k)
    {
      const bool upper = (corner >> k & 1u) != 0;
      centre[k] = upper ? static_cast<double>(featureGrid.size[k] - 1) : 0.0;
      edge[k] = upper ? static_cast<double>(imageGrid.size[k]) - 0.5 : -0.5;
    }
    const auto centreInImage = toImage(centre);
    const auto edgeInFeatures = toFeatures(edge);
    for (unsigned int k = 0; k < 3; ++k)
    {
      const double expected = (corner >> k & 1u) != 0 ? static_cast<double>(featureGrid.size[k]) - 0.5 : -0.5;
      if (!(std::abs(edgeInFeatures[k] - expected) <= 1.0 + 1e-3) ||
          !(centreInImage[k] >= -0.5 - 1e-3 && centreInImage[k] <= static_cast<double>(imageGrid.size[k]) - 0.5 + 1e-3))
      {
        itkExceptionMacro("the " << role << " features must fill the same volume as the " << role << " image, "
                                 << imageGrid.Describe() << ", got " << featureGrid.Describe()
                                 << "; also the directions must agree");
      }
    }
  }
}

DSIR_TEMPLATE
DSIR_METRIC::FeatureSampler::FeatureSampler(const float *      buffer,
                                            unsigned int       channels,
                                            const DSIR::Grid & grid,
                                            double             margin)
  : m_Buffer(buffer)
  , m_Channels(channels)
  , m_Size(grid.size)
  , m_ToVoxels(grid.FromPhysical())
  , m_Margin(margin)
{}

DSIR_TEMPLATE
bool
DSIR_METRIC::FeatureSampler::Locate(const Point<double, 3> & point,
                                    std::int64_t (&lower)[3],
                                    double (&fraction)[3]) const
{
  const auto position = m_ToVoxels(point);
  for (unsigned int k = 0; k < 3; ++k)
  {
    // A point that is on a voxel but for rounding is on it: it must neither fall out nor take the slope below.
    const double voxel = std::round(position[k]);
    double       here = std::abs(position[k] - voxel) < 1e-9 * (1.0 + std::abs(voxel)) ? voxel : position[k];
    const double last = static_cast<double>(m_Size[k] - 1);
    if (!(here >= -m_Margin && here <= last + m_Margin))
    {
      return false;
    }
    here = std::min(std::max(here, 0.0), last);
    lower[k] = std::min(static_cast<std::int64_t>(here), std::max<std::int64_t>(m_Size[k] - 2, 0));
    fraction[k] = here - static_cast<double>(lower[k]);
  }
  return true;
}

DSIR_TEMPLATE
bool
DSIR_METRIC::FeatureSampler::IsInside(const Point<double, 3> & point) const
{
  std::int64_t lower[3];
  double       fraction[3];
  return this->Locate(point, lower, fraction);
}

DSIR_TEMPLATE
bool
DSIR_METRIC::FeatureSampler::Evaluate(const Point<double, 3> & point, double * values, double * slopes) const
{
  std::int64_t lower[3];
  double       fraction[3];
  if (!this->Locate(point, lower, fraction))
  {
    return false;
  }
  std::fill(values, values + m_Channels, 0.0);
  if (slopes)
  {
    std::fill(slopes, slopes + 3 * m_Channels, 0.0);
  }
  for (unsigned int corner = 0; corner < 8; ++corner)
  {
    double       weight[3], sign[3];
    std::int64_t voxel[3];
    for (unsigned int k = 0; k < 3; ++k)
    {
      const bool upper = (corner >> k & 1u) != 0;
      weight[k] = upper ? fraction[k] : 1.0 - fraction[k];
      sign[k] = m_Size[k] == 1 ? 0.0 : upper ? 1.0 : -1.0;
      voxel[k] = std::min(lower[k] + (upper ? 1 : 0), m_Size[k] - 1);
    }
    const float * source = m_Buffer + ((voxel[2] * m_Size[1] + voxel[1]) * m_Size[0] + voxel[0]) * m_Channels;
    const double  all = weight[0] * weight[1] * weight[2];
    for (unsigned int c = 0; c < m_Channels; ++c)
    {
      values[c] += all * static_cast<double>(source[c]);
    }
    if (!slopes)
    {
      continue;
    }
    const double alongVoxels[3] = { sign[0] * weight[1] * weight[2],
                                    weight[0] * sign[1] * weight[2],
                                    weight[0] * weight[1] * sign[2] };
    for (unsigned int k = 0; k < 3; ++k)
    {
      const auto & toVoxels = m_ToVoxels.linear;
      const double along =
        alongVoxels[0] * toVoxels(0, k) + alongVoxels[1] * toVoxels(1, k) + alongVoxels[2] * toVoxels(2, k);
      for (unsigned int c = 0; c < m_Channels; ++c)
      {
        slopes[k * m_Channels + c] += along * static_cast<double>(source[c]);
      }
    }
  }
  return true;
}

DSIR_TEMPLATE
double
DSIR_METRIC::WeightAt(const Point<double, 3> & fixedPoint) const
{
  double weight = 1.0;
  if (m_Weights && !m_WeightSampler.Evaluate(fixedPoint, &weight, nullptr))
  {
    weight = 0.0;
  }
  return weight;
}

DSIR_TEMPLATE
void
DSIR_METRIC::PrepareFixedSide() const
{
  FixedSide &      side = m_FixedSide;
  const DSIR::Grid grid(this->GetVirtualImage()), featureGrid(m_CurrentFixedFeatures);
  const auto       voxels = static_cast<std::size_t>(grid.Voxels());
  const auto       channels = m_CurrentFixedFeatures->GetNumberOfComponentsPerPixel();
  const auto       mapping = DSIR::DenseMapping::ForPositions(this->m_FixedTransform, grid, featureGrid);

  masr::View displacement;
  if (mapping->HasDisplacement())
  {
    m_Displacement.resize(3 * voxels);
    mapping->WriteDisplacement(m_Displacement.data());
    if (std::any_of(m_Displacement.begin(), m_Displacement.end(), [](float u) { return u != 0.0f; }))
    {
      displacement = DSIR::PlanarView(m_Displacement.data(), masr::DType::float32, 3, grid);
    }
  }
  const bool onGrid = mapping->MatrixIsIdentity() && !displacement && grid.size == featureGrid.size;
  if (onGrid)
  {
    side.features = DSIR::ViewOf(m_CurrentFixedFeatures);
  }
  else
  {
    side.featureBuffer.resize(voxels * channels);
    side.features = DSIR::InterleavedView(side.featureBuffer.data(), channels, grid);
    masr::warp(DSIR::ViewOf(m_CurrentFixedFeatures),
               displacement,
               mapping->Matrix(),
               masr::Padding::border,
               masr::Interpolation::linear,
               side.features);
  }

  side.weights = side.counted = {};
  side.time = this->GetMTime();
  if (onGrid && !this->m_FixedImageMask && !m_Weights)
  {
    return;
  }
  side.weightBuffer.resize(voxels);
  const auto *      image = this->GetVirtualImage();
  const auto        start = image->GetBufferedRegion().GetIndex();
  std::atomic<bool> allOne{ true };
  masr::parallel_for(grid.size[2], [&](std::int64_t z) {
    auto index = start;
    auto v = z * grid.size[1] * grid.size[0];
    bool one = true;
    index[2] = start[2] + z;
    for (std::int64_t y = 0; y < grid.size[1]; ++y)
    {
      index[1] = start[1] + y;
      for (std::int64_t x = 0; x < grid.size[0]; ++x, ++v)
      {
        index[0] = start[0] + x;
        typename Superclass::VirtualPointType virtualPoint;
        image->TransformIndexToPhysicalPoint(index, virtualPoint);
        const auto point = this->m_FixedTransform->TransformPoint(virtualPoint);
        const bool inside = (!this->m_FixedImageMask || this->m_FixedImageMask->IsInsideInWorldSpace(point)) &&
                            m_FixedSampler.IsInside(point);
        const double weight = inside ? this->WeightAt(point) : 0.0;
        side.weightBuffer[v] = static_cast<float>(weight);
        one = one && weight == 1.0;
      }
    }
    if (!one)
    {
      allOne = false;
    }
  });
  if (!allOne)
  {
    side.weights = DSIR::PlanarView(side.weightBuffer.data(), masr::DType::float32, 1, grid);
    if (m_Weights)
    {
      side.countedBuffer.resize(voxels);
      std::transform(side.weightBuffer.begin(), side.weightBuffer.end(), side.countedBuffer.begin(), [](float weight) {
        return weight > 0.0f ? 1.0f : 0.0f;
      });
      side.counted = DSIR::PlanarView(side.countedBuffer.data(), masr::DType::float32, 1, grid);
    }
  }
}

DSIR_TEMPLATE
bool
DSIR_METRIC::MovingMaskView(masr::View & mask) const
{
  if (!this->m_MovingImageMask)
  {
    return true;
  }
  using MaskType = ImageMaskSpatialObject<3>;
  const auto * spatial = dynamic_cast<const MaskType *>(this->m_MovingImageMask.GetPointer());
  if (!spatial)
  {
    return false;
  }
#if ITK_VERSION_MAJOR > 5 || (ITK_VERSION_MAJOR == 5 && ITK_VERSION_MINOR >= 4)
  if (spatial->GetUseMaskValue())
  {
    return false;
  }
#endif
  const auto * toWorld = spatial->GetObjectToWorldTransform();
  const DSIR::Grid grid(spatial->GetImage()), featureGrid(m_CurrentMovingFeatures);
  if (!DSIR::AffineMap{ toWorld->GetMatrix(), toWorld->GetOffset() }.IsIdentity() || grid.size != featureGrid.size ||
      !featureGrid.FromPhysical().After(grid.toPhysical).Snapped().IsIdentity())
  {
    return false;
  }
  mask = DSIR::PlanarView(spatial->GetImage()->GetBufferPointer(), masr::DType::uint8, 1, grid);
  return true;
}

DSIR_TEMPLATE
bool
DSIR_METRIC::ExecuteFused() const
{
  const DSIR::Grid grid(this->GetVirtualImage());
  const auto       mapping =
    DSIR::DenseMapping::ForDerivatives(this->m_MovingTransform, grid, DSIR::Grid(m_CurrentMovingFeatures));
  masr::WarpSsd input;
  if (!mapping || !this->MovingMaskView(input.moving_mask))
  {
    return false;
  }
  DSIR::ThreadLimit threads(this->GetMaximumNumberOfWorkUnits());
  if (m_FixedSide.time != this->GetMTime())
  {
    this->PrepareFixedSide();
  }
  input.fixed = m_FixedSide.features;
  input.moving = DSIR::ViewOf(m_CurrentMovingFeatures);
  input.matrix = mapping->Matrix();
  input.weights = m_FixedSide.weights;
  const auto voxels = static_cast<std::size_t>(grid.Voxels());
  if (mapping->HasDisplacement())
  {
    m_Displacement.resize(3 * voxels);
    mapping->WriteDisplacement(m_Displacement.data());
    input.displacement = DSIR::PlanarView(m_Displacement.data(), masr::DType::float32, 3, grid);
  }

  double     value = 0.0, total = 0.0, matrixGradient[12];
  const auto scalar = [](double & number) {
    return masr::contiguous_view(&number, masr::DType::float64, { 1, 1, 1, 1, 1 });
  };
  masr::View gradient;
  if (this->GetComputeDerivative() && mapping->HasDisplacement())
  {
    m_Gradient.resize(3 * voxels);
    gradient = DSIR::PlanarView(m_Gradient.data(), masr::DType::float32, 3, grid);
  }
  else if (this->GetComputeDerivative())
  {
    gradient = masr::contiguous_view(matrixGradient, masr::DType::float64, { 1, 1, 1, 3, 4 });
  }
  masr::warp_ssd(input, scalar(value), scalar(total), gradient);

  double count = total;
  if (m_FixedSide.counted)
  {
    // The same with weights of 0 and 1, on volumes of one channel that cost nothing: every voxel is the same number.
    float      zero = 0.0f;
    const auto constant = [&zero](masr::View view) {
      view.data = &zero;
      view.shape[1] = 1;
      view.stride = {};
      return view;
    };
    input.fixed = constant(input.fixed);
    input.moving = constant(input.moving);
    input.weights = m_FixedSide.counted;
    double ignored;
    masr::warp_ssd(input, scalar(ignored), scalar(count), {});
  }
  this->m_NumberOfValidPoints = static_cast<SizeValueType>(std::llround(count));
  if (this->m_NumberOfValidPoints == 0)
  {
    return true;
  }
  this->m_Value = value;
  if (this->GetComputeDerivative())
  {
    // A field's derivative is ITK's: each voxel's own, not divided by the number of points.
    mapping->AddParameterGradient(gradient, this->HasLocalSupport() ? -total : -1.0, *this->m_DerivativeResult);
  }
  return true;
}

DSIR_TEMPLATE
void
DSIR_METRIC::GetValueAndDerivativeExecute() const
{
  m_FusedKernelUsed = m_UseFusedKernel && !this->m_UseSampledPointSet && this->ExecuteFused();
  if (!m_FusedKernelUsed)
  {
    Superclass::GetValueAndDerivativeExecute();
  }
  if (this->m_NumberOfValidPoints == 0)
  {
    itkExceptionMacro("no valid points: none of the "
                      << this->GetNumberOfDomainPoints()
                      << " points of the virtual domain lies, mapped, within both feature volumes and masks, fixed "
                      << DSIR::Grid(m_CurrentFixedFeatures).Describe() << ", moving "
                      << DSIR::Grid(m_CurrentMovingFeatures).Describe() << "; check the initial transforms");
  }
}

DSIR_TEMPLATE
void
DSIR_METRIC::PrintSelf(std::ostream & os, Indent indent) const
{
  Superclass::PrintSelf(os, indent);
  itkPrintSelfObjectMacro(FeatureFilter);
  itkPrintSelfObjectMacro(Weights);
  os << indent << "GivenFeatures: " << m_GivenFeatures.size() << (m_GivenByLevel ? " levels" : "") << std::endl;
  os << indent << "CurrentLevel: " << m_CurrentLevel << std::endl;
  os << indent << "UseFusedKernel: " << m_UseFusedKernel << std::endl;
  os << indent << "FusedKernelUsed: " << m_FusedKernelUsed << std::endl;
  os << indent << "NumberOfFeatureExtractions: " << m_NumberOfFeatureExtractions << std::endl;
}

#undef DSIR_TEMPLATE
#undef DSIR_METRIC

} // namespace itk

#endif
