"""Promise: SimpleITK, itk, transformix and ANTs make the same warped image of our transforms, and we of theirs, on
oblique, anisotropic and flipped grids, there and back."""

import importlib.util

import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import transforms
from pymasr.transforms.chain import parts
from pymasr.transforms.fields import sample

needs_itk = pytest.mark.skipif(importlib.util.find_spec("itk") is None, reason="itk is not installed: pip install itk")
needs_elastix = pytest.mark.skipif(
    importlib.util.find_spec("itk") is None
    or importlib.util.find_spec("itk.itkTransformixFilterPython") is None,
    reason="itk-elastix is not installed: pip install itk-elastix")

#: Grey values 0 to 250, whose neighbours differ by some 20: a hundredth of a voxel off would be 0.2.
CLOSE = 0.05


@pytest.fixture(scope="module", params=["there", "back"])
def case(request, tmp_path_factory):
    """Files of a moving image, a reference and the transforms between them, and the image that we make of them."""
    folder = tmp_path_factory.mktemp(request.param)
    listed = [scenes.deformation(amplitude=1.2), scenes.linear()]
    grids = (scenes.FIXED, scenes.MOVING)
    if request.param == "back":
        listed = transforms.invert(listed).transform
        grids = grids[::-1]
    whole = transforms.chain(listed)
    transforms.write(whole, folder / "whole.h5")
    fixed, moving = scenes.template(grids[0]), scenes.picture(grids[1])
    sitk.WriteImage(fixed, str(folder / "fixed.nii.gz"))
    sitk.WriteImage(moving, str(folder / "moving.nii.gz"))
    sitk.WriteImage(transforms.displacement_field(whole, grids[0]), str(folder / "field.nii.gz"))
    ours = transforms.apply(folder / "moving.nii.gz", folder / "fixed.nii.gz", folder / "whole.h5", outside=0)
    return folder, scenes.array(ours)


def assert_same(ours, theirs, share=0.0):
    """Of the voxels, `share` may lie just on the edge of the image and count as outside for one of the two."""
    assert 0.1 < (ours > 0).mean() < 1
    different = np.abs(ours - theirs) > CLOSE
    assert different.mean() <= share, (different.mean(), np.abs(ours - theirs).max())


def test_simpleitk(case):
    folder, ours = case
    fixed, moving = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    assert_same(ours, scenes.array(sitk.Resample(moving, fixed, sitk.ReadTransform(str(folder / "whole.h5")))))
    field = sitk.Cast(sitk.ReadImage(str(folder / "field.nii.gz")), sitk.sitkVectorFloat64)
    assert_same(ours, scenes.array(sitk.Resample(moving, fixed, sitk.DisplacementFieldTransform(field))), 1e-3)


@needs_itk
def test_itk(case):
    import itk

    folder, ours = case
    fixed, moving = (itk.imread(str(folder / f"{name}.nii.gz"), itk.F) for name in ("fixed", "moving"))
    transform = itk.transformread(str(folder / "whole.h5"))[0]
    theirs = itk.resample_image_filter(moving, transform=transform, use_reference_image=True, reference_image=fixed)
    assert_same(ours, itk.array_from_image(theirs))


@needs_elastix
def test_transformix_takes_our_field(case, tmp_path):
    import itk

    folder, ours = case
    moving = itk.imread(str(folder / "moving.nii.gz"), itk.F)
    fixed = itk.imread(str(folder / "fixed.nii.gz"), itk.F)
    field = folder / "field.mha"
    sitk.WriteImage(sitk.ReadImage(str(folder / "field.nii.gz")), str(field))
    parameters = itk.ParameterObject.New()
    direction = itk.array_from_matrix(fixed.GetDirection()).T.ravel()
    parameters.AddParameterMap({
        "Transform": ["DeformationFieldTransform"], "DeformationFieldFileName": [str(field)],
        "DeformationFieldInterpolationOrder": ["1"], "InitialTransformParameterFileName": ["NoInitialTransform"],
        "HowToCombineTransforms": ["Compose"], "FixedImageDimension": ["3"], "MovingImageDimension": ["3"],
        "NumberOfParameters": ["0"], "Size": [str(n) for n in itk.size(fixed)], "Index": ["0"] * 3,
        "Spacing": [repr(float(v)) for v in itk.spacing(fixed)], "Origin": [repr(float(v)) for v in itk.origin(fixed)],
        "Direction": [repr(float(v)) for v in direction], "UseDirectionCosines": ["true"],
        "ResampleInterpolator": ["FinalLinearInterpolator"], "Resampler": ["DefaultResampler"],
        "DefaultPixelValue": ["0"], "ResultImagePixelType": ["float"]})
    theirs = itk.transformix_filter(moving, parameters, output_directory=str(tmp_path))
    # transformix has no value in the outer half of the outermost voxels
    both = (itk.array_from_image(theirs) > 0) & (ours > 0)
    assert both.mean() > 0.8 * (ours > 0).mean()
    assert_same(np.where(both, ours, 0), np.where(both, itk.array_from_image(theirs), 0), 1e-3)


