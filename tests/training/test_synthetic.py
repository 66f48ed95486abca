"""Promise: synthetic anatomy is seeded and works on any grid; contrasts are unrelated and deformations invertible."""

import numpy as np
import pytest
import torch

from pymasr import ops
from pymasr.training import synthetic

SHAPE = (40, 36, 44)


@pytest.mark.parametrize("shape, spacing", [
    (SHAPE, (1.0, 1.0, 1.0)), ((9, 40, 40), (5.0, 1.0, 1.0)), ((1, 30, 20), (1.0, 1.0, 2.0)),
    ((1, 1, 1), (1.0, 1.0, 1.0)),
])
def test_any_grid(shape, spacing):
    labels = synthetic.anatomy(shape, spacing, seed=1)
    image = synthetic.render(labels, 1, spacing)
    field = synthetic.random_deformation(shape, 2.0, 1, spacing)
    assert labels.shape == shape and labels.dtype == np.uint8
    assert image.shape == shape and image.dtype == np.float32 and np.isfinite(image).all()
    assert field.shape == (3, *shape) and field.dtype == np.float32 and np.isfinite(field).all()


def test_the_seed_decides_everything():
    labels = [synthetic.anatomy(SHAPE, seed=s) for s in (3, 3, 4)]
    images = [synthetic.render(labels[0], s) for s in (3, 3, 4)]
    fields = [synthetic.random_deformation(SHAPE, 2.0, s) for s in (3, 3, 4)]
    for first, again, other in (labels, images, fields):
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_the_parts_of_a_body():
    labels = synthetic.anatomy((64, 56, 64), seed=0)
    present = set(np.unique(labels).tolist())
    assert set(range(synthetic.ORGANS)) <= present
    assert len(present) > synthetic.ORGANS + 12
    assert 0.25 < (labels != synthetic.BACKGROUND).mean() < 0.75
    # organs touch: somewhere two different organs are neighbours
    a, b = labels[:, :, :-1], labels[:, :, 1:]
    assert ((a >= synthetic.ORGANS) & (b >= synthetic.ORGANS) & (a != b)).sum() > 50


def test_contrasts_are_unrelated():
    labels = synthetic.anatomy(SHAPE, seed=0)
    body = labels != synthetic.BACKGROUND
    correlations = []
    for seed in range(0, 40, 2):
        one, two = (synthetic.render(labels, s)[body] for s in (seed, seed + 1))
        correlations.append(np.corrcoef(one, two)[0, 1])
    assert min(correlations) < -0.2 and max(correlations) > 0.2
    assert abs(np.mean(correlations)) < 0.35


def test_a_displaced_rendering_is_the_warped_anatomy():
    labels = synthetic.anatomy(SHAPE, seed=0)
    field = synthetic.random_deformation(SHAPE, 3.0, 5)
    plain = {"bias": 0.0, "noise": 0.0}
    still, moved = synthetic.render(labels, 7, **plain), synthetic.render(labels, 7, displacement=field, **plain)
    assert np.abs(moved - ops.warp(still[None], field)[0]).max() < 1e-6
    assert np.abs(moved - still).max() > 0.1


@pytest.mark.parametrize("amplitude", [1.0, 6.0])
def test_deformations_are_invertible_and_as_large_as_asked(amplitude):
    shape, spacing = (48, 40, 44), (1.0, 2.0, 1.5)
    field = synthetic.random_deformation(shape, amplitude, 2, spacing)
    assert ops.jacobian_determinant(torch.from_numpy(field)).min() > 0
    length = np.sqrt(((field * np.array(spacing)[:, None, None, None]) ** 2).sum(0).mean())
    assert 0.7 * amplitude < length < 1.2 * amplitude
