"""Promise: what spoils a scan changes its intensities, never where things are."""

import numpy as np
import pytest
import torch

from pymasr.errors import InputError
from pymasr.training import appearance
from pymasr.training.appearance import AppearanceConfig, acquire
from pymasr.training.draws import Draws

SIZE = 41
NOTHING = {"curve": 0.0, "noise": 0.0, "bias": 0.0, "blur": 0.0, "slices": 0.0, "ghosting": 0.0, "strip": 0.0}
INSIDE = torch.ones(SIZE, SIZE, SIZE, dtype=torch.bool)


def blob(sigma=4.0):
    """A bump at the centre of the volume, 0.2 around it and 0.8 at its top."""
    axis = torch.exp(-0.5 * ((torch.arange(SIZE) - SIZE // 2) / sigma) ** 2)
    return 0.2 + 0.6 * axis[:, None, None] * axis[:, None] * axis


def centroid(image):
    """Of what differs from the border, (z, y, x), in voxels from the centre of the volume."""
    weight = (image - image[:4, :4, :4].mean()).double()
    index = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    return [float((weight.sum(axes) * index).sum() / weight.sum()) for axes in ((1, 2), (0, 2), (0, 1))]


@pytest.mark.parametrize("changed, tolerance", [
    ({}, 1e-4), ({"curve": 1.0}, 1e-3), ({"blur": 2.0}, 1e-3), ({"slices": 1.0}, 0.05), ({"strip": 1.0}, 1e-4),
])
def test_geometry_is_kept(changed, tolerance):
    for seed in range(4):
        scan = acquire(blob(), INSIDE, Draws((seed,)), AppearanceConfig(**{**NOTHING, **changed}))
        weight = (scan - scan[:4, :4, :4].mean()).abs().sum()
        if float(weight) > 50:  # a curve may give blob and background one intensity
            assert np.abs(centroid(scan)).max() < tolerance, seed


def fitted_shift(scan):
    """How far the blob in a scan is moved, voxels (z, y, x): least squares of it, its slopes, and a linear ramp."""
    clean = blob().double()
    index = torch.stack(torch.meshgrid(*[torch.arange(float(SIZE)) - SIZE // 2] * 3, indexing="ij")).double()
    columns = [clean, *torch.gradient(clean), *index, torch.ones_like(clean)]
    inner = (slice(6, -6),) * 3
    design = torch.stack([c[inner].flatten() for c in columns], 1)
    found = torch.linalg.lstsq(design, scan.double()[inner].flatten()[:, None]).solution[:, 0]
    return (-found[1:4] / found[0]).tolist()


def test_noise_and_bias_shift_nothing():
    """They move a single blob by a little, but not in one direction."""
    assert np.abs(fitted_shift(torch.roll(blob(), 1, 2)) - np.array([0, 0, 1])).max() < 0.05
    config = AppearanceConfig(**{**NOTHING, "noise": 0.05, "bias": 0.1})
    found = [fitted_shift(acquire(blob(), INSIDE, Draws((seed,)), config)) for seed in range(8)]
    assert np.abs(found).max() < 0.5 and np.abs(np.mean(found, 0)).max() < 0.2


def test_nothing_asked_for_nothing_done():
    for seed in range(4):
        assert torch.allclose(acquire(blob(), INSIDE, Draws((seed,)), AppearanceConfig(**NOTHING)), blob())


def test_ghosts_are_faint_copies():
    scan = acquire(blob(), INSIDE, Draws((3,)), AppearanceConfig(**{**NOTHING, "ghosting": 1.0}))
    share = [torch.roll(blob(), s, a) for a in range(3) for s in range(SIZE // 4, SIZE // 2 + 1)]
    best = min((scan - blob() - k * copy).abs().max() for copy in share for k in [(scan - blob()).mean() / copy.mean()])
    assert best < 1e-5 and 0.02 <= float((scan - blob()).mean() / blob().mean()) <= 0.15


def test_stripping():
    inside = INSIDE.clone()
    inside[:20] = False
    scan = acquire(blob(), inside, Draws((0,)), AppearanceConfig(**{**NOTHING, "strip": 1.0}))
    assert float(scan[:20].abs().max()) == 0 and torch.allclose(scan[20:], blob()[20:])


@pytest.mark.parametrize("inversion", [0.0, 1.0])
def test_bezier_curves_rise_or_fall(inversion):
    line = torch.linspace(-0.2, 1.2, 1401)[None, None]
    curves = torch.stack([appearance.bezier(line, Draws((seed,)), inversion)[0, 0] for seed in range(100)])
    assert float(curves.min()) >= 0 and float(curves.max()) <= 1
    rises = curves if inversion == 0 else curves.flip(1)
    assert float(rises[:, 0].max()) <= 0.2 and float(rises[:, -1].min()) >= 0.8
    assert torch.equal(curves[:, 0], curves[:, 199]) and torch.equal(curves[:, -1], curves[:, 1201])  # clamped
    # most are monotone, some dip: the order of tissues is not kept
    monotone = (rises.diff(dim=1) >= -1e-6).all(1).float().mean()
    assert 0.5 < float(monotone) < 1
    assert float((curves[:50] - curves[50:]).abs().amax(1).min()) > 1e-3  # no two alike


def test_half_of_the_curves_fall():
    ends = torch.tensor([[[0.0, 1.0]]])
    falls = [bool(torch.diff(appearance.bezier(ends, Draws((seed,)), 0.5)[0, 0]) < 0) for seed in range(300)]
    assert 0.42 < np.mean(falls) < 0.58


def test_blur_is_a_gaussian():
    image = torch.zeros(SIZE, SIZE, SIZE)
    image[20, 20, 20] = 1
    blurred = appearance.blur(image, (0.0, 1.0, 2.0))
    index = torch.arange(SIZE) - 20.0
    variances = [float((blurred.sum(axes) * index**2).sum()) for axes in ((1, 2), (0, 2), (0, 1))]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    assert variances[0] == 0 and variances[1] == pytest.approx(1, rel=0.1) and variances[2] == pytest.approx(4, rel=0.1)
    assert torch.allclose(appearance.blur(torch.ones(3, 4, 5), (3.0,) * 3), torch.ones(3, 4, 5))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices(axis):
    image = torch.rand(7, 8, 9, generator=torch.Generator().manual_seed(0))
    repeated = appearance.thick_slices(image, axis, 3, repeat=True).movedim(axis, 0)
    assert torch.allclose(repeated[:3], image.movedim(axis, 0)[:3].mean(0).expand(3, *repeated.shape[1:]))
    smooth = appearance.thick_slices(image, axis, 3, repeat=False).movedim(axis, 0)
    assert smooth.shape == repeated.shape and torch.allclose(smooth[1], repeated[1])  # at a slice's centre


def test_noise():
    image = torch.full((24, 24, 24), 0.5)
    spreads = [float((appearance.noisy(image, Draws((seed,)), 0.1) - image).std()) for seed in range(60)]
    assert 0.1 / 60 < min(spreads) < 0.01 and 0.03 < max(spreads) < 0.12
    assert all(float(appearance.noisy(torch.zeros(9, 9, 9), Draws((s,)), 0.1).min()) >= 0 for s in range(20))
    assert appearance.noisy(image, Draws((0,)), 0.0) is image


@pytest.mark.parametrize("name, value", [("curve", 1.1), ("strip", -0.1), ("noise", -1.0), ("blur", float("inf"))])
def test_settings_that_make_no_sense(name, value):
    with pytest.raises(InputError, match=f"appearance: {name} must"):
        AppearanceConfig(**{name: value})