@needs_elastix
def test_we_take_elastix_parameters(tmp_path):
    """elastix itself registers, transformix warps; its files alone, in text, give the same image here."""
    import itk

    fixed, moving = scenes.picture(scenes.FIXED, 3), scenes.picture(scenes.FIXED, 3)
    shift = sitk.TranslationTransform(3, (0.7, -0.5, 0.9))
    moving = sitk.Resample(moving, scenes.template(scenes.MOVING), shift)
    for name, image in (("fixed", fixed), ("moving", moving)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    fixed, moving = (itk.imread(str(tmp_path / f"{name}.mha"), itk.F) for name in ("fixed", "moving"))
    parameters = itk.ParameterObject.New()
    for kind in ("rigid", "affine", "bspline"):
        stage = dict(parameters.GetDefaultParameterMap(kind, 1, 8.0))
        stage |= {"MaximumNumberOfIterations": ["4"], "NumberOfSpatialSamples": ["400"],
                  "AutomaticTransformInitialization": ["false"], "RequiredRatioOfValidSamples": ["0.01"],
                  "FinalBSplineInterpolationOrder": ["1"], "MaximumStepLength": ["2.0"],
                  "ResultImagePixelType": ["float"]}
        parameters.AddParameterMap(stage)
    _, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False,
                                               output_directory=str(tmp_path))
    transformix = itk.TransformixFilter[itk.Image[itk.F, 3]].New(moving)
    transformix.SetTransformParameterObject(found)
    transformix.SetComputeDeformationField(True)
    transformix.SetOutputDirectory(str(tmp_path))
    transformix.Update()
    theirs, field = map(itk.array_from_image, (transformix.GetOutput(), transformix.GetOutputDeformationField()))
    moved = {}
    points = scenes.points_in(scenes.FIXED)
    for suffix in ("toml", "txt"):
        files = [tmp_path / f"Parameters.{k}.{suffix}" for k in range(3)]
        for k in (1, 2):
            found.SetParameter(k, "InitialTransformParameterFileName", files[k - 1].name)
        itk.ParameterObject.WriteParameterFiles(found, [str(file) for file in files])
        transform = transforms.read(files[-1])
        moved[suffix] = scenes.through(transform, points)
    np.testing.assert_allclose(moved["toml"], moved["txt"], atol=1e-6)
    steps = parts(transform)
    assert [step.GetName() for step in steps] == ["AffineTransform", "BSplineTransform"]
    bent = scenes.array(sample(steps[-1], scenes.FIXED))
    assert np.ptp(bent.reshape(-1, 3), axis=0).max() > 0.05  # the spline does something
    displacement = scenes.array(sample(transform, scenes.FIXED))
    np.testing.assert_allclose(displacement, field, atol=1e-4)
    ours = scenes.array(transforms.apply(tmp_path / "moving.mha", tmp_path / "fixed.mha", files[-1], outside=0))
    # its interpolator mirrors the image at its outermost voxels, where ITK's repeats them
    voxels = np.moveaxis(np.indices(scenes.FIXED.shape), 0, -1)
    to_point, to_voxel = scenes.FIXED.voxel_to_physical, np.linalg.inv(scenes.MOVING.voxel_to_physical)
    there = (voxels @ to_point[:3, :3].T + to_point[:3, 3] + displacement) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    inner = ((there > 0) & (there < np.array(scenes.MOVING.shape) - 1)).all(-1)
    assert inner.mean() > 0.1
    assert_same(np.where(inner, ours, 0), np.where(inner, theirs, 0))


def ants():
    return pytest.importorskip("ants", reason="ANTs is not installed: pip install --no-deps antspyx, and the extra "
                                              "peers of pyproject.toml")


def test_ants_takes_our_files_and_we_take_its(case, tmp_path):
    """Composite and field through ants.apply_transforms, whose order is ours; its own affine with ours."""
    library = ants()
    folder, ours = case
    fixed, moving = (library.image_read(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    for file in ("whole.h5", "field.nii.gz"):
        theirs = library.apply_transforms(fixed, moving, [str(folder / file)], interpolator="linear", defaultvalue=0)
        assert_same(ours, theirs.numpy().T, 1e-3)


def test_ants_order_and_inversion(tmp_path):
    """A field and an affine file, and the affine the other way, as ants.apply_transforms takes them."""
    library = ants()
    sitk.WriteImage(scenes.template(scenes.FIXED), str(tmp_path / "fixed.nii.gz"))
    sitk.WriteImage(scenes.picture(scenes.MOVING), str(tmp_path / "moving.nii.gz"))
    sitk.WriteImage(transforms.displacement_field(scenes.deformation(), scenes.FIXED), str(tmp_path / "1Warp.nii.gz"))
    affine = library.new_ants_transform(transform_type="AffineTransform", precision="float", dimension=3)
    matrix, offset = scenes.linear().GetMatrix(), scenes.linear().GetTranslation()
    affine.set_parameters([*matrix, *offset])
    affine.set_fixed_parameters([0.0, 0, 0])
    library.write_transform(affine, str(tmp_path / "0GenericAffine.mat"))
    back = transforms.invert(scenes.linear()).transform
    transforms.write(back, tmp_path / "back.mat")
    fixed, moving = (library.image_read(str(tmp_path / f"{name}.nii.gz")) for name in ("fixed", "moving"))
    for linear, inverted in (("0GenericAffine.mat", False), ("back.mat", True)):
        files = [str(tmp_path / "1Warp.nii.gz"), str(tmp_path / linear)]
        theirs = library.apply_transforms(fixed, moving, files, interpolator="linear", whichtoinvert=[False, inverted],
                                          defaultvalue=0).numpy().T
        list_for_us = [files[0], f"[{files[1]},1]" if inverted else files[1]]
        ours = transforms.apply(tmp_path / "moving.nii.gz", tmp_path / "fixed.nii.gz", list_for_us, outside=0)
        assert_same(scenes.array(ours), theirs, 1e-3)
