#!/usr/bin/env python3
"""Registers two 3-D images of any modalities with ITK's registration framework and the metric of pymasr.

    python examples/itk_registration.py FIXED MOVING OUTPUT.h5 [--features mind] [--stages affine bspline field]

What differs from a script with one of ITK's own metrics is the line that calls ``dsir_metric``. Each stage begins where
the last one ended; the displacement field takes over all that was found before. OUTPUT is an ITK transform from points
of the fixed image to points of the moving image.
"""

import argparse

import itk

from pymasr.itk import dsir_metric

STAGES = ("affine", "bspline", "field")
# shrink factor of the virtual domain, sigma of the images' smoothing in voxels, iterations: level by level
LEVELS = {"affine": [(4, 2, 60), (2, 1, 40), (1, 0, 10)],
          "bspline": [(4, 2, 40), (2, 1, 30), (1, 0, 10)],
          "field": [(2, 1, 60), (1, 0, 15)]}


def register(fixed, moving, features="mind", stages=STAGES, levels=LEVELS):
    """The transform from `fixed` to `moving`, both ``itk.Image[itk.F, 3]``."""
    found = itk.CompositeTransform[itk.D, 3].New()
    for stage in stages:
        if stage == "field":
            field = field_transform(fixed, moving, features, found, levels[stage])
            found = itk.CompositeTransform[itk.D, 3].New()
            found.AddTransform(field)
            continue
        transform = affine(fixed) if stage == "affine" else bspline(fixed)
        run(fixed, moving, features, found, transform, levels[stage], largest_step=spacing_of(fixed))
        found.AddTransform(transform)
    return found


def spacing_of(image):
    return max(image.GetSpacing())


def affine(fixed):
    """The identity, that turns about the middle of the image."""
    transform = itk.AffineTransform[itk.D, 3].New()
    size = fixed.GetLargestPossibleRegion().GetSize()
    transform.SetCenter(fixed.TransformIndexToPhysicalPoint([int(n) // 2 for n in size]))
    return transform


def bspline(fixed, millimetres=20.0):
    """Control points every so many millimetres."""
    transform = itk.BSplineTransform[itk.D, 3, 3].New()
    initializer = itk.BSplineTransformInitializer[type(transform), type(fixed)].New(Transform=transform, Image=fixed)
    size = fixed.GetLargestPossibleRegion().GetSize()
    initializer.SetTransformDomainMeshSize([max(1, round(n * s / millimetres))
                                            for n, s in zip(size, fixed.GetSpacing())])
    initializer.InitializeTransform()
    return transform


def field_transform(fixed, moving, features, found, levels):
    """A displacement field, refined level by level on the grid of each; it begins with what was found."""
    transform = itk.GaussianSmoothingOnUpdateDisplacementFieldTransform[itk.D, 3].New()
    transform.SetGaussianSmoothingVarianceForTheUpdateField(3.0)
    transform.SetGaussianSmoothingVarianceForTheTotalField(1.0)
    for shrink, sigma, iterations in levels:
        grid = itk.shrink_image_filter(fixed, shrink_factors=[shrink] * 3)
        transform.SetDisplacementField(sampled(found, grid))
        nothing = itk.CompositeTransform[itk.D, 3].New()
        run(fixed, moving, features, nothing, transform, [(shrink, sigma, iterations)],
            largest_step=0.5 * spacing_of(grid))
        found = transform
    # every reader knows the plain kind
    return itk.DisplacementFieldTransform[itk.D, 3].New(DisplacementField=transform.GetDisplacementField())


def sampled(transform, grid):
    """The displacements of a transform on the grid of an image."""
    # the package has this filter for float only, and transforms take double
    sampler = itk.TransformToDisplacementFieldFilter[itk.Image[itk.Vector[itk.F, 3], 3], itk.D].New(
        Transform=transform, ReferenceImage=grid, UseReferenceImage=True)
    sampler.Update()
    field = itk.Image[itk.Vector[itk.D, 3], 3].New()
    field.CopyInformation(grid)
    field.SetRegions(grid.GetLargestPossibleRegion())
    field.Allocate()
    itk.array_view_from_image(field)[:] = itk.array_view_from_image(sampler.GetOutput())
    return field


def run(fixed, moving, features, found, transform, levels, largest_step):
    """Optimises `transform`, which is applied before `found`."""
    image = type(fixed)
    metric = dsir_metric(fixed, moving, features=features)

    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(Metric=metric)
    if "DisplacementField" in type(transform).__name__:
        # every step as long as it may be: the smoothing keeps the field in check
        optimizer = itk.GradientDescentOptimizerv4Template[itk.D].New(
            DoEstimateLearningRateOnce=False, DoEstimateLearningRateAtEachIteration=True, ConvergenceWindowSize=10,
            MinimumConvergenceValue=1e-5)
    else:
        optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New(
            DoEstimateLearningRateOnce=True, MinimumStepLength=1e-4, ReturnBestParametersAndValue=True)
    optimizer.SetScalesEstimator(scales)
    optimizer.SetMaximumStepSizeInPhysicalUnits(largest_step)

    registration = itk.ImageRegistrationMethodv4[image, image].New(
        FixedImage=fixed, MovingImage=moving, Metric=metric, Optimizer=optimizer, InitialTransform=transform)
    registration.InPlaceOn()
    if found.GetNumberOfTransforms() > 0:
        registration.SetMovingInitialTransform(found)
    registration.SetNumberOfLevels(len(levels))
    registration.SetShrinkFactorsPerLevel([shrink for shrink, _, _ in levels])
    registration.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    registration.SetSmoothingSigmasPerLevel([sigma for _, sigma, _ in levels])
    iterations = iter([count for _, _, count in levels])
    registration.AddObserver(itk.MultiResolutionIterationEvent(),
                             lambda: optimizer.SetNumberOfIterations(next(iterations)))
    registration.Update()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("fixed", "moving", "output"):
        parser.add_argument(name)
    parser.add_argument("--features", default="mind")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args(arguments)
    fixed, moving = (itk.imread(file, itk.F) for file in (options.fixed, options.moving))
    transform = register(fixed, moving, options.features, options.stages)
    itk.transformwrite([transform], options.output)


if __name__ == "__main__":
    main()
