"""elastix: Klein et al., IEEE Trans. Med. Imaging 29, 2010; on images, and on our channels."""

from __future__ import annotations

import functools
import tempfile

import SimpleITK as sitk

from benchmarks.methods.itk_v4 import itk_displacement
from benchmarks.methods.method import Method
from pymasr.geometry import Geometry
from pymasr.itk.images import to_itk
from pymasr.sitk import geometry_of, vectors_to_sitk

ELASTIX = {"stages": ["rigid", "affine", "bspline"], "NumberOfResolutions": 4, "FinalGridSpacingInPhysicalUnits": 10.0,
           "MaximumNumberOfIterations of bspline": 500}
#: In place of the metric of the default maps.
ELASTIX_NMI = {**ELASTIX, "Metric": "NormalizedMutualInformation"}
#: The metric is the squared difference of as many principal components of the descriptors.
ELASTIX_MASR = {**ELASTIX, "features": "masr", "channels": 12}


def elastix(fixed: sitk.Image, moving: sitk.Image, settings: dict = ELASTIX):
    import itk

    images = [to_itk(sitk.GetArrayFromImage(image), geometry_of(image)) for image in (fixed, moving)]
    method = itk.ElastixRegistrationMethod[type(images[0]), type(images[1])]  # loads its libraries

    def register():
        filter = method.New(*images)
        filter.SetParameterObject(elastix_parameters(settings))
        filter.SetLogToConsole(False)
        filter.Update()
        return filter.GetTransformParameterObject()

    return register, lambda result: elastix_displacement(result, images[1], geometry_of(fixed))


def elastix_parameters(settings: dict = ELASTIX):
    """elastix's default maps, in which the similarity is AdvancedMattesMutualInformation, with what `settings` say."""
    import itk

    parameters = itk.ParameterObject.New()
    for stage in settings["stages"]:
        values = parameters.GetDefaultParameterMap(stage, settings["NumberOfResolutions"],
                                                   settings["FinalGridSpacingInPhysicalUnits"])
        if stage == "bspline":
            values["MaximumNumberOfIterations"] = [str(settings["MaximumNumberOfIterations of bspline"])]
        if "Metric" in settings:
            values["Metric"] = [settings["Metric"], *values["Metric"][1:]]
        parameters.AddParameterMap(values)
    return parameters


def elastix_displacement(parameters, moving, geometry: Geometry) -> sitk.Image:
    """The field of elastix's transform `parameters` on the fixed grid, which they name."""
    import itk

    with tempfile.TemporaryDirectory() as folder:  # it writes the field to a file too
        field = itk.transformix_deformation_field(moving, parameters, output_directory=folder)
        return vectors_to_sitk(itk.array_from_image(field), geometry)


def elastix_on_channels(fixed: sitk.Image, moving: sitk.Image, settings: dict = ELASTIX_MASR):
    from pymasr.itk import elastix_registration

    elastix_parameters(settings)  # loads its libraries
    image = to_itk(sitk.GetArrayFromImage(fixed), geometry_of(fixed))
    return (lambda: elastix_registration(fixed, moving, settings["features"], elastix_parameters(settings),
                                         channels=settings["channels"]),
            lambda result: itk_displacement(result.transform, image, geometry_of(fixed)))


METHODS = {
    "elastix": Method(elastix, ELASTIX, ("itk-elastix", "itk-core")),
    "elastix-nmi": Method(functools.partial(elastix, settings=ELASTIX_NMI), ELASTIX_NMI, ("itk-elastix", "itk-core")),
    "elastix-masr": Method(elastix_on_channels, ELASTIX_MASR, ("itk-elastix", "itk-core", "pymasr", "torch", "numpy")),
}
