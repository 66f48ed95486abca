// Promise: ITK's registration methods, given this metric, align two images of different contrast that start 5 voxels off.
#include "itkDSIRTestHelpers.h"

#include "itkAffineTransform.h"
#include "itkBSplineTransform.h"
#include "itkBSplineTransformInitializer.h"
#include "itkDisplacementFieldTransformParametersAdaptor.h"
#include "itkGaussianSmoothingOnUpdateDisplacementFieldTransform.h"
#include "itkGradientDescentOptimizerv4.h"
#include "itkImageRegistrationMethodv4.h"
#include "itkMINDSSCImageFilter.h"
#include "itkRegistrationParameterScalesFromPhysicalShift.h"
#include "itkRegularStepGradientDescentOptimizerv4.h"
#include "itkShrinkImageFilter.h"
#include "itkSyNImageRegistrationMethod.h"

#include <vector>

using namespace dsir_test;

namespace
{
constexpr unsigned int size = 32;
constexpr double       shift[3] = { 3.0, -3.0, 2.6 }; // from points of the fixed image to points of the moving one

using TransformType = itk::Transform<double, 3, 3>;
using FieldTransformType = itk::GaussianSmoothingOnUpdateDisplacementFieldTransform<double, 3>;
using RegistrationType = itk::ImageRegistrationMethodv4<ImageType, ImageType>;
using SyNType = itk::SyNImageRegistrationMethod<ImageType, ImageType>;

/** Sums of waves in all directions, of 9 to 18 voxels: a scene that repeats nowhere near. */
double
Scene(const double (&point)[3])
{
  static const auto waves = [] {
    std::mt19937                        generator(4);
    std::normal_distribution<>          normal;
    std::uniform_real_distribution<>    uniform;
    std::vector<std::array<double, 4>> result(40);
    for (auto & wave : result)
    {
      double norm = 0.0;
      for (unsigned int k = 0; k < 3; ++k)
      {
        wave[k] = normal(generator);
        norm += wave[k] * wave[k];
      }
      const double frequency = 2.0 * 3.14159265358979 / (9.0 + 9.0 * uniform(generator)) / std::sqrt(norm);
      for (unsigned int k = 0; k < 3; ++k)
      {
        wave[k] *= frequency;
      }
      wave[3] = 6.3 * uniform(generator);
    }
    return result;
  }();
  double sum = 0.0;
  for (const auto & wave : waves)
  {
    sum += std::sin(wave[0] * point[0] + wave[1] * point[1] + wave[2] * point[2] + wave[3]);
  }
  return sum / 6.0;
}

/** The scene, moved by `moved` and seen through `contrast`; voxels of 1 mm. */
template <typename TContrast>
ImageType::Pointer
Scan(const double (&moved)[3], TContrast contrast)
{
  auto    image = BlankImage({ { size, size, size } }, true);
  float * out = image->GetBufferPointer();
  for (unsigned int z = 0; z < size; ++z)
  {
    for (unsigned int y = 0; y < size; ++y)
    {
      for (unsigned int x = 0; x < size; ++x)
      {
        *out++ = static_cast<float>(contrast(Scene({ x - moved[0], y - moved[1], z - moved[2] })));
      }
    }
  }
  return image;
}

ImageType::Pointer
Fixed()
{
  return Scan({ 0.0, 0.0, 0.0 }, [](double value) { return value; });
}

ImageType::Pointer
Moving()
{
  return Scan(shift, [](double value) { return std::exp(-value); });
}

MetricType::Pointer
MindMetric()
{
  auto filter = itk::MINDSSCImageFilter<ImageType>::New();
  filter->SetRadius(2);
  auto metric = MetricType::New();
  metric->SetFeatureFilter(filter);
  return metric;
}

void
RequireFound(const TransformType * transform)
{
  double       sum = 0.0;
  unsigned int count = 0;
  for (double x = 8; x < size - 8; x += 3)
  {
    for (double y = 8; y < size - 8; y += 3)
    {
      for (double z = 8; z < size - 8; z += 3, ++count)
      {
        itk::Point<double, 3> point;
        point[0] = x;
        point[1] = y;
        point[2] = z;
        const auto found = transform->TransformPoint(point);
        double     squares = 0.0;
        for (unsigned int k = 0; k < 3; ++k)
        {
          squares += std::pow(found[k] - point[k] - shift[k], 2);
        }
        sum += std::sqrt(squares);
      }
    }
  }
  std::cout << "mean error " << sum / count << " voxels" << std::endl;
  REQUIRE(sum / count < 0.5, sum / count << " voxels off");
}

template <typename TRegistration>
void
SetLevels(TRegistration * registration, const std::vector<unsigned int> & shrink, const std::vector<double> & sigma)
{
  typename TRegistration::ShrinkFactorsArrayType   factors(shrink.size());
  typename TRegistration::SmoothingSigmasArrayType sigmas(sigma.size());
  std::copy(shrink.begin(), shrink.end(), factors.begin());
  std::copy(sigma.begin(), sigma.end(), sigmas.begin());
  registration->SetNumberOfLevels(shrink.size());
  registration->SetShrinkFactorsPerLevel(factors);
  registration->SetSmoothingSigmasPerLevel(sigmas);
}

ImageType::Pointer
Shrunk(const ImageType * image, unsigned int factor)
{
  auto filter = itk::ShrinkImageFilter<ImageType, ImageType>::New();
  filter->SetShrinkFactors(factor);
  filter->SetInput(image);
  filter->Update();
  return filter->GetOutput();
}

/** The field of every level lies on the virtual domain of that level. */
template <typename TRegistration, typename TTransform>
void
AdaptFields(TRegistration * registration, const ImageType * fixed, const std::vector<unsigned int> & shrink)
{
  typename TRegistration::TransformParametersAdaptorsContainerType adaptors;
  for (const unsigned int factor : shrink)
  {
    const auto grid = Shrunk(fixed, factor);
    auto       adaptor = itk::DisplacementFieldTransformParametersAdaptor<TTransform>::New();
    adaptor->SetRequiredSpacing(grid->GetSpacing());
    adaptor->SetRequiredSize(grid->GetBufferedRegion().GetSize());
    adaptor->SetRequiredDirection(grid->GetDirection());
    adaptor->SetRequiredOrigin(grid->GetOrigin());
    adaptors.push_back(adaptor.GetPointer());
  }
  registration->SetTransformParametersAdaptorsPerLevel(adaptors);
}

/** Gradient descent whose longest step is `step`; those of a field are all that long, others shrink when they overshoot. */
itk::GradientDescentOptimizerv4::Pointer
NewOptimizer(MetricType * metric, double step, bool isField)
{
  auto scales = itk::RegistrationParameterScalesFromPhysicalShift<MetricType>::New();
  scales->SetMetric(metric);
  itk::GradientDescentOptimizerv4::Pointer optimizer;
  if (isField)
  {
    optimizer = itk::GradientDescentOptimizerv4::New();
  }
  else
  {
    auto regular = itk::RegularStepGradientDescentOptimizerv4<double>::New();
    regular->SetMinimumStepLength(1e-4);
    optimizer = regular.GetPointer();
  }
  optimizer->SetScalesEstimator(scales);
  optimizer->SetDoEstimateLearningRateOnce(!isField);
  optimizer->SetDoEstimateLearningRateAtEachIteration(isField);
  optimizer->SetMaximumStepSizeInPhysicalUnits(step);
  optimizer->SetNumberOfIterations(60);
  optimizer->SetConvergenceWindowSize(10);
  optimizer->SetMinimumConvergenceValue(1e-5);
  return optimizer;
}

void
Register(TransformType *                   transform,
         const std::vector<unsigned int> & shrink,
         const std::vector<double> &       sigma,
         double                            step,
         bool                              isField)
{
  const auto fixed = Fixed(), moving = Moving();
  const auto metric = MindMetric();
  auto       registration = RegistrationType::New();
  registration->SetFixedImage(fixed);
  registration->SetMovingImage(moving);
  registration->SetMetric(metric);
  registration->SetOptimizer(NewOptimizer(metric, step, isField));
  registration->SetInitialTransform(transform);
  registration->InPlaceOn();
  SetLevels(registration.GetPointer(), shrink, sigma);
  if (isField)
  {
    AdaptFields<RegistrationType, FieldTransformType>(registration, fixed, shrink);
  }
  registration->Update();
  REQUIRE(metric->GetFusedKernelUsed(), "the fused kernel");
  REQUIRE(metric->GetNumberOfFeatureExtractions() == 2 * shrink.size(),
          "features of " << metric->GetNumberOfFeatureExtractions() << " images");
  RequireFound(transform);
}

void
Affine()
{
  auto                                         transform = itk::AffineTransform<double, 3>::New();
  itk::AffineTransform<double, 3>::InputPointType centre;
  centre.Fill((size - 1) / 2.0);
  transform->SetCenter(centre);
  Register(transform, { 2, 1 }, { 2.0, 1.0 }, 1.0, false);
}

void
BSpline()
{
  using SplineType = itk::BSplineTransform<double, 3, 3>;
  auto transform = SplineType::New();
  auto initializer = itk::BSplineTransformInitializer<SplineType, ImageType>::New();
  initializer->SetTransform(transform);
  initializer->SetImage(Fixed());
  initializer->SetTransformDomainMeshSize(SplineType::MeshSizeType{ { 3, 3, 3 } });
  initializer->InitializeTransform();
  Register(transform, { 2, 1 }, { 2.0, 1.0 }, 1.0, false);
}

FieldTransformType::DisplacementFieldType::Pointer
ZeroField(const itk::ImageBase<3> * grid)
{
  auto field = FieldTransformType::DisplacementFieldType::New();
  field->CopyInformation(grid);
  field->SetRegions(grid->GetLargestPossibleRegion());
  field->Allocate();
  FieldTransformType::OutputVectorType zero;
  zero.Fill(0.0);
  field->FillBuffer(zero);
  return field;
}

void
DisplacementField()
{
  auto transform = FieldTransformType::New();
  transform->SetDisplacementField(ZeroField(Shrunk(Fixed(), 2)));
  transform->SetGaussianSmoothingVarianceForTheUpdateField(3.0);
  transform->SetGaussianSmoothingVarianceForTheTotalField(0.5);
  Register(transform, { 2, 1 }, { 2.0, 1.0 }, 0.7, true);
}

SyNType::Pointer
NewSyN(MetricType * metric, const std::vector<unsigned int> & shrink, const std::vector<double> & sigma)
{
  const auto fixed = Fixed();
  auto       registration = SyNType::New();
  registration->SetFixedImage(fixed);
  registration->SetMovingImage(Moving());
  registration->SetMetric(metric);
  registration->SetLearningRate(0.25);
  registration->SetGaussianSmoothingVarianceForTheUpdateField(6.0);
  SyNType::NumberOfIterationsArrayType iterations(shrink.size());
  iterations.Fill(60);
  registration->SetNumberOfIterationsPerLevel(iterations);
  SetLevels(registration.GetPointer(), shrink, sigma);
  auto transform = SyNType::OutputTransformType::New();
  transform->SetDisplacementField(ZeroField(Shrunk(fixed, shrink[0])));
  transform->SetInverseDisplacementField(ZeroField(Shrunk(fixed, shrink[0])));
  registration->SetInitialTransform(transform);
  registration->InPlaceOn();
  AdaptFields<SyNType, SyNType::OutputTransformType>(registration, fixed, shrink);
  return registration;
}

/** It resamples the images, calls the metric with the roles exchanged, and refuses features that are given. */
void
SyN()
{
  const auto metric = MindMetric();
  const auto registration = NewSyN(metric, { 2, 1 }, { 2.0, 0.0 });
  registration->Update();
  RequireFound(registration->GetTransform());

  metric->SetFixedFeatures(WavyFeatures({ { size, size, size } }, 2, 0.0, true));
  metric->SetMovingFeatures(WavyFeatures({ { size, size, size } }, 2, 0.3, true));
  std::string message;
  try
  {
    NewSyN(metric, { 1 }, { 1.0 })->Update();
  }
  catch (const itk::ExceptionObject & error)
  {
    message = error.GetDescription();
  }
  REQUIRE(message.find("SetDownsampleImagesForMetricDerivatives(false)") != std::string::npos, message);
}

} // namespace

int
main(int argc, char * argv[])
{
  return RunNamed(
    argc, argv, { { "affine", Affine }, { "bspline", BSpline }, { "displacementField", DisplacementField }, { "syn", SyN } });
}
