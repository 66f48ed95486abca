"""Promise: a landscape is measured about the truth, in the units that it names, and what is read from it is right."""

import json

import numpy as np
import pytest
import torch

from benchmarks import curves, in_register, landscapes, moved, procedural
from pymasr import ops
from pymasr.losses import NMILoss

MASK = torch.ones((8, 8, 8), dtype=torch.bool)


def bowl(least=(0.0, 0.0, 0.0)):
    """A loss that depends on where the origin goes alone, least at a shift of `least`."""
    def loss(matrix=None, displacement=None):
        shift = matrix[:, 3] if displacement is None else displacement.numpy().mean((1, 2, 3))
        return float(np.square(shift - np.array(least)).sum()) + 1.0

    return loss


def test_a_bowl_is_captured_from_everywhere():
    found = curves.describe(curves.translations(bowl()), curves.SHIFTS)
    assert (found.minimum, found.capture, found.false_minima) == (0, 24, 0)
    assert found.curvature == pytest.approx(2 / 577)  # second derivative over the loss at the ends
    assert all(cosine == pytest.approx(1) for cosine in curves.agreement(bowl()).values())


def test_a_minimum_beside_the_truth_is_seen():
    found = curves.describe(curves.translations(bowl((3, 3, 3))), curves.SHIFTS)
    assert found.minimum == 3 and found.capture == 24
    near, *_, far = curves.agreement(bowl((3, 3, 3)), count=40).values()
    assert near < 0.5 < far
    rows, columns = np.unravel_index(curves.plane(bowl((0, 6, -3))).argmin(), (17, 17))
    assert (curves.SHIFTS[::3][rows], curves.SHIFTS[::3][columns]) == (6, -3)


def test_false_minima_are_counted():
    curve = np.array([3.0, 2, 3, 2, 1, 0, 1, 2, 3, 2.5, 3])
    found = curves.describe([curve], tuple(range(-5, 6)))
    assert (found.minimum, found.capture, found.false_minima) == (0, 3, 2)


def test_a_way_down_to_elsewhere_captures_nothing():
    assert curves.captured(np.arange(17.0)) == 16
    assert curves.captured(np.array([2.0, 1, 0, *range(1, 15)])) == 16  # two from the truth is near it
    assert curves.captured(np.array([0.0, 1, 2, 3, 2, *range(3, 15)])) == 3
    assert curves.captured(-np.arange(17.0)) == 0 and curves.captured(np.zeros(17)) == 0
    far = curves.describe(curves.translations(bowl((20, 20, 20))), curves.SHIFTS)
    assert far.minimum == 20 and far.capture == 0


def test_rays_shift_and_turn_at_once():
    seen = []
    found = curves.rays(lambda matrix: seen.append(matrix) or 0.0, MASK, 2)
    assert found.shape == (2, curves.RAY + 1)
    middle = np.full(3, 3.5)
    for first, matrix in ((0, seen[10]), (1, seen[curves.RAY + 1 + 10])):
        turn, shift = matrix[:, :3], matrix[:, :3] @ middle + matrix[:, 3] - middle
        assert np.linalg.norm(shift) == pytest.approx(10)  # of the middle, about which it is turned
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(10 * curves.RAY_TURN), first
        assert np.linalg.det(turn) == pytest.approx(1)
    assert np.allclose(seen[0], np.eye(3, 4)) and not np.allclose(seen[10], seen[curves.RAY + 11])


def test_rays_are_counted_by_how_far_they_lead_downhill():
    rising = np.arange(curves.RAY + 1.0)
    hill = np.minimum(rising, 20 - rising)  # falls from 10 on
    found = curves.describe_rays(np.array([rising, hill, -rising, rising]))
    assert found["captures"] == [curves.RAY, 10, 0, curves.RAY]
    assert found["capture"] == pytest.approx((2 * curves.RAY + 10) / 4)
    assert found["from"] == {"8": 75, "16": 50, "24": 50}


