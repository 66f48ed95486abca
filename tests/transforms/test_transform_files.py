"""Promise: a transform file of any of the tools is read as what it means there, or refused in one sentence."""

import numpy as np
import pytest
import scenes
import SimpleITK as sitk

from pymasr import transforms
from pymasr.errors import InputError
from pymasr.transforms import elastix
from pymasr.transforms.chain import parts

POINTS = scenes.points_in(scenes.FIXED)


def matrix_file(tmp_path):
    """As ANTs writes some of its affine transforms."""
    (tmp_path / "base.txt").write_text("#Insight Transform File V1.0\n#Transform 0\n"
                                       "Transform: MatrixOffsetTransformBase_double_3_3\n"
                                       "Parameters: 1 0.1 0 0 1 0 0 0 1 1 2 3\nFixedParameters: 10 0 0\n")
    return tmp_path / "base.txt"


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt", ".mat"])
def test_linear_transforms_of_itk_and_ants(tmp_path, suffix):
    linear = scenes.linear()
    transforms.write(linear, tmp_path / f"affine{suffix}")
    found = transforms.read(tmp_path / f"affine{suffix}")
    np.testing.assert_allclose(scenes.through(found, POINTS), scenes.through(linear, POINTS), atol=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == [f"affine{suffix}"]


def test_a_matrix_of_ants_with_a_centre(tmp_path):
    found = transforms.read(matrix_file(tmp_path))
    np.testing.assert_allclose(found.TransformPoint((10.0, 5.0, 0.0)), (11.5, 7.0, 3.0))


def test_composites_and_displacement_images(tmp_path):
    whole = transforms.chain([scenes.deformation(), scenes.linear()])
    transforms.write(whole, tmp_path / "both.h5")
    np.testing.assert_allclose(scenes.through(transforms.read(tmp_path / "both.h5"), POINTS),
                               scenes.through(scenes.linear(), scenes.through(scenes.deformation(), POINTS)), atol=1e-6)
    for name in ("Warp.nii.gz", "warp.mha"):
        field = transforms.displacement_field(whole, scenes.FIXED)
        sitk.WriteImage(field, str(tmp_path / name))
        read = transforms.read(tmp_path / name)
        voxel = scenes.FIXED.voxel_to_physical @ [3, 5, 7, 1]
        np.testing.assert_allclose(read.TransformPoint(voxel[:3].tolist()), whole.TransformPoint(voxel[:3].tolist()),
                                   atol=1e-4)


def test_the_order_is_that_of_ants(tmp_path):
    """Points go through the first one first; brackets with 1 invert."""
    first, second = sitk.TranslationTransform(3, (10.0, 0, 0)), sitk.ScaleTransform(3, (2.0, 2, 2))
    for name, transform in (("first.tfm", first), ("second.tfm", second)):
        sitk.WriteTransform(transform, str(tmp_path / name))
    files = [str(tmp_path / name) for name in ("first.tfm", "second.tfm")]
    assert transforms.chain(files).TransformPoint((1.0, 2.0, 3.0)) == pytest.approx((22, 4, 6))
    assert transforms.chain(files[::-1]).TransformPoint((1.0, 2.0, 3.0)) == pytest.approx((12, 4, 6))
    inverted = transforms.chain([f"[{files[0]},1]", f"[{files[1]}, 0]"])
    assert inverted.TransformPoint((11.0, 2.0, 3.0)) == pytest.approx((2, 4, 6))
    assert inverted.GetName() == "AffineTransform"


def test_parts_are_in_the_order_of_points():
    inner = sitk.CompositeTransform([scenes.spline(), scenes.deformation()])
    nested = sitk.CompositeTransform([scenes.linear(), inner])
    steps = parts(nested)
    assert [step.GetName() for step in steps] == ["DisplacementFieldTransform", "BSplineTransform", "AffineTransform"]
    at = POINTS
    for step in steps:
        at = scenes.through(step, at)
    np.testing.assert_allclose(at, scenes.through(nested, POINTS), atol=1e-9)
    assert len(parts(transforms.chain([scenes.linear(), scenes.linear(), nested, scenes.linear()]))) == 4


ELASTIX = """// a comment
(Transform "{transform}")
(NumberOfParameters {count})
(TransformParameters {parameters})
(InitialTransformParameterFileName "{initial}")
(HowToCombineTransforms "Compose")
(FixedImageDimension 3)
(MovingImageDimension 3)
(CenterOfRotationPoint 1.5 -2 3)
(UseDirectionCosines "true")
{rest}
"""


def parameter_file(path, transform, parameters, initial="NoInitialTransform", rest=""):
    path.write_text(ELASTIX.format(transform=transform, count=len(parameters), initial=initial, rest=rest,
                                   parameters=" ".join(map(repr, map(float, parameters)))))
    return path


def test_elastix_chain(tmp_path):
    """Euler, then similarity, then affine, each named by the next one: by a path that no longer holds."""
    parameter_file(tmp_path / "TransformParameters.0.txt", "EulerTransform", [0.1, 0.2, -0.1, 1, 2, 3])
    parameter_file(tmp_path / "TransformParameters.1.txt", "SimilarityTransform", [0.05, 0, 0.1, 1, 2, 3, 1.1],
                   "/gone/TransformParameters.0.txt", '(ComputeZYX "true")')
    last = parameter_file(tmp_path / "TransformParameters.2.txt", "AffineTransform",
                          [1, 0.1, 0, 0, 1.1, 0, 0.2, 0, 1, 5, 6, 7], "TransformParameters.1.txt")
    centre = (1.5, -2.0, 3.0)
    euler = sitk.Euler3DTransform(centre, 0.1, 0.2, -0.1, (1.0, 2, 3))
    similarity = sitk.Similarity3DTransform()
    similarity.SetCenter(centre)
    similarity.SetParameters((0.05, 0, 0.1, 1, 2, 3, 1.1))
    affine = sitk.AffineTransform((1, 0.1, 0, 0, 1.1, 0, 0.2, 0, 1), (5, 6, 7), centre)
    expected = scenes.through(affine, scenes.through(similarity, scenes.through(euler, POINTS)))
    np.testing.assert_allclose(scenes.through(transforms.read(last), POINTS), expected, atol=1e-9)


def test_elastix_translation_in_toml(tmp_path):
    file = tmp_path / "TransformParameters.0.toml"
    file.write_text('Transform = "TranslationTransform"\nTransformParameters = [1.0, 2.5, -3]\n'
                    'InitialTransformParameterFileName = "NoInitialTransform"\nFixedImageDimension = 3\n'
                    'UseDirectionCosines = true\n')
    assert transforms.read(file).TransformPoint((0.0, 0.0, 0.0)) == (1, 2.5, -3)


@pytest.mark.parametrize(("change", "message"), [
    (('"EulerTransform"', '"SplineKernelTransform"'), "no equal of elastix's SplineKernelTransform; let transformix"),
    (("(CenterOfRotationPoint 1.5 -2 3)", ""), "CenterOfRotationPoint must be 3 numbers, all of them finite, got 0"),
    (("(FixedImageDimension 3)", "(FixedImageDimension 2)"), "must map 3-D points, got FixedImageDimension 2"),
    (('(UseDirectionCosines "true")', '(UseDirectionCosines "false")'), "UseDirectionCosines is false"),
    (("0.2", "nan"), "TransformParameters must be 6 numbers"), (("0.2", "abc"), "TransformParameters must be numbers"),
    (("(NumberOfParameters 6)", "(NumberOfParameters 6"), "expected (Name value ...) in every line"),
    (("NoInitialTransform", "gone.txt"), "its initial transform gone.txt is neither there nor beside it"),
    (("NoInitialTransform", "this.txt"), "names itself as its initial transform"),
])
def test_elastix_parameters_that_cannot_be_used(tmp_path, change, message):
    file = parameter_file(tmp_path / "this.txt", "EulerTransform", [0.1, 0.2, -0.1, 1, 2, 3])
    assert change[0] in file.read_text()
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(InputError) as error:
        transforms.read(file)
    assert message in str(error.value) and str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_elastix_transforms_that_are_added(tmp_path):
    parameter_file(tmp_path / "0.txt", "TranslationTransform", [1, 2, 3])
    file = parameter_file(tmp_path / "1.txt", "TranslationTransform", [1, 2, 3], "0.txt")
    file.write_text(file.read_text().replace('"Compose"', '"Add"'))
    with pytest.raises(InputError, match="is added to its initial transform"):
        transforms.read(file)


def test_files_that_are_no_transforms(tmp_path):
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    (tmp_path / "fsl.mat").write_text("1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "new.tfm").write_text("#Insight Transform File V1.0\n#Transform 0\nTransform: NewTransform_double_3_3\n"
                                      "Parameters: 1\nFixedParameters: 0\n")
    (tmp_path / "table.xls").write_text("hello")
    (tmp_path / "broken.h5").write_text("hello")
    sitk.WriteImage(scenes.picture(scenes.FIXED), str(tmp_path / "image.mha"))
    field = scenes.array(transforms.displacement_field(scenes.linear(), scenes.FIXED))
    field[2, 3, 4] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(field, isVector=True), str(tmp_path / "holes.mha"))
    for name, message in {
        "flat.tfm": "must map 3-D points, got a 2-D Euler2DTransform", "fsl.mat": "a bare 4 x 4 matrix",
        "notes.txt": "none of what is known here: an ITK or ANTs",
        "new.tfm": "holds a NewTransform_double_3_3",
        "table.xls": "of no format known here, expected an ITK or ANTs",
        "broken.h5": "none of what is known", "image.mha": "3 values per voxel, got 3-D with 1",
        "holes.mha": "displacements must be finite", "gone.h5": "no such file", ".": "is a directory",
    }.items():
        with pytest.raises(InputError) as error:
            transforms.read(tmp_path / name)
        text = str(error.value)
        assert message in text and text.startswith(f"transform {tmp_path / name}: ") and "\n" not in text, text
    with pytest.raises(InputError, match="one at least"):
        transforms.chain([])
    with pytest.raises(InputError, match="must be a file or a SimpleITK transform, got int"):
        transforms.chain([3])


def test_parameters_are_told_from_itk_files(tmp_path):
    assert not elastix.holds_parameters(matrix_file(tmp_path))
    assert elastix.holds_parameters(parameter_file(tmp_path / "a.txt", "TranslationTransform", [1, 2, 3]))


@pytest.mark.parametrize(("name", "make", "message"), [
    ("a.mat", scenes.spline, ".mat is for linear transforms only"),
    ("a.tfm", scenes.deformation, "too large for a text file"),
    ("a.xyz", scenes.linear, "must end with .h5, .tfm, .txt, .mat")])
def test_files_that_cannot_hold_a_transform(tmp_path, name, make, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        transforms.write(make(), tmp_path / name)
    assert not list(tmp_path.iterdir())
