// Images, features and checks that the tests share.
#ifndef itkDSIRTestHelpers_h
#define itkDSIRTestHelpers_h

#include "itkDSIRMeanSquaresImageToImageMetricv4.h"
#include "itkImage.h"

#include <cmath>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>

namespace dsir_test
{
using ImageType = itk::Image<float, 3>;
using FeatureType = itk::VectorImage<float, 3>;
using MetricType = itk::DSIRMeanSquaresImageToImageMetricv4<ImageType, ImageType>;
using ParametersType = itk::OptimizerParameters<double>;
using DerivativeType = MetricType::DerivativeType;

/** Ends the test with the line of a check that does not hold. */
#define REQUIRE(condition, message)                                                                                    \
  if (!(condition))                                                                                                    \
  {                                                                                                                    \
    std::ostringstream text;                                                                                           \
    text << __FILE__ << ":" << __LINE__ << ": " << #condition << ": " << message;                                      \
    throw std::runtime_error(text.str());                                                                              \
  }

/** Runs the test that the command line names. */
inline int
RunNamed(int argc, char * argv[], const std::map<std::string, void (*)()> & tests)
{
  const auto test = argc == 2 ? tests.find(argv[1]) : tests.end();
  if (test == tests.end())
  {
    std::cerr << "expected the name of a test" << std::endl;
    return EXIT_FAILURE;
  }
  try
  {
    test->second();
  }
  catch (const std::exception & error)
  {
    std::cerr << error.what() << std::endl;
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

/** Oblique, with three spacings, unless it is plain. */
template <typename TImage>
typename TImage::Pointer
NewImage(const itk::Size<3> & size, bool plain = false)
{
  auto image = TImage::New();
  image->SetRegions(size);
  if (!plain)
  {
    typename TImage::SpacingType spacing;
    spacing[0] = 1.0;
    spacing[1] = 1.5;
    spacing[2] = 2.0;
    typename TImage::PointType origin;
    origin[0] = 13.0;
    origin[1] = -4.0;
    origin[2] = 5.5;
    typename TImage::DirectionType direction; // a rotation by 0.4 about (1, 2, 2) / 3
    const double c = std::cos(0.4), s = std::sin(0.4), n[3] = { 1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0 };
    for (unsigned int i = 0; i < 3; ++i)
    {
      for (unsigned int j = 0; j < 3; ++j)
      {
        const unsigned int k = 3 - i - j;
        const double       cross = i == j ? 0.0 : ((i + 1) % 3 == j ? -n[k] : n[k]);
        direction(i, j) = (i == j ? c : 0.0) + (1.0 - c) * n[i] * n[j] + s * cross;
      }
    }
    image->SetSpacing(spacing);
    image->SetOrigin(origin);
    image->SetDirection(direction);
  }
  return image;
}

/** function(voxel index, channel) for every voxel. */
template <typename TFunction>
FeatureType::Pointer
NewFeatures(const itk::Size<3> & size, unsigned int channels, TFunction function, bool plain = false)
{
  auto features = NewImage<FeatureType>(size, plain);
  features->SetNumberOfComponentsPerPixel(channels);
  features->Allocate();
  float * out = features->GetBufferPointer();
  for (itk::IndexValueType z = 0; z < static_cast<itk::IndexValueType>(size[2]); ++z)
  {
    for (itk::IndexValueType y = 0; y < static_cast<itk::IndexValueType>(size[1]); ++y)
    {
      for (itk::IndexValueType x = 0; x < static_cast<itk::IndexValueType>(size[0]); ++x)
      {
        for (unsigned int c = 0; c < channels; ++c)
        {
          *out++ = static_cast<float>(function(itk::Index<3>{ { x, y, z } }, c));
        }
      }
    }
  }
  return features;
}

/** Smooth, and different for each channel and phase. */
inline FeatureType::Pointer
WavyFeatures(const itk::Size<3> & size, unsigned int channels, double phase, bool plain = false)
{
  return NewFeatures(
    size,
    channels,
    [phase](const itk::Index<3> & v, unsigned int c) {
      return std::sin(0.31 * v[0] + 0.7 * c + phase) + std::cos(0.27 * v[1] - 0.4 * c) * std::sin(0.23 * v[2] + phase);
    },
    plain);
}

inline ImageType::Pointer
BlankImage(const itk::Size<3> & size, bool plain = false)
{
  auto image = NewImage<ImageType>(size, plain);
  image->Allocate();
  image->FillBuffer(0.0f);
  return image;
}

/** A metric of given features; scalar images of the same grids stand beside them. */
inline MetricType::Pointer
NewMetric(const FeatureType * fixed, const FeatureType * moving)
{
  const auto scalarOf = [](const FeatureType * features) {
    auto image = ImageType::New();
    image->CopyInformation(features);
    image->SetRegions(features->GetBufferedRegion());
    image->Allocate();
    image->FillBuffer(0.0f);
    return image;
  };
  auto metric = MetricType::New();
  metric->SetFixedImage(scalarOf(fixed));
  metric->SetMovingImage(scalarOf(moving));
  metric->SetFixedFeatures(fixed);
  metric->SetMovingFeatures(moving);
  return metric;
}

struct Result
{
  double             value;
  DerivativeType     derivative;
  itk::SizeValueType points;
  bool               fused;
};

inline Result
Evaluate(MetricType * metric, bool fused)
{
  metric->SetUseFusedKernel(fused);
  metric->Initialize();
  Result result;
  metric->GetValueAndDerivative(result.value, result.derivative);
  result.points = metric->GetNumberOfValidPoints();
  result.fused = metric->GetFusedKernelUsed();
  return result;
}

inline double
Largest(const DerivativeType & derivative)
{
  double largest = 0.0;
  for (const double entry : derivative)
  {
    largest = std::max(largest, std::abs(entry));
  }
  return largest;
}

inline double
LargestDifference(const DerivativeType & a, const DerivativeType & b)
{
  REQUIRE(a.size() == b.size(), a.size() << " against " << b.size());
  double largest = 0.0;
  for (unsigned int i = 0; i < a.size(); ++i)
  {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

} // namespace dsir_test

#endif
