"""Promise: descriptors come out on the grid of the image, wherever it lies, with a picture that is always the same."""

import networks
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import pymasr
from pymasr import cli, ops
from pymasr.errors import InputError
from pymasr.extraction import FILES, destination
from pymasr.feature_picture import Colours
from pymasr.features import IntensityDNS, Mind, normalise
from pymasr.geometry import Geometry
from pymasr.models import describe, save
from pymasr.registration import grids
from pymasr.sitk import to_sitk

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def scan(size=(12, 14, 16), seed=0):
    image = 300 * networks.random_image(size, seed) + 20
    image[:2] = 0
    return image


def test_isotropic_images_are_described_as_they_are():
    image = scan()
    result = pymasr.extract_features(image, features="mind + dns")
    assert (result.spacing, result.interpolated) == (1.0, False)
    values = normalise(image)
    assert torch.equal(result.array, torch.cat([Mind()(values), IntensityDNS()(values)]))
    assert result.array.stride(0) == 1
    window = pymasr.extract_features(image, features="dns", window=(0, 200))
    assert torch.equal(window.array, IntensityDNS()(normalise(image, (0, 200))))


def test_the_learned_descriptor(tmp_path):
    model = networks.small_network()
    save(model, tmp_path / "net.safetensors")
    result = pymasr.extract_features(scan(), features=f"dsir(weights={str(tmp_path / 'net.safetensors')!r}, "
                                                      "precision='float32')")
    assert torch.equal(result.array, describe(model, normalise(scan()), precision="float32"))


def test_other_voxels_are_interpolated_there_and_back():
    """Every second plane of an isotropic image: its descriptors are nearly those of the image, at these planes."""
    image = networks.random_image((32, 20, 22), 3)
    image = torch.nn.functional.avg_pool3d(image[None, None], 5, 1, 2)[0, 0]
    whole = pymasr.extract_features(image, features="dns(noise=1e-5)").array[:, 4:-4:2, 2:-2, 2:-2]
    thick = Geometry((16, 20, 22), (1.0, 1.0, 2.0))
    result = pymasr.extract_features(image[::2], features="dns(noise=1e-5)", geometry=thick, spacing=1.0)
    assert result.interpolated and result.array.shape == (12, 16, 20, 22) and result.geometry == thick
    found = result.array[:, 2:-2, 2:-2, 2:-2]
    assert torch.corrcoef(torch.stack([found.flatten(), whole.flatten()]))[0, 1] > 0.9
    ignoring = pymasr.extract_features(image[::2], features="dns(noise=1e-5)").array[:, 2:-2, 2:-2, 2:-2]
    assert (found - whole).square().mean() < 0.5 * (ignoring - whole).square().mean()
    assert pymasr.extract_features(image[::2], features="dns", geometry=thick).spacing == pytest.approx(2 ** (1 / 3))


def test_coarser_voxels_lie_where_they_should():
    image = scan((12, 12, 12))
    coarse = pymasr.extract_features(image, features="mind", spacing=2.0)
    assert coarse.array.shape == (12, 12, 12, 12) and coarse.interpolated
    grid = Geometry((6, 6, 6), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5))  # fills the volume that the image fills
    described = Mind()(grids.resample(normalise(image), Geometry((12, 12, 12)), grid))
    matrix = torch.tensor([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25]])
    assert torch.allclose(coarse.array, ops.warp(described, matrix=matrix, shape=(12, 12, 12)), atol=1e-5)


@pytest.mark.parametrize("name", ["features.nrrd", "t1.mha", "t1.nii", "t1.nii.gz"])
def test_files_lie_where_the_image_lies(tmp_path, name):
    geometry = Geometry((12, 14, 16), (1.5, 1.5, 1.5), (-20.0, 31.0, 7.0), OBLIQUE)
    result = pymasr.extract_features(to_sitk(scan().numpy(), geometry), features="mind")
    written = result.save(tmp_path / "new" / name)
    assert [p.name for p in written] == [name, f"{name.split('.')[0]}_pca.png"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in written)
    image = sitk.ReadImage(str(written[0]))
    assert image.GetNumberOfComponentsPerPixel() == 12 and image.GetSize() == (16, 14, 12)
    np.testing.assert_allclose(image.GetSpacing(), geometry.spacing, rtol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), geometry.origin, rtol=1e-5)
    np.testing.assert_allclose(image.GetDirection(), geometry.direction, atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), result.array.permute(1, 2, 3, 0).numpy())


