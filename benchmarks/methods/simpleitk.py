"""SimpleITK: Lowekamp et al., The design of SimpleITK, Frontiers in Neuroinformatics 7, 2013; MI as in its examples."""

from __future__ import annotations

import functools

import SimpleITK as sitk

from benchmarks.methods.method import Method
from pymasr.sitk import ImageRegistrationMethod

SITK = {"metric": "MattesMutualInformation", "histogram bins": 50, "initial": "CenteredTransformInitializer, GEOMETRY",
        "affine": {"optimizer": "GradientDescent", "learning rate": 1.0, "iterations": 100, "scales": "physical shift",
                   "sampling": "RANDOM", "percentage": 0.2, "seed": 1, "shrink": [4, 2, 1], "sigmas mm": [4, 2, 0]},
        "bspline": {"optimizer": "LBFGSB", "iterations": 30, "control points every mm": 20.0, "sampling": "RANDOM",
                    "percentage": 0.2, "seed": 1, "shrink": [4, 2, 1], "sigmas mm": [4, 2, 0]}}
#: The same script, on our descriptors.
SITK_DSIR = {**{name: value for name, value in SITK.items() if name != "histogram bins"},
             "metric": "DSIR", "features": "masr"}


def simpleitk(fixed: sitk.Image, moving: sitk.Image, settings: dict = SITK):
    def register():
        found = sitk.CompositeTransform(3)
        affine = sitk.AffineTransform(sitk.CenteredTransformInitializer(
            fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY))
        method = _sitk_method(settings, settings["affine"])
        method.SetOptimizerAsGradientDescent(settings["affine"]["learning rate"], settings["affine"]["iterations"])
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(affine, inPlace=True)
        method.Execute(fixed, moving)
        found.AddTransform(affine)
        mesh = [max(1, round(n * s / settings["bspline"]["control points every mm"]))
                for n, s in zip(fixed.GetSize(), fixed.GetSpacing())]
        bspline = sitk.BSplineTransformInitializer(fixed, mesh)
        method = _sitk_method(settings, settings["bspline"])
        method.SetOptimizerAsLBFGSB(numberOfIterations=settings["bspline"]["iterations"])
        method.SetMovingInitialTransform(found)
        method.SetInitialTransform(bspline, inPlace=True)
        method.Execute(fixed, moving)
        found.AddTransform(bspline)
        return found

    return register, lambda found: sitk.TransformToDisplacementField(
        found, sitk.sitkVectorFloat64, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection())


def _sitk_method(settings: dict, stage: dict) -> sitk.ImageRegistrationMethod | ImageRegistrationMethod:
    if settings["metric"] == "DSIR":
        method = ImageRegistrationMethod()
        method.SetMetricAsDSIR(settings["features"])
    else:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(settings["histogram bins"])
    method.SetMetricSamplingStrategy(getattr(method, stage["sampling"]))
    method.SetMetricSamplingPercentage(stage["percentage"], stage["seed"])
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(stage["shrink"])
    method.SetSmoothingSigmasPerLevel(stage["sigmas mm"])
    return method


METHODS = {
    "simpleitk-mi": Method(simpleitk, SITK, ("SimpleITK",)),
    "simpleitk-dsir": Method(functools.partial(simpleitk, settings=SITK_DSIR), SITK_DSIR,
                             ("SimpleITK", "pymasr", "torch", "numpy")),
}
