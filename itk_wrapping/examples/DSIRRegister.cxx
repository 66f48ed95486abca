// Registers two 3-D images of any modalities: an affine transform, then a B-spline, then a displacement field, each on
// three levels, by the MIND descriptors of the images. The result maps points of the fixed image to points of the moving
// one.
//
//   DSIRRegister FIXED MOVING OUTPUT.h5
//
// A program with one of ITK's own metrics becomes this one when the lines of NewMetric() take the place of the metric.
#include "itkAffineTransform.h"
#include "itkBSplineTransform.h"
#include "itkBSplineTransformInitializer.h"
#include "itkCompositeTransform.h"
#include "itkDSIRMeanSquaresImageToImageMetricv4.h"
#include "itkDisplacementFieldTransformParametersAdaptor.h"
#include "itkGaussianSmoothingOnUpdateDisplacementFieldTransform.h"
#include "itkGradientDescentOptimizerv4.h"
#include "itkImageFileReader.h"
#include "itkImageRegistrationMethodv4.h"
#include "itkMINDSSCImageFilter.h"
#include "itkRegistrationParameterScalesFromPhysicalShift.h"
#include "itkRegularStepGradientDescentOptimizerv4.h"
#include "itkShrinkImageFilter.h"
#include "itkTransformFileWriter.h"
#include "itkTransformToDisplacementFieldFilter.h"

#include <algorithm>
#include <cmath>
#include <iostream>

namespace
{
using ImageType = itk::Image<float, 3>;
using MetricType = itk::DSIRMeanSquaresImageToImageMetricv4<ImageType, ImageType>;
using RegistrationType = itk::ImageRegistrationMethodv4<ImageType, ImageType>;
using TransformType = itk::Transform<double, 3, 3>;
using CompositeType = itk::CompositeTransform<double, 3>;
using FieldTransformType = itk::GaussianSmoothingOnUpdateDisplacementFieldTransform<double, 3>;
using FieldType = FieldTransformType::DisplacementFieldType;

constexpr unsigned int shrinkFactors[3] = { 4, 2, 1 };

MetricType::Pointer
NewMetric()
{
  auto metric = MetricType::New();
  metric->SetFeatureFilter(itk::MINDSSCImageFilter<ImageType>::New());
  return metric;
}

double
SpacingOf(const ImageType * image)
{
  const auto & spacing = image->GetSpacing();
  return std::max({ spacing[0], spacing[1], spacing[2] });
}

ImageType::Pointer
GridOf(const ImageType * fixed, unsigned int shrink)
{
  auto filter = itk::ShrinkImageFilter<ImageType, ImageType>::New();
  filter->SetShrinkFactors(shrink);
  filter->SetInput(fixed);
  filter->Update();
  return filter->GetOutput();
}

/** Optimises `transform`, which is applied before `found`. */
void
Run(const ImageType *     fixed,
    const ImageType *     moving,
    const CompositeType * found,
    TransformType *       transform,
    double                largestStep,
    RegistrationType::TransformParametersAdaptorsContainerType adaptors = {})
{
  const auto metric = NewMetric();
  auto       scales = itk::RegistrationParameterScalesFromPhysicalShift<MetricType>::New();
  scales->SetMetric(metric);
  // Steps shrink when they overshoot; those of a field stay as long as they may be, the smoothing keeps it in check.
  const bool                               isField = !adaptors.empty();
  itk::GradientDescentOptimizerv4::Pointer optimizer;
  if (isField)
  {
    optimizer = itk::GradientDescentOptimizerv4::New();
  }
  else
  {
    optimizer = itk::RegularStepGradientDescentOptimizerv4<double>::New().GetPointer();
  }
  optimizer->SetScalesEstimator(scales);
  optimizer->SetDoEstimateLearningRateOnce(!isField);
  optimizer->SetDoEstimateLearningRateAtEachIteration(isField);
  optimizer->SetMaximumStepSizeInPhysicalUnits(largestStep);
  optimizer->SetNumberOfIterations(40);

  auto registration = RegistrationType::New();
  registration->SetFixedImage(fixed);
  registration->SetMovingImage(moving);
  registration->SetMetric(metric);
  registration->SetOptimizer(optimizer);
  registration->SetInitialTransform(transform);
  registration->InPlaceOn();
  if (found->GetNumberOfTransforms() > 0)
  {
    registration->SetMovingInitialTransform(found);
  }
  RegistrationType::ShrinkFactorsArrayType   factors(3);
  RegistrationType::SmoothingSigmasArrayType sigmas(3);
  for (unsigned int level = 0; level < 3; ++level)
  {
    factors[level] = shrinkFactors[level];
    sigmas[level] = shrinkFactors[level] / 2; // 2, 1 and 0 voxels
  }
  registration->SetNumberOfLevels(3);
  registration->SetShrinkFactorsPerLevel(factors);
  registration->SetSmoothingSigmasPerLevel(sigmas);
  registration->SetSmoothingSigmasAreSpecifiedInPhysicalUnits(false);
  if (isField)
  {
    registration->SetTransformParametersAdaptorsPerLevel(adaptors);
  }
  registration->Update();
}

/** A field that begins with what was found and takes it over, refined from level to level. */
itk::DisplacementFieldTransform<double, 3>::Pointer
RunField(const ImageType * fixed, const ImageType * moving, const CompositeType * found)
{
  RegistrationType::TransformParametersAdaptorsContainerType adaptors;
  for (const unsigned int shrink : shrinkFactors)
  {
    const auto grid = GridOf(fixed, shrink);
    auto       adaptor = itk::DisplacementFieldTransformParametersAdaptor<FieldTransformType>::New();
    adaptor->SetRequiredSpacing(grid->GetSpacing());
    adaptor->SetRequiredSize(grid->GetBufferedRegion().GetSize());
    adaptor->SetRequiredDirection(grid->GetDirection());
    adaptor->SetRequiredOrigin(grid->GetOrigin());
    adaptors.push_back(adaptor.GetPointer());
  }
  auto sample = itk::TransformToDisplacementFieldFilter<FieldType, double>::New();
  sample->SetTransform(found);
  sample->SetReferenceImage(GridOf(fixed, shrinkFactors[0]));
  sample->UseReferenceImageOn();
  sample->Update();
  auto transform = FieldTransformType::New();
  transform->SetDisplacementField(sample->GetOutput());
  transform->SetGaussianSmoothingVarianceForTheUpdateField(3.0);
  transform->SetGaussianSmoothingVarianceForTheTotalField(1.0);
  Run(fixed, moving, CompositeType::New(), transform, 0.5 * SpacingOf(fixed), adaptors);
  auto plain = itk::DisplacementFieldTransform<double, 3>::New(); // the kind that every reader knows
  plain->SetDisplacementField(transform->GetModifiableDisplacementField());
  return plain;
}

} // namespace

