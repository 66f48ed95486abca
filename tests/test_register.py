"""Promise: images in, transform out, on real scans: what the command line writes brings landmarks together."""

import json
import pathlib

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import pymasr
from pymasr import cli
from pymasr.errors import InputError
from pymasr.evaluation import target_registration_error
from pymasr.geometry import Geometry
from pymasr.sitk import geometry_of, to_sitk

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the development data are not beside the repository")


def rods(geometry, invert=False, seed=0):
    """Rods and balls at fixed places in space (LPS mm), as one of two modalities sees them."""
    rng = np.random.default_rng(seed)
    voxels = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)
    points = voxels @ geometry.voxel_to_physical[:3, :3].T + geometry.voxel_to_physical[:3, 3]
    array = np.zeros(geometry.shape)
    for _ in range(25):
        centre, scale, value = rng.uniform(-22, 22, 3), rng.uniform(0.1, 0.35, 3), rng.uniform(0.3, 1)
        array = np.maximum(array, value / (1 + np.exp(2 * (np.linalg.norm((points - centre) * scale, axis=-1) - 1.5))))
    array = (1.1 - array) ** 2 if invert else array
    return (1000 * (array + rng.normal(0, 0.005, array.shape))).astype(np.float32)


def shifted(geometry, shift):
    """The same grid, and what lies on it, elsewhere."""
    return Geometry(geometry.shape, geometry.spacing, tuple(np.add(geometry.origin, shift)), geometry.direction)


def test_two_modalities_on_different_grids():
    """A shift of 5 mm that only the headers know of is found again, across spacing, flip and contrast."""
    fixed = Geometry((40, 48, 44), (1.2, 1.1, 1.3), (-26.0, 26.0, -26.0), (1.0, 0, 0, 0, -1, 0, 0, 0, 1))
    moving = Geometry((46, 42, 48), (1.2, 1.3, 1.1), (-28.0, -27.0, -25.0))
    shift = np.array([3.0, -4.0, 2.0])
    result = pymasr.register(rods(fixed), to_sitk(rods(moving, invert=True), shifted(moving, shift)), preset="fast",
                             fixed_geometry=fixed)
    points = np.random.default_rng(5).uniform(-18, 18, (50, 3))
    assert target_registration_error(None, points, points + shift).mean() > 5
    assert target_registration_error(result.transform, points, points + shift).mean() < 1
    assert result.report["similarity_after"] < result.report["similarity_before"]
    assert geometry_of(result.warped) == geometry_of(result.displacement)
    correlation = np.corrcoef(sitk.GetArrayFromImage(result.warped).ravel(), rods(fixed).ravel())[0, 1]
    assert correlation < -0.8


@pytest.mark.parametrize(("options", "message"), [
    ({"preset": "best"}, "fast, default, accurate"), ({"features": "sift"}, "mind or dns"),
    ({"transform": "elastic"}, "rigid, similarity, affine, deformable"), ({"initial": "top"}, "moments, search"),
    ({"device": "tpu"}, "auto, cpu, cuda"), ({"sped": 3}, "sped")])
def test_wrong_option(options, message):
    array = rods(Geometry((10, 10, 10)))
    with pytest.raises(ValueError, match=message) as caught:
        pymasr.register(array, array, **options)
    assert "\n" not in str(caught.value)


def test_images_apart_in_space(tmp_path, capsys):
    grid = Geometry((16, 16, 16))
    for name, geometry in (("fixed", grid), ("moving", shifted(grid, (500, 0, 0)))):
        sitk.WriteImage(to_sitk(rods(grid), geometry), str(tmp_path / f"{name}.nrrd"))
    status = cli.main(["register", str(tmp_path / "fixed.nrrd"), str(tmp_path / "moving.nrrd"), "-o",
                       str(tmp_path / "out"), "--initial", "headers"])
    text = capsys.readouterr().err
    assert status == cli.WRONG_USE
    assert text.startswith("pymasr: error: ") and "overlap" in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bad_arrays():
    good = rods(Geometry((10, 10, 10)))
    with pytest.raises(InputError, match=r"moving image: must be a 3-D volume"):
        pymasr.register(good, good[0])
    with pytest.raises(InputError, match=r"fixed mask: is empty"):
        pymasr.register(good, torch.from_numpy(good), fixed_mask=good * 0)


def test_weights():
    """The same everywhere is as good as none; what no place can count by is refused."""
    images = [rods(Geometry((20, 22, 24), (2.0, 2.0, 2.0), (-23.0, -21.0, -19.0)), invert) for invert in (False, True)]
    options = {"preset": "fast", "levels": ((1, 4, 2),), "initial": "headers"}
    plain, even = (pymasr.register(*images, **options, **weights).solution for weights in (
        {}, {"fixed_weights": np.full((20, 22, 24), 2.0)}))
    assert torch.equal(plain.displacement, even.displacement) and np.array_equal(plain.affine, even.affine)
    for value, message in ((-1.0, "must be finite numbers of at least 0, got -1 to -1"), (np.nan, "must be finite"),
                           (0.0, "are 0 wherever the fixed image")):
        with pytest.raises(InputError, match=f"the fixed weights {message}"):
            pymasr.register(*images, **options, fixed_weights=np.full((20, 22, 24), value))


@needs_data
@pytest.mark.parametrize("features", ["mind", "dns"])
def test_real_scans(tmp_path, features):
    level = DATA / "openms_p07" / "medium"
    assert cli.main(["register", str(level / "fixed_T2.nii.gz"), str(DATA / "openms_p07" / "aligned_T1.nii.gz"),
                     "-o", str(tmp_path), "--features", features, "-q"]) == 0
    field = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "displacement.nii.gz")))
    # the truth is stored with RAS vectors, a fourth axis of three components to ITK
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(level / "disp_fixed2moving_mm.nii.gz")))
    truth = np.moveaxis(truth, 0, -1) * (-1, -1, 1)
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(level / "fixed_mask.nii.gz"))) > 0
    error = np.linalg.norm(field - truth, axis=-1)[inside]
    assert error.mean() < 1.2
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["folded"] < 1e-3
