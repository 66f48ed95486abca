"""Promise: the same registration whichever library's object an image comes in, and images come back as the kind that
was given, with their voxels where they belong."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import pymasr
from pymasr import kinds
from pymasr.demo import make_pair
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import Image, as_image, as_mask
from pymasr.sitk import geometry_of, to_sitk

TURN = sitk.Euler3DTransform((0, 0, 0), *np.deg2rad([10.0, -20.0, 33.0]))
TURNED = np.reshape(TURN.GetMatrix(), (3, 3))
GRIDS = {
    "axes": Geometry((20, 26, 23), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "anisotropic": Geometry((20, 26, 23), (0.7, 1.3, 2.9), (-31.0, 12.5, 101.3)),
    "flipped": Geometry((20, 26, 23), (1.2, 1.1, 1.3), (26.0, -31.7, 5.0), (0, 0, 1, -1, 0, 0, 0, -1, 0)),
    "oblique": Geometry((20, 26, 23), (0.9, 1.7, 1.2), (-25.1, 12.0, 20.0), tuple(TURNED.ravel())),
    "oblique and flipped": Geometry((20, 26, 23), (1.1, 0.8, 2.3), (-20.0, 31.0, 7.7),
                                    tuple((TURNED @ np.diag([-1.0, 1, 1])[[1, 2, 0]]).ravel())),
}


def as_itk(array, geometry):
    pytest.importorskip("itk", reason="itk is not installed: pip install itk")
    from pymasr.itk.images import to_itk

    return to_itk(array, geometry)


def as_nibabel(array, geometry):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install nibabel")
    return nibabel.Nifti1Image(array.T, geometry.ras)


def as_metatensor(array, geometry):
    monai = pytest.importorskip("monai.data", reason="MONAI is not installed: pip install monai")
    return monai.MetaTensor(torch.from_numpy(array.T.copy())[None], affine=torch.from_numpy(geometry.ras))


def as_lps_metatensor(array, geometry):
    monai = pytest.importorskip("monai.data", reason="MONAI is not installed: pip install monai")
    affine = torch.from_numpy(np.diag([-1.0, -1, 1, 1]) @ geometry.ras)
    return monai.MetaTensor(torch.from_numpy(array.T.copy()), affine=affine, meta={"space": "LPS"})


def as_torchio(array, geometry):
    torchio = pytest.importorskip("torchio", reason="TorchIO is not installed: pip install torchio")
    return torchio.ScalarImage(tensor=torch.from_numpy(array.T.copy())[None], affine=geometry.ras)


PLACED = {"SimpleITK": to_sitk, "itk": as_itk, "nibabel": as_nibabel, "MONAI": as_metatensor,
          "MONAI, LPS": as_lps_metatensor, "TorchIO": as_torchio,
          "pymasr": lambda array, geometry: Image(torch.from_numpy(array), geometry)}
ARRAYS = {"NumPy": lambda array: array, "torch": torch.from_numpy}


def voxels(dtype=np.float32):
    return np.random.default_rng(3).integers(0, 200, GRIDS["axes"].shape).astype(dtype)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", PLACED)
def test_there_and_back(kind, grid):
    geometry = GRIDS[grid]
    source = PLACED[kind](voxels(), geometry)
    image = as_image(source)
    np.testing.assert_array_equal(image.array, voxels())
    np.testing.assert_allclose(image.geometry.voxel_to_physical, geometry.voxel_to_physical, rtol=0, atol=1e-12)
    assert image.geometry.rounded() == geometry.rounded()
    again = kinds.like(Image(image.array + 1, geometry), source)
    assert type(again) is type(source)
    assert getattr(again, "shape", None) == getattr(source, "shape", None)
    np.testing.assert_array_equal(as_image(again).array, voxels() + 1)
    assert as_image(again).geometry.rounded() == geometry.rounded()
    np.testing.assert_array_equal(as_image(source).array, voxels())  # untouched


@pytest.mark.parametrize("grid", ["oblique and flipped"])
def test_files_mean_the_same_to_every_library(grid, tmp_path):
    """Written by one library, read by the other: an independent word on what RAS, LPS and the order of axes are."""
    nibabel, monai = pytest.importorskip("nibabel"), pytest.importorskip("monai.transforms")
    torchio = pytest.importorskip("torchio")
    file = tmp_path / "image.nii.gz"
    sitk.WriteImage(to_sitk(voxels(), GRIDS[grid]), str(file))
    expected = as_image(file)
    loaded = {"nibabel": nibabel.load(file), "MONAI": monai.LoadImage(image_only=True)(file),
              "MONAI, itk": monai.LoadImage("ITKReader", image_only=True, ensure_channel_first=True)(file),
              "TorchIO": torchio.ScalarImage(file)}
    for name, source in loaded.items():
        image = as_image(source, name=name)
        np.testing.assert_array_equal(image.array, expected.array, name)
        np.testing.assert_allclose(image.geometry.voxel_to_physical, expected.geometry.voxel_to_physical, atol=1e-4,
                                   err_msg=name)
    changed = Image(expected.array, GRIDS["oblique"])
    nibabel.save(kinds.like(changed, loaded["nibabel"]), tmp_path / "nibabel.nii.gz")
    monai.SaveImage(tmp_path, "", separate_folder=False, print_log=False)(
        kinds.like(changed, loaded["MONAI, itk"]), filename=str(tmp_path / "monai"))
    kinds.like(changed, loaded["TorchIO"]).save(tmp_path / "torchio.nii.gz")
    for name in ("nibabel", "monai", "torchio"):
        image = as_image(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.array, expected.array, name)
        np.testing.assert_allclose(image.geometry.voxel_to_physical, changed.geometry.voxel_to_physical, atol=1e-4,
                                   err_msg=name)


@pytest.mark.parametrize("kind", [*PLACED, *ARRAYS])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_labels_keep_their_type(kind, dtype):
    if kind == "pymasr":
        pytest.skip("pymasr.io.Image holds float32")
    source = ARRAYS[kind](voxels()) if kind in ARRAYS else PLACED[kind](voxels(), GRIDS["oblique"])
    labels = to_sitk(voxels(dtype), GRIDS["anisotropic"])
    back = kinds.like(labels, source)
    np.testing.assert_array_equal(as_image(back).array, voxels())
    type_of = {"SimpleITK": lambda x: sitk.GetArrayFromImage(x).dtype, "nibabel": lambda x: x.get_data_dtype(),
               "itk": lambda x: np.asarray(x).dtype, "NumPy": lambda x: x.dtype,
               "TorchIO": lambda x: x.data.numpy().dtype}.get(kind, lambda x: np.asarray(x).dtype)
    assert type_of(back) == dtype


@pytest.fixture(scope="module")
def pair():
    """(array, geometry) of a fixed and a moving image on grids of the hardest sort."""
    made = make_pair((20, 26, 23), 2.0, deformation=2.0, rotation=0.0, shift=(2.0, 0.0, -2.0), points=10)
    geometry = dataclasses.replace(GRIDS["oblique and flipped"], spacing=(2.2, 1.8, 2.6))
    shifted = dataclasses.replace(geometry, origin=tuple(np.add(geometry.origin, (2.0, -1.5, 1.0))))
    return [(sitk.GetArrayFromImage(image), grid) for image, grid in ((made.fixed, geometry), (made.moving, shifted))]


def registered(fixed, moving, **settings):
    return pymasr.register(fixed, moving, preset="fast", features="dns", initial="headers", **settings)


@pytest.fixture(scope="module")
def expected(pair):
    return registered(*(to_sitk(*image) for image in pair))


@pytest.mark.parametrize("kind", [kind for kind in PLACED if kind != "SimpleITK"])
def test_the_same_registration(kind, pair, expected):
    fixed, moving = (PLACED[kind](*image) for image in pair)
    found = registered(fixed, moving)
    assert found.solution.displacement.abs().max() > 0.2
    assert torch.equal(found.solution.displacement, expected.solution.displacement)
    assert found.solution.affine.tolist() == expected.solution.affine.tolist()
    assert type(found.warped) is type(moving)
    np.testing.assert_allclose(as_image(found.warped).array, as_image(expected.warped).array, atol=1e-4)
    assert as_image(found.warped).geometry.rounded() == pair[0][1].rounded()


def test_the_same_registration_of_arrays(pair, expected):
    (fixed, fixed_grid), (moving, moving_grid) = pair
    for kind, make in ARRAYS.items():
        found = registered(make(fixed), make(moving), fixed_geometry=fixed_grid, moving_geometry=moving_grid)
        assert torch.equal(found.solution.displacement, expected.solution.displacement), kind
        assert type(found.warped) is type(make(moving)) and found.warped.shape == fixed.shape
        np.testing.assert_array_equal(found.warped, sitk.GetArrayFromImage(expected.warped))


@pytest.mark.parametrize("inverse", [False, True])
def test_results_warp_images_of_any_kind(pair, expected, inverse):
    grid = pair[0 if inverse else 1][1]
    values = np.zeros(grid.shape, np.int16)
    values[4:-4, 6:-6, 5:-5] = 300
    truth = sitk.GetArrayFromImage(expected.warp(to_sitk(values, grid), labels=True, inverse=inverse))
    assert 0 < (truth == 300).mean() < 1
    for kind, make in {**PLACED, **ARRAYS}.items():
        source = make(values) if kind in ARRAYS else make(values, grid) if kind != "pymasr" else None
        if source is None:  # which holds float32 alone
            continue
        warped = expected.warp(source, labels=True, inverse=inverse)
        assert type(warped) is type(source)
        np.testing.assert_array_equal(as_image(warped).array, truth, kind)


def test_results_refuse_arrays_of_another_shape(expected):
    with pytest.raises(InputError, match="an array must have the shape of its grid"):
        expected.warp(np.zeros((3, 4, 5)))


def test_kinds_may_be_mixed(pair, expected, tmp_path):
    fixed, moving = (to_sitk(*image) for image in pair)
    sitk.WriteImage(moving, str(tmp_path / "moving.mha"))
    found = registered(as_nibabel(*pair[0]), tmp_path / "moving.mha", fixed_mask=as_metatensor(*pair[0]))
    assert isinstance(found.warped, sitk.Image)
    assert geometry_of(found.warped).rounded() == geometry_of(fixed).rounded()
    files = registered(as_nibabel(*pair[0]), as_nibabel(*pair[1])).save(tmp_path / "out")
    assert as_image(next(file for file in files if file.name == "warped.nii.gz")).geometry.shape == pair[0][1].shape
    assert geometry_of(moving) == pair[1][1]


def test_arrays_are_placed_by_spacing(pair):
    (fixed, _), (moving, _) = pair
    spacing = (2.0, 1.5, 2.5)
    given = registered(fixed, moving, spacing=spacing)
    assert given.fixed.geometry == given.moving.geometry == Geometry(fixed.shape, spacing)
    expected = registered(*(to_sitk(array, Geometry(array.shape, spacing)) for array in (fixed, moving)))
    assert torch.equal(given.solution.displacement, expected.solution.displacement)
    assert registered(fixed, moving).fixed.geometry.spacing == (1.0, 1.0, 1.0)
    assert registered(fixed, moving, spacing=2).moving.geometry.spacing == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("spacing", [0, (1, 2), "fine", (1, -1, 1), float("nan")])
def test_wrong_spacing(spacing):
    with pytest.raises(InputError, match="three positive numbers of mm"):
        pymasr.register(voxels(), voxels(), spacing=spacing)


def test_spacing_of_images_that_have_their_own():
    image = to_sitk(voxels(), GRIDS["axes"])
    with pytest.raises(InputError, match="spacing is for images given as arrays"):
        pymasr.register(image, image, spacing=2.0)


def test_masks_of_any_kind():
    image = Image(torch.from_numpy(voxels()), GRIDS["oblique"])
    for name, make in PLACED.items():
        mask = as_mask(make((voxels() > 100).astype(np.float32), GRIDS["oblique"]), image)
        np.testing.assert_array_equal(mask.array, voxels() > 100, name)


@pytest.mark.parametrize(("change", "message"), [
    (lambda x: x.repeat(2, 1, 1, 1), "one value per voxel, got 2 channels"),
    (lambda x: x[0, 0], "3-D volume, got 2 dimensions"),
    (lambda x: x * float("nan"), "NaN or infinite")])
def test_unusable_metatensors(change, message):
    with pytest.raises(InputError, match=message):
        as_image(change(as_metatensor(voxels(), GRIDS["oblique"])))


def test_unusable_grids():
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    nibabel = pytest.importorskip("nibabel")
    with pytest.raises(InputError, match="right angles"):
        as_image(nibabel.Nifti1Image(voxels().T, sheared))
    with pytest.raises(InputError, match="no affine"):
        as_image(nibabel.Nifti1Image(voxels().T, None))
    with pytest.raises(InputError, match=r"4 dimensions .* give one of its volumes"):
        as_image(nibabel.Nifti1Image(np.stack([voxels().T] * 2, -1), np.eye(4)))
    assert as_image(nibabel.Nifti1Image(voxels().T[..., None], np.eye(4))).array.shape == voxels().shape
    with pytest.raises(InputError, match="geometry is for arrays only"):
        as_image(as_metatensor(voxels(), GRIDS["oblique"]), GRIDS["oblique"])


def test_likes_refuse():
    with pytest.raises(InputError, match="dict is no kind of image"):
        kinds.like(to_sitk(voxels(), GRIDS["axes"]), {})
    with pytest.raises(InputError, match="one value per voxel, got 3 dimensions and 2 values"):
        kinds.like(sitk.Image([3, 4, 5], sitk.sitkVectorFloat32, 2), voxels())


def test_no_library_is_imported_before_its_objects_come():
    code = ("import sys, numpy, pymasr; from pymasr.io import as_image; as_image(numpy.random.rand(4, 5, 6)); "
            "print([m for m in ('nibabel', 'monai', 'torchio', 'itk', 'SimpleITK') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
