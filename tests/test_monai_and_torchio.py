"""Promise: in a MONAI or TorchIO pipeline one image is registered to another, and what lies where it lay goes along."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import pymasr
from pymasr import kinds
from pymasr.demo import make_pair
from pymasr.errors import InputError
from pymasr.io import as_image
from pymasr.sitk import geometry_of, to_sitk

SETTINGS = {"preset": "fast", "features": "dns"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """fixed.nii.gz, moving.nii.gz and their labels, in space as files of two scanners."""
    folder = tmp_path_factory.mktemp("pair")
    make_pair((24, 28, 26), 6.0, deformation=2.0, rotation=4.0, shift=(5.0, -3.0, 4.0), points=10).save(folder)
    return folder


def expected(folder, fixed, moving):
    """What pymasr.register gives, and the labels that SimpleITK makes of the file with its transform."""
    result = pymasr.register(fixed, moving, **SETTINGS)
    grid = to_sitk(result.warped_array, result.fixed.geometry)
    labels = sitk.ReadImage(str(folder / "moving_labels.nii.gz"))
    return result, grid, sitk.Resample(labels, grid, result.transform, sitk.sitkNearestNeighbor, 0)


def assert_same(image, expected, atol=0.0):
    array, theirs = as_image(image).array.numpy(), sitk.GetArrayFromImage(expected)
    assert array.shape == theirs.shape
    different = np.abs(array - theirs) > atol
    assert different.mean() < 1e-3  # libraries read positions with other roundings: a label may fall to the other side
    np.testing.assert_allclose(as_image(image).geometry.voxel_to_physical, geometry_of(expected).voxel_to_physical,
                               atol=1e-3)


@pytest.fixture(scope="module")
def monai():
    return pytest.importorskip("monai.transforms", reason="MONAI is not installed: pip install 'pymasr[monai]'")


@pytest.fixture
def data(monai, folder):
    load = monai.LoadImaged(["fixed", "moving", "labels"], ensure_channel_first=True)
    return load({name: folder / f"{file}.nii.gz" for name, file in (
        ("fixed", "fixed"), ("moving", "moving"), ("labels", "moving_labels"))})


def test_monai_registers(monai, data, folder):
    from pymasr.monai import Registerd, Warpd

    data["labels"] = data["labels"].to(torch.uint8)
    before = {key: data[key].clone() for key in ("fixed", "moving")}
    data["one hot"] = monai.AsDiscrete(to_onehot=int(data["labels"].max()) + 1)(data["labels"])
    out = monai.Compose([
        Registerd("fixed", "moving", ["labels", "one hot"], mode="nearest", transform_key="T", **SETTINGS),
        monai.ScaleIntensityd("moving")])(data)
    _, warped, labels = expected(folder, data["fixed"], data["moving"])
    assert_same(out["moving"], sitk.RescaleIntensity(warped, 0, 1), 1e-5)
    assert_same(out["labels"], labels)
    assert out["labels"].dtype == torch.uint8 and out["labels"].shape == data["fixed"].shape
    assert torch.equal(out["one hot"].argmax(0), out["labels"][0].long())
    assert torch.equal(out["fixed"], before["fixed"]) and torch.equal(data["moving"], before["moving"])
    again = Warpd("labels", "T", "fixed", mode="nearest")({**data, "T": out["T"]})
    assert torch.equal(again["labels"], out["labels"])


def test_monai_saves_a_warped_image_where_it_lies(monai, data, tmp_path):
    from pymasr.monai import Registerd

    grid = as_image(data["fixed"]).geometry
    out = Registerd("fixed", "moving", fixed_mask="fixed", **SETTINGS)(data)
    monai.SaveImage(tmp_path, "", separate_folder=False, print_log=False)(out["moving"], filename=tmp_path / "out")
    again = as_image(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(again.array, as_image(out["moving"]).array)
    np.testing.assert_allclose(again.geometry.voxel_to_physical, grid.voxel_to_physical, atol=1e-3)


def test_wrong_use_in_monai(data, tmp_path):
    from pymasr.monai import Registerd, Warpd

    with pytest.raises(InputError, match="mode must be one of bilinear, nearest, got 'cubic'"):
        Registerd("fixed", "moving", "labels", mode="cubic")
    with pytest.raises(KeyError, match="no key 'mr'"):
        Registerd("fixed", "mr")(data)
    with pytest.raises(KeyError, match="lesions"):
        Registerd("fixed", "moving", "lesions", **SETTINGS)(data)
    with pytest.raises(InputError, match="nothing"):
        Warpd("labels", "nothing", "fixed")(data)
    (tmp_path / "bad.h5").write_text("no transform")
    with pytest.raises(InputError, match=r"bad\.h5"):
        Warpd("labels", tmp_path / "bad.h5", "fixed")(data)


@pytest.fixture(scope="module")
def torchio():
    return pytest.importorskip("torchio", reason="TorchIO is not installed: pip install 'pymasr[torchio]'")


@pytest.fixture
def subject(torchio, folder):
    return torchio.Subject(fixed=torchio.ScalarImage(folder / "fixed.nii.gz"),
                           moving=torchio.ScalarImage(folder / "moving.nii.gz"),
                           labels=torchio.LabelMap(folder / "moving_labels.nii.gz"), name="somebody")


def test_torchio(torchio, subject, folder, tmp_path):
    from pymasr.torchio import Register, Warp

    out = torchio.Compose([Register("fixed", "moving", ["labels"], SETTINGS), torchio.Clamp(out_max=0.5)])(subject)
    result, warped, labels = expected(folder, subject["fixed"], subject["moving"])
    assert_same(out["moving"], sitk.Clamp(warped, upperBound=0.5), 1e-5)
    assert_same(out["labels"], labels)
    assert out["labels"].data.dtype == torch.uint8 and out["name"] == "somebody"
    assert out["moving"].shape == out["labels"].shape == out["fixed"].shape
    assert as_image(subject["moving"]).geometry.origin != as_image(out["moving"]).geometry.origin
    assert torch.equal(out.get_composed_history()(subject)["labels"].data, out["labels"].data)

    sitk.WriteTransform(result.transform, str(tmp_path / "T.h5"))
    alone = Warp(tmp_path / "T.h5", "fixed", include=["labels"])(subject)
    assert torch.equal(alone["labels"].data, out["labels"].data)
    assert torch.equal(alone["moving"].data, subject["moving"].data)
    both = Warp(result.transform, "fixed")(subject)
    assert_same(both["moving"], warped, 1e-4)
    assert torch.equal(both["fixed"].data, subject["fixed"].data)


def test_wrong_use_in_torchio(subject):
    from pymasr.torchio import Register, Warp

    with pytest.raises(InputError, match="no image called 'ct', it has fixed, moving, labels"):
        Register("ct", "moving")(subject)
    with pytest.raises(InputError, match=r"nothing\.h5"):
        Warp("nothing.h5", "fixed")(subject)


@pytest.mark.parametrize(("array", "expected"), [
    (np.zeros((3, 4, 5), bool), sitk.sitkUInt8), (np.zeros((3, 4, 5), np.float16), sitk.sitkFloat32),
    (torch.zeros(3, 4, 5, dtype=torch.bfloat16), sitk.sitkFloat32), (np.zeros((3, 4, 5), np.int64), sitk.sitkInt64)])
def test_types_that_simpleitk_lacks(array, expected):
    assert kinds.to_sitk(array).GetPixelID() == expected


def test_what_is_no_image():
    with pytest.raises(InputError, match="dict is no kind of image"):
        kinds.to_sitk({})
    with pytest.raises(InputError, match=r"3-D volume .* got shape \(2, 3, 4, 5\)"):
        kinds.to_sitk(np.zeros((2, 3, 4, 5)))
    with pytest.raises(InputError, match=r"nothing\.nii: no such file"):
        kinds.to_sitk("nothing.nii")