int
main(int argc, char * argv[])
{
  if (argc != 4)
  {
    std::cerr << "expected FIXED MOVING OUTPUT.h5" << std::endl;
    return EXIT_FAILURE;
  }
  try
  {
    const auto fixed = itk::ReadImage<ImageType>(argv[1]), moving = itk::ReadImage<ImageType>(argv[2]);
    const auto size = fixed->GetBufferedRegion().GetSize();
    auto       found = CompositeType::New();

    auto                              affine = itk::AffineTransform<double, 3>::New();
    itk::ContinuousIndex<double, 3>   middle;
    ImageType::PointType              centre;
    for (unsigned int k = 0; k < 3; ++k)
    {
      middle[k] = (static_cast<double>(size[k]) - 1.0) / 2.0;
    }
    fixed->TransformContinuousIndexToPhysicalPoint(middle, centre);
    affine->SetCenter(centre);
    Run(fixed, moving, found, affine, SpacingOf(fixed));
    found->AddTransform(affine);

    using SplineType = itk::BSplineTransform<double, 3, 3>;
    auto spline = SplineType::New();
    auto initializer = itk::BSplineTransformInitializer<SplineType, ImageType>::New();
    SplineType::MeshSizeType mesh;
    for (unsigned int k = 0; k < 3; ++k) // control points every 20 mm
    {
      mesh[k] = static_cast<itk::SizeValueType>(
        std::max(1.0, std::round(static_cast<double>(size[k]) * fixed->GetSpacing()[k] / 20.0)));
    }
    initializer->SetTransform(spline);
    initializer->SetImage(fixed);
    initializer->SetTransformDomainMeshSize(mesh);
    initializer->InitializeTransform();
    Run(fixed, moving, found, spline, SpacingOf(fixed));
    found->AddTransform(spline);

    auto writer = itk::TransformFileWriterTemplate<double>::New();
    writer->SetInput(RunField(fixed, moving, found));
    writer->SetFileName(argv[3]);
    writer->Update();
  }
  catch (const std::exception & error)
  {
    std::cerr << error.what() << std::endl;
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
