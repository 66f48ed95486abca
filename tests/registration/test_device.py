"""Promise: a registration computes on the device that it is told to, waits for it no more often than it says, and finds
there what it finds on the CPU. Without a GPU a stand-in takes its place, see distant.py."""

import collections
import contextlib
import dataclasses
import warnings

import distant
import numpy as np
import phantom
import pytest
import torch

from pymasr import numerics
from pymasr.registration import AffineLevel, DeformableLevel, Settings, register_images
from pymasr.registration.inversion import invert

QUICK = Settings.from_preset(features="dns", affine_levels=(AffineLevel(4, 8), AffineLevel(2, 6)), tolerance=0.0,
                             min_size=6, levels=(DeformableLevel(2, 4, 6), DeformableLevel(1, 4, 4)))
OBLIQUE = phantom.rotation(20, 0) @ phantom.rotation(-15, 2)
FIXED = phantom.grid((30, 32, 34), (3.0, 3.0, 3.0), direction=OBLIQUE)
MOVING = phantom.grid((32, 30, 33), (3.0, 3.2, 3.0))


class StandIn:
    """The device of distant.py."""

    name = "stand-in"

    def __init__(self, monkeypatch):
        self.mode = distant.install(monkeypatch)

    @contextlib.contextmanager
    def counting(self):
        """Gives a counter of how often the device was waited for, by kind."""
        self.mode.counts = collections.Counter()
        with self.mode:
            yield self.mode.counts


class Cuda:
    """A real one; torch tells that it waits, but not for what."""

    name = "cuda"

    @contextlib.contextmanager
    def counting(self):
        counts = collections.Counter()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield counts
            counts["wait"] = sum("synchronizing CUDA operation" in str(w.message) for w in caught)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(params=["stand-in", "cuda"])
def device(request, monkeypatch):
    if request.param == "stand-in":
        return StandIn(monkeypatch)
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return Cuda()


def near_masks():
    mask = torch.ones(FIXED.shape)
    mask[:, 10:20, 24:] = 0
    return {"fixed_weights": phantom.Image(mask + 0.5, FIXED), "fixed_mask": phantom.Image(mask, FIXED)}


def turned(points):
    return phantom.bend(phantom.affine(phantom.about_centre(phantom.rotation(6, 1), (2.0, 3.0, -2.0)))(points))