def test_where_files_go(tmp_path):
    assert destination("a/b/t1.nii.gz")[1] == ("t1.nii.gz", "t1_pca.png")
    assert destination("a/b.v2") == (destination("a/b.v2")[0], FILES)
    (tmp_path / "odd.nrrd").mkdir()
    assert destination(tmp_path / "odd.nrrd") == (tmp_path / "odd.nrrd", FILES)


def test_the_picture_is_always_the_same_and_shows_the_features(tmp_path):
    result = pymasr.extract_features(scan((20, 24, 28)), features="dns")
    pictures = []
    for name in ("a", "b"):
        result.save(tmp_path / name)
        pictures.append((tmp_path / name / "pca.png").read_bytes())
    assert pictures[0] == pictures[1]
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a" / "pca.png")))[..., :3].astype(int)
    left, right = np.array_split(pixels[60:], 2, axis=1)
    assert np.ptp(left, axis=-1).max() > 0  # the letters
    assert (np.ptp(right, axis=-1) > 60).mean() > 0.2 > (np.ptp(left, axis=-1) > 60).mean()


def test_colours_are_principal_components_with_a_fixed_sign():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(4000, 5)) * [0.1, 3, 0.2, 1, 2] + 7
    colours = Colours.of(vectors)
    assert np.abs(colours.components).argmax(0).tolist() == [1, 4, 3]
    assert (colours.components[[1, 4, 3], range(3)] > 0.95).all()
    other = Colours.of(vectors[::-1])
    np.testing.assert_allclose(other.components, colours.components, atol=1e-8)
    painted = colours(vectors.reshape(40, 100, 5))
    assert painted.shape == (40, 100, 3) and painted.min() == 0 and painted.max() == 1
    assert np.corrcoef(painted[..., 0].ravel(), vectors[:, 1])[0, 1] > 0.95
    assert np.isfinite(Colours.of(np.ones((50, 4)))(np.ones((2, 4)))).all()


def test_the_command(tmp_path, capsys):
    file = str(tmp_path / "scan.mha")
    sitk.WriteImage(to_sitk(scan().numpy(), Geometry((12, 14, 16), (1.0, 1.0, 2.0))), file)
    arguments = ["features", file, "-o", str(tmp_path / "out"), "--features", "mind"]
    assert cli.main([*arguments, "--window", "-20", "400", "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.splitlines() == [
        "mind: 12 channels, on voxels of 1.26 mm, the image interpolated for that, the descriptors interpolated back",
        f"wrote {tmp_path / 'out' / 'features.nrrd'}", f"wrote {tmp_path / 'out' / 'pca.png'}"]
    assert cli.main([*arguments, "-q", "--spacing", "2"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options, message", [
    (["--features", "0.5 * mind"], "features: weights count only where images are compared, leave them out, got '0.5"),
    (["--features", "nmi"], "there is no descriptor called nmi"),
    (["--window", "5", "5"], "window must be two rising numbers (low, high), got (5.0, 5.0)"),
    (["--window", "nan", "5"], "window must be two rising numbers"),
    (["--window", "1e6", "2e6"], "the image has no contrast between the intensities 1e+06 and 2e+06"),
    (["--spacing", "0"], "spacing must be a positive number of mm, got 0.0"),
    (["--spacing", "x"], "argument --spacing: invalid float value: 'x'"),
    (["-o", "SCAN/out"], "is not a directory"),
])
def test_what_makes_no_sense_is_refused_in_one_sentence(tmp_path, capsys, options, message):
    file = str(tmp_path / "scan.mha")
    sitk.WriteImage(to_sitk(scan().numpy(), Geometry((12, 14, 16))), file)
    options = [option.replace("SCAN", file) for option in options]
    assert cli.main(["features", file, "-o", str(tmp_path / "out"), "--features", "dns", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err and printed.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["scan.mha"]


def test_an_image_that_is_none_is_refused():
    with pytest.raises(InputError, match="image: is constant"):
        pymasr.extract_features(np.ones((5, 6, 7)), features="dns")
