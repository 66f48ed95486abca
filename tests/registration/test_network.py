"""Promise: --method network brings the images together on any grids, --method network+optimise more so, with the same
results and report as the optimisation; what it cannot do it says."""

import dataclasses
import json

import phantom
import pytest
import torch
from test_engine import GRIDS, QUICK

from pymasr import cli
from pymasr.errors import InputError
from pymasr.features import Dsir, IntensityDNS, Mind, parse
from pymasr.models import RegistrationNet, packaged
from pymasr.registration import Settings, register_images
from pymasr.registration.comparison import Comparison

NETWORK = dataclasses.replace(QUICK, method="network")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that has not been trained: a matcher."""
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        packaged.save(RegistrationNet(), file)
    return str(file)


def bent(points):
    matrix = phantom.affine(phantom.about_centre(phantom.rotation(5, 1), (2.0, 3.0, -2.0)))
    return phantom.bend(matrix(points))


@pytest.mark.parametrize("grids", GRIDS)
def test_deformation_is_found_on_any_grids(weights, grids):
    fixed, moving = GRIDS[grids]
    solution = register_images(*phantom.pair(fixed, moving, bent), dataclasses.replace(NETWORK, network=weights))
    _, after = phantom.errors(solution, fixed, moving, bent)
    affine_only = dataclasses.replace(solution, displacement=torch.zeros_like(solution.displacement))
    assert after < 0.75 * phantom.errors(affine_only, fixed, moving, bent)[1]
    assert [s["name"] for s in solution.stages] == ["preparation", "start", "affine", "network", "comparison"]
    assert solution.similarity_after < solution.similarity_before and solution.displacement.shape == (3, *fixed.shape)


def test_an_optimisation_goes_on_from_there(weights):
    fixed, moving = GRIDS["same"]
    images = phantom.pair(fixed, moving, bent)
    one, both = (register_images(*images, dataclasses.replace(NETWORK, network=weights, method=method))
                 for method in ("network", "network+optimise"))
    errors = [phantom.errors(solution, fixed, moving, bent)[1] for solution in (one, both)]
    assert errors[1] < 0.7 * errors[0]
    assert [s["name"] for s in both.stages][-2:] == ["network", "deformable"]
    assert {entry["level"] for entry in both.history if entry["stage"] == "deformable"} == {1, 2, 3}


@pytest.mark.parametrize("noise, features, expected", [
    (0.0, "masr", {"dns": 0.75}), (0.035, "masr", {"dsir": 0.125, "dns": 0.375}), (0.1, "masr", {"dsir": 0.25}),
    (0.0, "dsir", {"dsir": 1.0}), (0.0, "mind + dns", {"mind": 1.0, "dns": 1.0})])
def test_what_has_been_found_settles_by_what_the_noise_asks_for(noise, features, expected):
    names = {Dsir: "dsir", IntensityDNS: "dns", Mind: "mind"}
    comparison = Comparison(parse(features), noise=noise, smoothing=None, settling=True)
    assert {names[type(term.descriptor)]: pytest.approx(term.weight) for term in comparison.terms} == expected


def test_masks_are_warned_of(weights):
    fixed, moving = phantom.pair(*GRIDS["same"], bent)
    mask = phantom.Image(torch.ones_like(fixed.array), fixed.geometry)
    for method, words in (("network", "for the affine transform alone"),
                          ("network+optimise", "for the affine transform and the optimisation alone")):
        settings = dataclasses.replace(NETWORK, network=weights, method=method, affine_levels=(), affine=True)
        solution = register_images(fixed, moving, settings, fixed_mask=mask)
        assert any("The network saw the whole images" in text and words in text for text in solution.warnings)


def test_images_that_are_too_small(weights):
    grid = phantom.grid((12, 42, 44))
    with pytest.raises(InputError, match=r"needs at least 17 voxels of 2.5 mm along each axis of the fixed image, got "
                                         r"44 x 42 x 12; use method optimise"):
        register_images(*phantom.pair(grid, grid, bent), dataclasses.replace(NETWORK, network=weights))


@pytest.mark.parametrize("settings, message", [
    ({"method": "guess"}, "method must be one of optimise, network, network"),
    ({"method": "network", "transform": "affine"}, "transform must be 'deformable' with method 'network', got 'aff"),
    ({"method": "network", "symmetric": True}, "symmetric must be False with method 'network', got True"),
    ({"method": "network", "robust": True}, "robust must be False with method 'network'"),
    ({"refinement": ((1, 4),)}, "refinement must be a tuple of DeformableLevel"),
    ({"network": 3}, "network must be a name or a file"),
])
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        Settings(**settings)


def test_weights_that_are_none(tmp_path):
    images = phantom.pair(*GRIDS["same"], bent)
    with pytest.raises(InputError, match=r"weights must be registration or a .safetensors file, got masr$"):
        register_images(*images, dataclasses.replace(NETWORK, network="masr"))


def test_the_command_line(weights, tmp_path, capsys):
    import SimpleITK as sitk

    for name, image in zip(("fixed", "moving"), phantom.pair(*GRIDS["same"], bent)):
        array = sitk.GetImageFromArray(image.array.numpy())
        array.SetSpacing(image.geometry.spacing)
        array.SetOrigin(image.geometry.origin)
        sitk.WriteImage(array, str(tmp_path / f"{name}.nii.gz"))
    command = ["register", str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz"), "-o", str(tmp_path / "out"),
               "--initial", "headers", "--device", "cpu"]
    assert cli.main([*command, "--method", "network", "--network", weights]) == 0
    assert (tmp_path / "out" / "transform.h5").exists()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["method"] == "network" and report["settings"]["network"] == weights
    assert report["similarity_after"] < report["similarity_before"] and report["folded_voxels"] == 0
    assert cli.main([*command, "--method", "network", "--network", "nothing"]) == cli.WRONG_USE
    assert "weights must be" in capsys.readouterr().err


@pytest.mark.skipif("registration" not in packaged.REGISTRATION, reason="no weights are packaged yet")
def test_the_packaged_network():
    """On two contrasts of a phantom: better than the affine transform, and it does not fold."""
    fixed, moving = GRIDS["same"]
    solution = register_images(*phantom.pair(fixed, moving, bent), NETWORK)
    _, after = phantom.errors(solution, fixed, moving, bent)
    affine_only = dataclasses.replace(solution, displacement=torch.zeros_like(solution.displacement))
    assert after < 0.75 * phantom.errors(affine_only, fixed, moving, bent)[1]
    details = packaged.details("registration")
    assert details["config"]["task"] == "registration" and details["input"] == packaged.INPUT