CASES = {
    "default": ({}, {}),
    "plain adam": ({"diffeomorphic": False, "optimiser": "adam", "discrete": False, "storage": "float32"}, {}),
    "symmetric robust weighted": ({"symmetric": True, "robust": True, "smoothing": 0.5}, near_masks()),
    "slab by slab": ({"feature_memory": 1e-5, "features": "dns + 0.5 * mind"}, {}),
    "searched": ({"transform": "rigid"}, {"initial": "search"}),
    "by moments": ({"transform": "affine"}, {"initial": "moments"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_device_finds_what_the_cpu_finds(case, device):
    settings, options = CASES[case]
    settings = dataclasses.replace(QUICK, **settings)
    images = phantom.pair(FIXED, MOVING, turned)
    expected = register_images(*images, dataclasses.replace(settings, device="cpu"), **options)
    with device.counting():
        found = register_images(*images, dataclasses.replace(settings, device="cuda"), **options)
        assert found.displacement.is_cuda
        displacement = found.displacement.cpu()
    assert expected.displacement.device.type == "cpu"
    # voxels, and what that is in the affine: rounding, and what the descent makes of it
    limit = 1e-3 if device.name == "stand-in" else 2e-2
    assert (displacement - expected.displacement).abs().max() < limit
    assert np.abs(found.affine - expected.affine)[:3, :3].max() < limit / 30
    assert found.similarity_after == pytest.approx(expected.similarity_after, rel=limit)
    assert len(found.history) == len(expected.history)


def waits(device, level, **settings):
    """How often the device was waited for, for each evaluation beyond the first five of a level; and evaluations."""
    counted = []
    for iterations in (5, 15):
        changed = dataclasses.replace(QUICK, device="cuda", discrete=False, **level(iterations), **settings)
        with device.counting() as counts:
            solution = register_images(*phantom.pair(FIXED, FIXED, phantom.bend), changed, initial="headers")
        counted.append((len(solution.history), counts))
    (fewer, before), (more, after) = counted
    assert more - fewer == 10
    return {kind: (after[kind] - before[kind]) / 10 for kind in after}


@pytest.mark.parametrize("optimiser, diffeomorphic, most", [("adam", False, 1), ("adam", True, 2), ("lbfgs", False, 3),
                                                            ("lbfgs", True, 4)])
def test_an_evaluation_of_a_deformation_waits_for_a_few_numbers_alone(optimiser, diffeomorphic, most, device):
    """The loss; the longest velocity; slope and curvature of L-BFGS. Nothing is copied to or from the device."""
    found = waits(device, lambda n: {"levels": (DeformableLevel(1, 4, n),)}, affine=False, optimiser=optimiser,
                  diffeomorphic=diffeomorphic)
    assert 1 <= sum(found.values()) <= most
    if device.name == "stand-in":
        assert found["read"] == sum(found.values())


def test_an_iteration_of_a_global_stage_reads_once_and_sends_once(device):
    found = waits(device, lambda n: {"affine_levels": (AffineLevel(1, n),)}, transform="rigid")
    if device.name == "stand-in":
        assert {kind: n for kind, n in found.items() if n} == {"read": 1, "to device": 1}
    assert sum(found.values()) <= 2


def folded_field():
    generator = torch.Generator().manual_seed(1)
    coarse = 2.2 * torch.randn((1, 3, 6, 6, 6), generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(24, 26, 28), mode="trilinear", align_corners=True)[0]


def test_the_inverse_is_found_on_the_device(device):
    field = folded_field()
    expected = invert(field)
    assert 0 < int(expected.unconverged.sum()) < 0.1 * field[0].numel()
    with device.counting() as counts:
        there = field.to("cuda")
        found = invert(there)
        assert found.displacement.is_cuda and found.unconverged.is_cuda
        displacement, unconverged = found.displacement.cpu(), found.unconverged.cpu()
    assert found.padding == expected.padding
    assert (unconverged != expected.unconverged).double().mean() < 1e-3
    both = ~(unconverged | expected.unconverged)
    difference = (displacement - expected.displacement).abs().amax(0)[both]
    assert difference.median() < 1e-3 and (difference < 1e-2).double().mean() > 0.999
    assert counts["to host"] <= 2  # the test's own


def test_results_are_computed_on_the_device_and_given_out_on_the_cpu(device):
    sitk = pytest.importorskip("SimpleITK")
    from pymasr.io import Image
    from pymasr.registration.result import Registration

    images = [Image(image.array, image.geometry) for image in phantom.pair(FIXED, MOVING, turned)]
    solution = register_images(*images, dataclasses.replace(QUICK, device="cpu"))
    expected = Registration(*images, solution)
    with device.counting():
        found = Registration(*images, dataclasses.replace(solution, displacement=solution.displacement.to("cuda")))
        report, transform, inverse = found.report, found.transform, found.inverse_transform
        warped, field = found.warped, sitk.GetArrayFromImage(found.displacement)
        for tensor in (found.warped_array, found.deformation):
            assert not tensor.is_cuda
    assert np.abs(sitk.GetArrayFromImage(warped) - sitk.GetArrayFromImage(expected.warped)).max() < 0.05
    assert np.abs(field - sitk.GetArrayFromImage(expected.displacement)).max() < 1e-3
    for name in ("folded", "std_log_jacobian", "largest_displacement_mm"):
        assert report[name] == pytest.approx(expected.report[name], rel=1e-4)
    assert report["inverse_error_mm"]["p95"] == pytest.approx(expected.report["inverse_error_mm"]["p95"], rel=0.05)
    for point in np.random.default_rng(0).uniform(-15, 15, (10, 3)) + phantom.CENTRE:
        assert np.allclose(transform.TransformPoint(point), expected.transform.TransformPoint(point), atol=1e-3)
        assert np.allclose(inverse.TransformPoint(point), expected.inverse_transform.TransformPoint(point), atol=1e-2)


def test_a_registration_on_cuda_repeats_to_the_bit():
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    images, settings = phantom.pair(FIXED, MOVING, turned), dataclasses.replace(QUICK, device="cuda")
    first, second = (register_images(*images, settings) for _ in range(2))
    assert torch.equal(first.displacement, second.displacement) and np.array_equal(first.affine, second.affine)


def test_the_stand_in_shows_what_a_device_would(monkeypatch):
    with distant.install(monkeypatch) as mode:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert there.is_cuda and (2 * there).device == distant.DEVICE and not here.is_cuda
        for mixed in (lambda: there + here, lambda: torch.stack([there, here]), lambda: here.add_(there)):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            np.asarray(there)
        with pytest.raises(ValueError, match="on one device"):
            distant.call(None, there, here)
        assert not mode.counts
        assert float(there.sum()) == 3 and bool(there.any()) and there[there > 2].numel() == 0
        assert not (there + torch.tensor(1.0)).cpu().is_cuda and here.to(there.device).is_cuda
        assert mode.counts == {"read": 2, "selection": 1, "to host": 1, "to device": 1}


def test_numerics_of_another_device_agree_with_the_cpu(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand((5, 6, 7), generator=generator) for _ in range(2))
    matrix, systems = np.random.default_rng(0).normal(size=(4, 6)), torch.rand((9, 3, 3), generator=generator).double()
    systems += 2 * torch.eye(3)
    calls = [
        lambda n, a, b, s: n.total(a), lambda n, a, b, s: n.total(a, (0, 2)), lambda n, a, b, s: n.dot(a, b),
        lambda n, a, b, s: n.total_of(a, b > 0.5), lambda n, a, b, s: n.mean_of(a, b > 0.5),
        lambda n, a, b, s: n.mean_of(a, b > 2), lambda n, a, b, s: n.add_scaled(a.clone(), b, n.dot(a, a)),
        lambda n, a, b, s: n.along_axis(matrix, a.double(), 1), lambda n, a, b, s: n.solve(s, s[:, 0]),
        lambda n, a, b, s: torch.tensor(n.percentiles(a, [1, 40, 99.5])), lambda n, a, b, s: torch.tensor(n.median(a)),
        lambda n, a, b, s: torch.tensor(n.read(a.sum(), b.max().double()))]
    expected = [call(numerics, a, b, systems) for call in calls]
    with distant.install(monkeypatch):
        there = [t.to("cuda") for t in (a, b, systems)]
        found = [call(numerics, *there).cpu() for call in calls]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and torch.allclose(one, other, rtol=1e-6, equal_nan=True)
