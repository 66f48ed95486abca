"""Promise: whatever SimpleITK reads comes in with its voxels where its header says, and nothing unusable gets past."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.io import Image, as_image, as_mask
from pymasr.sitk import to_sitk

ANGLE = np.deg2rad(25)
OBLIQUE = Geometry(
    (5, 6, 7), (0.7, 1.3, 2.9), (-31.0, 12.5, 101.0),
    (np.cos(ANGLE), np.sin(ANGLE), 0.0, np.sin(ANGLE), -np.cos(ANGLE), 0.0, 0.0, 0.0, -1.0))


def volume(shape=(5, 6, 7), seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def assert_same(image, array, geometry):
    assert image.array.dtype == torch.float32
    np.testing.assert_array_equal(image.array.numpy(), array)
    assert image.geometry.shape == geometry.shape
    np.testing.assert_allclose(image.geometry.voxel_to_physical, geometry.voxel_to_physical, atol=1e-4)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "nrrd", "mhd"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    sitk.WriteImage(to_sitk(volume(), OBLIQUE), str(path))
    image = as_image(path)
    assert_same(image, volume(), OBLIQUE)
    assert image.path == str(path)
    # ITK's own answer to where a voxel lies
    there = sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint((6, 2, 3))
    np.testing.assert_allclose((image.geometry.voxel_to_physical @ [3, 2, 6, 1])[:3], there, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_pixel_types(tmp_path, dtype):
    array = volume().astype(dtype)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "image.mha"))
    np.testing.assert_array_equal(as_image(tmp_path / "image.mha").array.numpy(), array.astype(np.float32))


def test_sources_in_memory():
    itk = pytest.importorskip("itk")
    array = volume()
    assert_same(as_image(to_sitk(array, OBLIQUE)), array, OBLIQUE)
    assert_same(as_image(Image(torch.from_numpy(array), OBLIQUE)), array, OBLIQUE)
    assert_same(as_image(array, OBLIQUE), array, OBLIQUE)
    assert_same(as_image(array[::-1, :, ::2].astype(np.float64)), array[::-1, :, ::2], Geometry((5, 6, 4)))
    assert_same(as_image(torch.from_numpy(array).half().requires_grad_(), OBLIQUE),
                array.astype(np.float16).astype(np.float32), OBLIQUE)
    image = itk.image_from_array(array)
    image.SetSpacing(OBLIQUE.spacing)
    image.SetOrigin(OBLIQUE.origin)
    image.SetDirection(itk.matrix_from_array(np.reshape(OBLIQUE.direction, (3, 3))))
    assert_same(as_image(image), array, OBLIQUE)
    part = itk.ImageRegion[3]([2, 1, 1], [4, 5, 3])  # a part keeps its image's origin, and its first index isn't 0
    corner = tuple((OBLIQUE.voxel_to_physical @ [1, 1, 2, 1])[:3])
    assert_same(as_image(itk.extract_image_filter(image, extraction_region=part, direction_collapse_to_strategy=1)),
                array[1:4, 1:6, 2:6], Geometry((3, 5, 4), OBLIQUE.spacing, corner, OBLIQUE.direction))


def test_result_does_not_share_memory_with_a_sitk_image():
    source = to_sitk(volume(), OBLIQUE)
    image = as_image(source)
    source *= 0
    assert image.array.max() > 0


def write_series(directory, count=5, uid="1.2.3.4", thickness=2.5, skip=(), description="T1 axial"):
    directory.mkdir(exist_ok=True)
    array = np.arange(count * 4 * 3, dtype=np.int16).reshape(count, 4, 3)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in set(range(count)) - set(skip):
        image = sitk.GetImageFromArray(array[z])
        image.SetSpacing((0.5, 0.75))
        for key, value in {"0008|0060": "MR", "0008|103e": description, "0020|000e": uid, "0020|000d": "1.2.3",
                           "0008|0018": f"{uid}.{z + 1}", "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
                           "0020|0013": str(z + 1), "0020|0037": "1\\0\\0\\0\\1\\0",
                           "0020|0032": f"-10\\20\\{thickness * z}", "0018|0050": str(thickness)}.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(directory / f"{uid}_{count - z}.dcm"))  # names against the order of the slices
        writer.Execute(image)
    return array


def test_dicom_directory(tmp_path):
    array = write_series(tmp_path / "series")
    image = as_image(tmp_path / "series")
    assert_same(image, array, Geometry((5, 4, 3), (0.5, 0.75, 2.5), (-10.0, 20.0, 0.0)))


def test_dicom_directory_with_two_series(tmp_path):
    write_series(tmp_path / "series")
    write_series(tmp_path / "series", count=3, uid="1.2.3.5", description="T2 sagittal")
    with pytest.raises(InputError, match=r"2 DICOM series.*1\.2\.3\.4.*T1 axial, 5 files.*T2 sagittal, 3 files"):
        as_image(tmp_path / "series")


def test_dicom_with_a_missing_slice(tmp_path):
    write_series(tmp_path / "series", count=7, skip=(3,))
    with pytest.raises(InputError, match=r"missing or unevenly spaced, 2\.5 to 5 mm"):
        as_image(tmp_path / "series")


def test_dicom_slices_all_at_one_place(tmp_path):
    write_series(tmp_path / "series", thickness=0)
    with pytest.raises(InputError, match="one place"):
        as_image(tmp_path / "series")


def bad(array):
    return sitk.GetImageFromArray(np.asarray(array))


def with_values(*values):
    array = volume()
    array.ravel()[: len(values)] = values
    return array


@pytest.mark.parametrize(("source", "message"), [
    (bad(np.ones((4, 5))), r"3-D volume, got 2 dimensions \(5 x 4\)"),
    (sitk.Image([4, 5, 6, 2], sitk.sitkFloat32), r"got 4 dimensions \(4 x 5 x 6 x 2\); give one of its volumes"),
    (np.ones((1, 4, 5, 6)), "got 4 dimensions"),
    (sitk.Image([4, 5, 6], sitk.sitkVectorFloat32, 3), "one value per voxel, got 3"),
    (sitk.Image([4, 5, 6], sitk.sitkComplexFloat32), "real numbers, got.*complex"),
    (np.ones((4, 5, 6), complex), "real numbers, got complex128"),
    (torch.ones((4, 5, 6), dtype=torch.complex64), "real numbers, got complex64"),
    (volume((1, 6, 7)), "at least 2 voxels along every axis, got 7 x 6 x 1"),
    (np.zeros((0, 4, 4)), "at least 2 voxels"),
    (with_values(np.nan, 1, np.nan), "2 of 210 voxels are NaN or infinite"),
    (with_values(np.inf), "1 of 210 voxels are NaN or infinite"),
    (np.full((4, 5, 6), 1e60), "120 of 120 voxels are NaN or infinite"),
    (np.full((4, 5, 6), 7), "constant, every voxel is 7"),
    (Image(torch.rand(1, 5, 6), Geometry((1, 5, 6))), "at least 2 voxels along every axis, got 6 x 5 x 1"),
    (17, "must be a path.*got int"),
    (None, "must be a path.*got NoneType"),
])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_unusable(source, message):
    with pytest.raises(InputError, match=f"^fixed image: .*{message}"):
        as_image(source, name="fixed image")


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_nifti_that_is_not_finite(tmp_path, suffix, dtype, value):
    """ITK would read it as 0."""
    array = volume().astype(dtype)
    array[1, 2, 3] = array[4, 5, 6] = value
    path = tmp_path / f"image.{suffix}"
    sitk.WriteImage(to_sitk(array, OBLIQUE), str(path))
    assert np.isfinite(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).all()
    with pytest.raises(InputError, match=r"2 of 210 voxels are NaN or infinite"):
        as_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("missing", [1, 700, 10 ** 9])
def test_nifti_that_is_cut_short(tmp_path, suffix, dtype, missing):
    """ITK would read what is missing as 0."""
    path = tmp_path / f"image.{suffix}"
    array = np.random.default_rng(0).integers(0, 200, (20, 21, 22)).astype(dtype)
    sitk.WriteImage(to_sitk(array, Geometry(array.shape)), str(path))
    np.testing.assert_array_equal(as_image(path).array.numpy(), array)
    whole = path.read_bytes()
    path.write_bytes(whole[:max(400, len(whole) - missing - 30 * suffix.endswith("gz"))])  # its end holds no voxels
    with pytest.raises(InputError, match="cut short"):
        as_image(path)


def test_nifti_of_the_other_byte_order(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    array = volume()
    path = tmp_path / "big.nii"
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([-1, -1, 1, 1]), nibabel.Nifti1Header(endianness=">")), path)
    assert_same(as_image(path), array, Geometry(array.shape))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="cut short, 839 of 840 bytes"):
        as_image(path)


def test_what_complains_below_has_no_address_in_the_sentence(tmp_path):
    (tmp_path / "text.mha").write_text("ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_FLOAT\n"
                                       "ElementDataFile = absent.raw\n")
    with pytest.raises(InputError, match="cannot be read") as caught:
        as_image(tmp_path / "text.mha")
    assert "0x" not in str(caught.value)


def test_a_path_too_long_is_no_file():
    with pytest.raises(InputError, match="no such file"):
        as_image("x" * 5000)


@pytest.mark.parametrize(("change", "message"), [
    ({"spacing": (0.0, 1.0, 1.0)}, "spacing must be positive"), ({"spacing": (-1.0, 1.0, 1.0)}, "spacing must be"),
    ({"spacing": (np.nan, 1.0, 1.0)}, "spacing must be"), ({"origin": (0.0, np.nan, 0.0)}, "origin must be finite"),
    ({"direction": (1.0, 0.5, 0, 0, 1, 0, 0, 0, 1)}, "at right angles"), ({"direction": (0.0,) * 9}, "length 1"),
    ({"direction": (np.nan, *(0.0,) * 8)}, "length 1")])
def test_a_grid_that_is_none(change, message):
    geometry = Geometry((5, 6, 7), **change)
    for source, argument in ((volume(), geometry), (Image(torch.from_numpy(volume()), geometry), None)):
        with pytest.raises(InputError, match=message):
            as_image(source, argument)


def test_unusable_files(tmp_path):
    cases = {"missing.nii.gz": "no such file"}
    for name in ("text.nii.gz", "text.nrrd", "text.mha", "text.xyz"):
        (tmp_path / name).write_text("this is no image")
        cases[name] = "cannot be read"
    sitk.WriteImage(to_sitk(volume((20, 20, 20)), Geometry((20, 20, 20))), str(tmp_path / "whole.mha"))
    (tmp_path / "cut.mha").write_bytes((tmp_path / "whole.mha").read_bytes()[:5000])
    cases["cut.mha"] = "cannot be read"
    (tmp_path / "empty").mkdir()
    cases["empty"] = "directory without a DICOM series"
    colours = sitk.GetImageFromArray(np.zeros((4, 4, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "colours.nrrd"))
    cases["colours.nrrd"] = "one value per voxel, got 3"
    sitk.WriteImage(sitk.Image([4, 5, 6, 2], sitk.sitkFloat32), str(tmp_path / "series.nii"))
    cases["series.nii"] = "got 4 dimensions"
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            as_image(tmp_path / name, name="moving image")
        text = str(caught.value)
        assert text.startswith(f"moving image {tmp_path / name}: ")
        assert "\n" not in text


def test_geometry_is_for_arrays_of_its_shape():
    with pytest.raises(InputError, match="geometry is for arrays only"):
        as_image(to_sitk(volume(), OBLIQUE), OBLIQUE)
    with pytest.raises(InputError, match=r"shape of its geometry, \(5, 6, 7\), got \(5, 6, 6\)"):
        as_image(volume((5, 6, 6)), OBLIQUE)


def test_mask():
    image = Image(torch.from_numpy(volume()), OBLIQUE)
    inside = np.zeros((5, 6, 7), np.uint8)
    inside[1:3, 2:4, 3:] = 4
    expected = (inside > 0).astype(np.float32)
    for source in (inside, to_sitk(inside, OBLIQUE)):
        mask = as_mask(source, image)
        assert_same(mask, expected, OBLIQUE)
    everywhere = as_mask(np.ones((5, 6, 7)), image)  # constant is fine for a mask
    assert everywhere.array.all()
    # the upper part of the same grid: its own origin
    corner = tuple((OBLIQUE.voxel_to_physical @ [2, 0, 0, 1])[:3])
    upper = Geometry((3, 6, 7), OBLIQUE.spacing, corner, OBLIQUE.direction)
    expected[:2] = 0
    assert_same(as_mask(to_sitk(inside[2:], upper), image), expected, OBLIQUE)
    # half as many voxels, twice as large
    coarse = Geometry((3, 3, 4), tuple(2 * s for s in OBLIQUE.spacing),
                      tuple((OBLIQUE.voxel_to_physical @ [0.5, 0.5, 0.5, 1])[:3]), OBLIQUE.direction)
    blocks = np.random.default_rng(0).integers(0, 2, coarse.shape).astype(np.uint8)
    fine = blocks.repeat(2, 0).repeat(2, 1).repeat(2, 2)[:5, :6, :7]
    assert_same(as_mask(to_sitk(blocks, coarse), image), fine, OBLIQUE)
    with pytest.raises(InputError, match="empty"):
        as_mask(inside * 0, image, name="fixed mask")
    with pytest.raises(InputError, match="fixed mask: 1 of 210 voxels are NaN"):
        as_mask(with_values(np.nan), image, name="fixed mask")
    far = Geometry((5, 6, 7), OBLIQUE.spacing, (1e4, 0.0, 0.0))
    with pytest.raises(InputError, match="outside its image"):
        as_mask(to_sitk(inside, far), image, name="fixed mask")
