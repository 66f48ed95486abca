// Promise: the metric's value and derivative are what they are said to be, on both paths, for every kind of transform,
// mask, weight and point set; the filters give descriptors.
#include "itkDSIRTestHelpers.h"

#include "itkAffineTransform.h"
#include "itkBSplineTransform.h"
#include "itkBSplineTransformInitializer.h"
#include "itkCompositeTransform.h"
#include "itkDNSImageFilter.h"
#include "itkDisplacementFieldTransform.h"
#include "itkEuler3DTransform.h"
#include "itkFeatureWarpImageFilter.h"
#include "itkImageMaskSpatialObject.h"
#include "itkMINDSSCImageFilter.h"
#include "itkImageRegionIteratorWithIndex.h"
#include "itkTranslationTransform.h"

#include <algorithm>
#include <vector>

using namespace dsir_test;

namespace
{
using TransformType = itk::Transform<double, 3, 3>;
using FieldTransformType = itk::DisplacementFieldTransform<double, 3>;
using SplineType = itk::BSplineTransform<double, 3, 3>;
using CompositeType = itk::CompositeTransform<double, 3>;
using MaskType = itk::ImageMaskSpatialObject<3>;

const itk::Size<3> fixedSize{ { 15, 14, 13 } }, movingSize{ { 16, 14, 12 } };

void
SetParameters(TransformType * transform, const std::vector<double> & values)
{
  ParametersType parameters(values.size());
  std::copy(values.begin(), values.end(), parameters.begin());
  transform->SetParametersByValue(parameters);
}

std::vector<double>
RandomNumbers(std::size_t count, double size, unsigned int seed)
{
  std::mt19937                     generator(seed);
  std::vector<double>              values(count);
  std::uniform_real_distribution<> uniform(-size, size);
  std::generate(values.begin(), values.end(), [&] { return uniform(generator); });
  return values;
}

itk::AffineTransform<double, 3>::Pointer
NewAffine()
{
  auto transform = itk::AffineTransform<double, 3>::New();
  SetParameters(transform, { 1.02, 0.03, -0.01, -0.02, 0.99, 0.02, 0.01, -0.03, 1.01, 0.31, 0.17, -0.23 });
  return transform;
}

SplineType::Pointer
NewSpline(const ImageType * image)
{
  auto transform = SplineType::New();
  auto initializer = itk::BSplineTransformInitializer<SplineType, ImageType>::New();
  initializer->SetTransform(transform);
  initializer->SetImage(image);
  initializer->SetTransformDomainMeshSize(SplineType::MeshSizeType{ { 3, 4, 2 } });
  initializer->InitializeTransform();
  SetParameters(transform, RandomNumbers(transform->GetNumberOfParameters(), 1.0, 1));
  return transform;
}

FieldTransformType::Pointer
NewField(const itk::Size<3> & size)
{
  auto field = NewImage<FieldTransformType::DisplacementFieldType>(size);
  field->Allocate();
  const auto numbers = RandomNumbers(3 * size[0] * size[1] * size[2], 0.8, 2);
  auto *     out = field->GetBufferPointer();
  for (std::size_t i = 0; i < numbers.size(); ++i)
  {
    out[i / 3][i % 3] = numbers[i];
  }
  auto transform = FieldTransformType::New();
  transform->SetDisplacementField(field);
  return transform;
}

struct NamedTransform
{
  const char *           name;
  TransformType::Pointer transform;
};

std::vector<NamedTransform>
AllTransforms()
{
  const auto grid = BlankImage(fixedSize);
  auto       translation = itk::TranslationTransform<double, 3>::New();
  SetParameters(translation, { 0.33, -0.41, 0.27 });
  auto euler = itk::Euler3DTransform<double>::New();
  SetParameters(euler, { 0.03, -0.02, 0.05, 0.3, 0.2, -0.4 });
  const auto composite = [](TransformType * first, TransformType * last) {
    auto transform = CompositeType::New();
    transform->AddTransform(first);
    transform->AddTransform(last);
    transform->SetOnlyMostRecentTransformToOptimizeOn();
    return TransformType::Pointer(transform);
  };
  return { { "translation", translation.GetPointer() },
           { "Euler", euler.GetPointer() },
           { "affine", NewAffine().GetPointer() },
           { "B-spline", NewSpline(grid).GetPointer() },
           { "field", NewField(fixedSize).GetPointer() },
           { "affine after affine", composite(NewAffine(), NewAffine()) },
           { "affine after B-spline", composite(NewAffine(), NewSpline(grid)) },
           { "affine after field", composite(NewAffine(), NewField(fixedSize)) } };
}

MetricType::Pointer
WavyMetric()
{
  return NewMetric(WavyFeatures(fixedSize, 5, 0.0), WavyFeatures(movingSize, 5, 0.6));
}

MaskType::Pointer
MaskOf(const itk::Size<3> & size, bool (*inside)(const itk::Index<3> &))
{
  auto image = NewImage<itk::Image<unsigned char, 3>>(size);
  image->Allocate();
  itk::ImageRegionIteratorWithIndex<itk::Image<unsigned char, 3>> it(image, image->GetBufferedRegion());
  for (; !it.IsAtEnd(); ++it)
  {
    it.Set(inside(it.GetIndex()) ? 1 : 0);
  }
  auto mask = MaskType::New();
  mask->SetImage(image);
  mask->Update();
  return mask;
}

void
RequireSame(const Result & fused, const Result & pointwise, const std::string & name)
{
  REQUIRE(fused.fused && !pointwise.fused, name);
  REQUIRE(fused.points == pointwise.points, name << ": " << fused.points << " points against " << pointwise.points);
  REQUIRE(std::abs(fused.value - pointwise.value) < 1e-6 * pointwise.value,
          name << ": " << fused.value << " against " << pointwise.value);
  const double difference = LargestDifference(fused.derivative, pointwise.derivative);
  REQUIRE(difference < 1e-5 * Largest(pointwise.derivative), name << ": derivatives part by " << difference);
}

/** Features are linear in the voxel, so that a shift by t voxels makes differences a.t: everything is known. */
void
Value()
{
  const double slope[2][3] = { { 0.5, -0.25, 0.125 }, { 0.0, 0.75, -0.5 } };
  const auto   linear = [&slope](const itk::Index<3> & v, unsigned int c) {
    return slope[c][0] * v[0] + slope[c][1] * v[1] + slope[c][2] * v[2];
  };
  const auto   fixed = NewFeatures(fixedSize, 2, linear, true);
  const auto   metric = NewMetric(fixed, fixed);
  const double shift[3] = { 0.25, -0.5, 1.5 };
  auto         transform = itk::TranslationTransform<double, 3>::New();
  SetParameters(transform, { shift[0], shift[1], shift[2] });
  metric->SetMovingTransform(transform);
  double value = 0.0, derivative[3] = {};
  for (unsigned int c = 0; c < 2; ++c)
  {
    const double difference = slope[c][0] * shift[0] + slope[c][1] * shift[1] + slope[c][2] * shift[2];
    value += difference * difference / 2.0;
    for (unsigned int k = 0; k < 3; ++k)
    {
      derivative[k] -= 2.0 * difference * slope[c][k] / 2.0;
    }
  }
  const auto points = (fixedSize[0] - 1) * (fixedSize[1] - 1) * (fixedSize[2] - 2);
  for (const bool fused : { true, false })
  {
    const Result result = Evaluate(metric, fused);
    REQUIRE(result.points == points, result.points << " points, expected " << points);
    REQUIRE(std::abs(result.value - value) < 1e-6 * value, result.value << ", expected " << value);
    for (unsigned int k = 0; k < 3; ++k)
    {
      REQUIRE(std::abs(result.derivative[k] - derivative[k]) < 1e-5,
              result.derivative[k] << ", expected " << derivative[k]);
    }
  }
}

void
Equality()
{
  const auto features = WavyFeatures(fixedSize, 5, 0.0);
  const auto metric = NewMetric(features, features);
  metric->SetMovingTransform(itk::AffineTransform<double, 3>::New());
  for (const bool fused : { true, false })
  {
    const Result result = Evaluate(metric, fused);
    REQUIRE(result.value < 1e-12 && Largest(result.derivative) < 1e-6, result.value);
    REQUIRE(result.points == fixedSize[0] * fixedSize[1] * fixedSize[2], result.points);
  }
}

/** The point-by-point path computes in float64, so that differences tell; `paths` compares the fused one with it. */
void
Derivatives()
{
  for (const NamedTransform & named : AllTransforms())
  {
    // Trilinear interpolation has kinks where a point passes between voxels: features that are linear have none.
    const auto linear = [](const itk::Index<3> & v, unsigned int c) {
      return 0.3 * v[0] * (c + 1.0) - 0.2 * v[1] * (c - 1.0) + 0.1 * v[2] + (c == 0 ? 0.7 : -0.4);
    };
    const auto metric = NewMetric(WavyFeatures(fixedSize, 3, 0.0), NewFeatures(movingSize, 3, linear));
    metric->SetMovingTransform(named.transform);
    // Points at the border would come and go.
    metric->SetFixedImageMask(MaskOf(fixedSize, [](const itk::Index<3> & v) {
      return v[0] > 3 && v[0] < 11 && v[1] > 3 && v[1] < 10 && v[2] > 3 && v[2] < 8;
    }));
    const Result         result = Evaluate(metric, false);
    const ParametersType start = named.transform->GetParameters();
    const bool           local = metric->HasLocalSupport();
    const double         step = 1e-3, scale = Largest(result.derivative);
    const auto           count = static_cast<unsigned int>(start.size());
    for (unsigned int p = 0; p < count; p += std::max(1u, count / 40))
    {
      double values[2];
      for (const int side : { 0, 1 })
      {
        ParametersType changed = start;
        changed[p] += side == 0 ? -step : step;
        named.transform->SetParametersByValue(changed);
        values[side] = metric->GetValue();
        REQUIRE(metric->GetNumberOfValidPoints() == result.points, named.name);
      }
      named.transform->SetParametersByValue(start);
      // ITK's derivative of a field is that of the voxel's own term
      const double mean = -(values[1] - values[0]) / (2.0 * step);
      const double expected = local ? mean * static_cast<double>(result.points) : mean;
      REQUIRE(std::abs(result.derivative[p] - expected) < 1e-3 * scale,
              named.name << " parameter " << p << ": " << result.derivative[p] << ", expected " << expected);
    }
  }
}

void
Paths()
{
  for (const NamedTransform & named : AllTransforms())
  {
    const auto metric = WavyMetric();
    metric->SetMovingTransform(named.transform);
    RequireSame(Evaluate(metric, true), Evaluate(metric, false), named.name);
  }
}

void
Threads()
{
  for (const NamedTransform & named : AllTransforms())
  {
    for (const bool fused : { true, false })
    {
      Result results[2];
      for (const int many : { 0, 1 })
      {
        const auto metric = WavyMetric();
        metric->SetMovingTransform(named.transform);
        metric->SetMaximumNumberOfWorkUnits(many ? 5 : 1);
        results[many] = Evaluate(metric, fused);
      }
      const double difference = LargestDifference(results[0].derivative, results[1].derivative);
      if (fused)
      {
        REQUIRE(results[0].value == results[1].value && difference == 0.0, named.name);
      }
      else
      {
        REQUIRE(std::abs(results[0].value - results[1].value) < 1e-12 * results[0].value, named.name);
        REQUIRE(difference <= 1e-12 * Largest(results[0].derivative), named.name);
      }
    }
  }
}

void
Masks()
{
  const auto fixedMask = MaskOf(fixedSize, [](const itk::Index<3> & v) { return v[0] > 2 && v[1] < 11; });
  const auto movingMask = MaskOf(movingSize, [](const itk::Index<3> & v) { return (v[0] + v[1] + v[2]) % 5 > 0; });
  {
    const auto features = WavyFeatures(fixedSize, 2, 0.0);
    const auto metric = NewMetric(features, features);
    metric->SetFixedImageMask(fixedMask);
    const Result result = Evaluate(metric, true);
    REQUIRE(result.points == (fixedSize[0] - 3) * 11 * fixedSize[2], result.points);
  }
  for (const NamedTransform & named : AllTransforms())
  {
    const auto metric = WavyMetric();
    metric->SetMovingTransform(named.transform);
    const auto all = Evaluate(metric, true).points;
    metric->SetFixedImageMask(fixedMask);
    metric->SetMovingImageMask(movingMask);
    const Result fused = Evaluate(metric, true);
    REQUIRE(fused.points > 100 && fused.points < all, named.name << ": " << fused.points << " of " << all);
    RequireSame(fused, Evaluate(metric, false), named.name);
  }
  // one on another grid is left to the other path
  const auto metric = WavyMetric();
  metric->SetMovingTransform(NewAffine());
  metric->SetMovingImageMask(MaskOf(fixedSize, [](const itk::Index<3> &) { return true; }));
  REQUIRE(!Evaluate(metric, true).fused, "a mask on another grid");
}

void
Weights()
{
  auto weights = BlankImage(fixedSize);
  auto ones = BlankImage(fixedSize);
  ones->FillBuffer(3.0f);
  itk::ImageRegionIteratorWithIndex<ImageType> it(weights, weights->GetBufferedRegion());
  for (; !it.IsAtEnd(); ++it)
  {
    const auto & v = it.GetIndex();
    it.Set(v[0] < 4 ? 0.0f : 0.25f + 0.1f * static_cast<float>((v[1] * v[2]) % 7));
  }
  for (const NamedTransform & named : AllTransforms())
  {
    const auto metric = WavyMetric();
    metric->SetMovingTransform(named.transform);
    const Result plain = Evaluate(metric, true);
    metric->SetWeights(ones);
    const Result threefold = Evaluate(metric, true);
    REQUIRE(std::abs(plain.value - threefold.value) < 1e-6 * plain.value && plain.points == threefold.points, named.name);
    metric->SetWeights(weights);
    const Result fused = Evaluate(metric, true);
    REQUIRE(fused.points < plain.points, named.name);
    RequireSame(fused, Evaluate(metric, false), named.name);
  }
}

void
Points()
{
  const auto metric = WavyMetric();
  metric->SetMovingTransform(NewAffine());
  const Result dense = Evaluate(metric, false);

  const auto image = BlankImage(fixedSize);
  auto       all = MetricType::FixedSampledPointSetType::New();
  auto       regular = MetricType::FixedSampledPointSetType::New();
  itk::ImageRegionIteratorWithIndex<ImageType> it(image, image->GetBufferedRegion());
  for (itk::SizeValueType n = 0, kept = 0; !it.IsAtEnd(); ++it, ++n)
  {
    ImageType::PointType point;
    image->TransformIndexToPhysicalPoint(it.GetIndex(), point);
    all->SetPoint(n, point);
    if (n % 4 == 0)
    {
      regular->SetPoint(kept++, point);
    }
  }
  metric->SetUseSampledPointSet(true);
  metric->SetFixedSampledPointSet(all);
  const Result points = Evaluate(metric, true);
  // point sets hold their points in float32, so that few points beside the border of the moving image count or don't
  const auto more = static_cast<double>(points.points) - static_cast<double>(dense.points);
  REQUIRE(!points.fused && std::abs(more) <= 5.0, points.points << " points, expected " << dense.points);
  REQUIRE(std::abs(points.value - dense.value) < 1e-3 * dense.value, points.value << ", expected " << dense.value);
  REQUIRE(LargestDifference(points.derivative, dense.derivative) < 1e-2 * Largest(dense.derivative), "points");
  metric->SetFixedSampledPointSet(regular);
  const Result some = Evaluate(metric, true);
  REQUIRE(some.points > dense.points / 5 && some.points < dense.points / 3, some.points);
  REQUIRE(std::abs(some.value - dense.value) < 0.1 * dense.value, some.value << " against " << dense.value);
}

void
VirtualDomain()
{
  // coarser than the fixed image, turned against it, and seen through a fixed transform
  auto virtualImage = ImageType::New();
  virtualImage->SetRegions(itk::ImageRegion<3>({ { 2, -1, 3 } }, { { 7, 8, 6 } }));
  const double spacing[3] = { 2.1, 1.9, 2.3 }, origin[3] = { 9.0, -3.0, 0.5 };
  virtualImage->SetSpacing(spacing);
  virtualImage->SetOrigin(origin);
  auto turn = itk::Euler3DTransform<double>::New();
  SetParameters(turn, { 0.04, 0.03, -0.02, 0.4, 0.1, -0.3 });
  const auto spline = NewSpline(BlankImage(fixedSize));
  for (const TransformType * fixedTransform :
       { static_cast<const TransformType *>(turn.GetPointer()), static_cast<const TransformType *>(spline.GetPointer()) })
  {
    const auto metric = WavyMetric();
    metric->SetVirtualDomainFromImage(virtualImage);
    metric->SetFixedTransform(const_cast<TransformType *>(fixedTransform));
    metric->SetMovingTransform(NewAffine());
    const Result fused = Evaluate(metric, true), pointwise = Evaluate(metric, false);
    REQUIRE(fused.points > 50, fused.points);
    RequireSame(fused, pointwise, "virtual domain");
  }
}

void
Outside()
{
  const auto metric = WavyMetric();
  auto       transform = itk::TranslationTransform<double, 3>::New();
  metric->SetMovingTransform(transform);
  SetParameters(transform, { 6.0, 0.0, 0.0 });
  const Result fused = Evaluate(metric, true);
  REQUIRE(fused.points < fixedSize[0] * fixedSize[1] * fixedSize[2] * 3 / 4, fused.points);
  RequireSame(fused, Evaluate(metric, false), "partly outside");
  SetParameters(transform, { 600.0, 0.0, 0.0 });
  for (const bool useFused : { true, false })
  {
    std::string message;
    try
    {
      Evaluate(metric, useFused);
    }
    catch (const itk::ExceptionObject & error)
    {
      message = error.GetDescription();
    }
    REQUIRE(message.find("no valid points: none of the 2730") != std::string::npos, message);
  }
}

void
Errors()
{
  const auto rejects = [](MetricType * metric, const char * expected) {
    std::string message;
    try
    {
      metric->Initialize();
    }
    catch (const itk::ExceptionObject & error)
    {
      message = error.GetDescription();
    }
    REQUIRE(message.find(expected) != std::string::npos, "\"" << message << "\" lacks \"" << expected << "\"");
  };
  const auto fixed = WavyFeatures(fixedSize, 5, 0.0), moving = WavyFeatures(movingSize, 5, 0.6);
  rejects(NewMetric(fixed, WavyFeatures(movingSize, 4, 0.0)), "as many channels, at least 1, got 5 and 4");

  auto metric = NewMetric(fixed, moving);
  metric->SetMovingFeatures(WavyFeatures(movingSize, 5, 0.6, true));
  rejects(metric, "the moving features must fill the same volume as the moving image, 16 x 14 x 12 voxels");

  auto broken = WavyFeatures(fixedSize, 5, 0.0);
  broken->GetBufferPointer()[7] = std::numeric_limits<float>::quiet_NaN();
  broken->GetBufferPointer()[9] = std::numeric_limits<float>::infinity();
  rejects(NewMetric(broken, moving), "the fixed features must be finite, got 2 of 13650 values that are not");

  metric = MetricType::New();
  metric->SetFixedImage(BlankImage(fixedSize));
  metric->SetMovingImage(BlankImage(movingSize));
  rejects(metric, "there are no features");
  metric->SetFixedFeatures(fixed);
  rejects(metric, "the moving features were not given");

  metric = NewMetric(fixed, moving);
  auto weights = BlankImage(fixedSize);
  weights->FillBuffer(-1.0f);
  metric->SetWeights(weights);
  rejects(metric, "weights must be finite and not negative, got -1");

  metric = NewMetric(fixed, moving);
  metric->SetGradientSource(itk::ObjectToObjectMetricBaseTemplateEnums::GradientSource::GRADIENT_SOURCE_BOTH);
  rejects(metric, "the gradient source must be the moving image");

  // images that are resampled in the middle, as SyN does: one field for both
  metric = NewMetric(fixed, WavyFeatures(fixedSize, 5, 0.6));
  const auto field = NewField(fixedSize);
  metric->SetFixedTransform(field);
  metric->SetMovingTransform(field);
  rejects(metric, "SetDownsampleImagesForMetricDerivatives(false)");
}

ImageType::Pointer
WavyImage(double phase)
{
  const auto features = WavyFeatures(fixedSize, 1, phase);
  auto       image = BlankImage(fixedSize);
  std::copy_n(features->GetBufferPointer(), fixedSize[0] * fixedSize[1] * fixedSize[2], image->GetBufferPointer());
  return image;
}

/** Once for each image in each state, whatever its role. */
void
Extraction()
{
  const auto fixed = WavyImage(0.0), moving = WavyImage(0.4);
  auto       metric = MetricType::New();
  auto       filter = itk::MINDSSCImageFilter<ImageType>::New();
  metric->SetFeatureFilter(filter);
  metric->SetFixedImage(fixed);
  metric->SetMovingImage(moving);
  const auto requireCount = [&metric](itk::SizeValueType expected) {
    metric->Initialize();
    REQUIRE(metric->GetNumberOfFeatureExtractions() == expected,
            metric->GetNumberOfFeatureExtractions() << ", expected " << expected);
    return metric->GetValue();
  };
  const double value = requireCount(2);
  requireCount(2);
  metric->SetFixedImage(moving);
  metric->SetMovingImage(fixed);
  const double exchanged = requireCount(2);
  REQUIRE(std::abs(exchanged - value) < 1e-6 * value, exchanged << " against " << value);
  moving->GetBufferPointer()[300] = 9.0f;
  moving->Modified();
  REQUIRE(requireCount(3) != exchanged, "a changed image");
  filter->SetRadius(2);
  requireCount(5);
  metric->SetMovingImage(moving);
  REQUIRE(requireCount(5) < 1e-12, "the same image on both sides");
}

void
Levels()
{
  const auto a = WavyFeatures(fixedSize, 2, 0.0), b = WavyFeatures(fixedSize, 2, 0.3);
  auto       metric = MetricType::New();
  metric->SetFixedImage(BlankImage(fixedSize));
  metric->SetMovingImage(BlankImage(fixedSize));
  metric->AddLevelFeatures(a, b);
  metric->AddLevelFeatures(a, a);
  REQUIRE(Evaluate(metric, true).value > 0.01, "level 0");
  metric->SetCurrentLevel(1);
  REQUIRE(Evaluate(metric, true).value < 1e-12, "level 1");
  metric->SetCurrentLevel(2);
  bool thrown = false;
  try
  {
    metric->Initialize();
  }
  catch (const itk::ExceptionObject & error)
  {
    thrown = std::string(error.GetDescription()).find("features for 2 levels") != std::string::npos;
  }
  REQUIRE(thrown, "level 2");
}

/** Structural descriptors of an image and of its negative are the same, those of other images are not. */
void
Filters()
{
  const auto image = WavyImage(0.0), negative = WavyImage(0.0), other = WavyImage(1.0);
  for (std::size_t i = 0; i < fixedSize[0] * fixedSize[1] * fixedSize[2]; ++i)
  {
    negative->GetBufferPointer()[i] *= -1.0f;
  }
  const auto check = [&](auto filter, unsigned int channels) {
    FeatureType::Pointer results[3];
    const ImageType *    inputs[3] = { image, negative, other };
    for (unsigned int i = 0; i < 3; ++i)
    {
      filter->SetInput(inputs[i]);
      filter->Update();
      results[i] = filter->GetOutput();
      results[i]->DisconnectPipeline();
      REQUIRE(results[i]->GetNumberOfComponentsPerPixel() == channels, results[i]->GetNumberOfComponentsPerPixel());
      REQUIRE(results[i]->GetSpacing() == image->GetSpacing(), "geometry");
    }
    double same = 0.0, different = 0.0;
    const auto count = fixedSize[0] * fixedSize[1] * fixedSize[2] * channels;
    for (std::size_t i = 0; i < count; ++i)
    {
      const auto at = [&](unsigned int n) { return results[n]->GetBufferPointer()[i]; };
      REQUIRE(at(0) >= 0.0f && at(0) <= 1.0f, at(0));
      same += std::abs(at(0) - at(1)) / count;
      different += std::abs(at(0) - at(2)) / count;
    }
    REQUIRE(different > 0.02 && same < 0.1 * different, same << " and " << different);
  };
  check(itk::MINDSSCImageFilter<ImageType>::New(), 12);
  auto dns = itk::DNSImageFilter<ImageType>::New();
  dns->SetDilations({ 1, 2 });
  check(dns, 24);
}

/** Through a shift by whole voxels the features are the neighbours'. */
void
Warp()
{
  const auto features = WavyFeatures(fixedSize, 3, 0.2, true);
  auto       transform = itk::TranslationTransform<double, 3>::New();
  SetParameters(transform, { 2.0, -1.0, 3.0 });
  auto filter = itk::FeatureWarpImageFilter::New();
  filter->SetInput(features);
  filter->SetTransform(transform);
  filter->SetReferenceImage(BlankImage({ { 6, 7, 8 } }, true));
  filter->Update();
  const FeatureType * output = filter->GetOutput();
  for (const itk::Index<3> & index : { itk::Index<3>{ { 0, 1, 0 } }, itk::Index<3>{ { 5, 6, 7 } } })
  {
    const itk::Index<3> from{ { index[0] + 2, index[1] - 1, index[2] + 3 } };
    for (unsigned int c = 0; c < 3; ++c)
    {
      REQUIRE(std::abs(output->GetPixel(index)[c] - features->GetPixel(from)[c]) < 1e-6, index << " channel " << c);
    }
  }
}

} // namespace

int
main(int argc, char * argv[])
{
  return RunNamed(argc,
                  argv,
                  { { "value", Value },
                    { "equality", Equality },
                    { "derivatives", Derivatives },
                    { "paths", Paths },
                    { "threads", Threads },
                    { "masks", Masks },
                    { "weights", Weights },
                    { "points", Points },
                    { "virtualDomain", VirtualDomain },
                    { "outside", Outside },
                    { "errors", Errors },
                    { "extraction", Extraction },
                    { "levels", Levels },
                    { "filters", Filters },
                    { "warp", Warp } });
}