def test_features_match_best_where_they_belong():
    pair = in_register.aligned(procedural.Case("t1-t2", "small", 1, (24, 24, 24)))
    images = pair.fixed, pair.moving, pair.mask
    assert pair.mask.dtype == torch.bool and float(pair.fixed.min()) >= 0 and float(pair.moving.max()) <= 1
    found = curves.explore(moved.make_loss("mind", *images), pair.mask, 4)
    assert found["translation"]["minimum"] <= 1 and found["rotation"]["minimum"] <= 6
    assert found["scaling"]["minimum"] <= 6 and found["deformation"]["minimum"] <= 4
    assert found["agreement"]["1"] > 0.5 and found["rays"]["from"]["8"] >= 50
    # interpolation smoothes off the voxels' middles as it does on them: no spike at the truth
    assert found["rotation"]["curvature"] > 0 and found["scaling"]["curvature"] > 0
    twice = moved.make_loss("mind + mind", *images)
    assert twice(np.eye(3, 4)) == pytest.approx(2 * moved.make_loss("mind", *images)(np.eye(3, 4)))


def test_nmi_is_that_of_the_whole_images_where_the_mask_is():
    pair = in_register.aligned(procedural.Case("t1-t2", "small", 1, (24, 24, 24)))
    jitter = moved.jittered(pair.mask.shape)
    matrix = curves.shift_matrix(np.array([2.0, -1.5, 3.0]))
    fixed, moving = ops.warp(pair.fixed[None], jitter), ops.warp(pair.moving[None], jitter, matrix=matrix)
    expected = float(NMILoss()(moving[None], fixed[None], pair.mask[None, None].float()))
    assert moved.make_loss("nmi", pair.fixed, pair.moving, pair.mask)(matrix) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("losses", [["mind", "dns"], ["nmi"]])
def test_a_quick_run_writes_numbers_and_figures(losses, tmp_path, capsys):
    file = tmp_path / "landscapes.json"
    assert landscapes.main(["--quick", "--losses", *losses, "--appearances", "ct-mr", "-o", str(file), "--figures",
                            str(tmp_path / "figures")]) == 0
    result = json.loads(file.read_text())
    assert [row["loss"] for row in result["rows"]] == losses and result["benchmark"] == "landscapes"
    for row in result["rows"]:
        assert row["pair"] == "procedural ct-mr 0"
        assert [len(row[kind]["curves"]) for kind in curves.KINDS] == [3, 3, 1, 3]
        assert all(len(curve) == len(positions) for kind, (positions, _) in curves.KINDS.items()
                   for curve in row[kind]["curves"])
        assert np.isfinite(row["plane"]).all() and np.shape(row["plane"]) == (17, 17)
        assert all(-1 <= cosine <= 1 for cosine in row["agreement"].values())
        assert len(row["rays"]["captures"]) == curves.QUICK_RAYS and 0 <= row["rays"]["capture"] <= curves.RAY
    picture, = (tmp_path / "figures").iterdir()
    assert picture.name == "landscapes-procedural-ct-mr-0.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and 20_000 < picture.stat().st_size < 300_000
    assert "capture range" in capsys.readouterr().out


def test_what_cannot_be_is_said(tmp_path, capsys):
    assert landscapes.main(["--losses", "nim"]) == 1
    assert "landscapes: features: there is no descriptor called nim" in capsys.readouterr().err
    assert landscapes.main(["--quick", "-o", str(tmp_path)]) == 1
    assert f"landscapes: {tmp_path} cannot be written" in capsys.readouterr().err
    file = tmp_path / "a.json"
    assert landscapes.main(["--data", str(tmp_path), "--appearances", "-o", str(file)]) == 1
    said = capsys.readouterr().err
    assert "landscapes: without the development scans" in said and "landscapes: there is nothing to compare" in said
    assert not file.exists()
