"""Promise: a landscape is measured about the truth, in the units that it names, and what is read from it is right."""

import json

import numpy as np
import pytest
import torch

import pymasr.losses
from benchmarks import landscapes, procedural


def bowl(least=(0.0, 0.0, 0.0)):
    """A loss that depends on where the origin goes alone, least at a shift of `least`."""
    def loss(matrix=None, displacement=None):
        shift = matrix[:, 3] if displacement is None else displacement.numpy().mean((1, 2, 3))
        return float(np.square(shift - np.array(least)).sum()) + 1.0

    return loss


def test_a_bowl_is_captured_from_everywhere():
    found = landscapes.describe(landscapes.translations(bowl()), landscapes.SHIFTS)
    assert (found.minimum, found.capture, found.false_minima) == (0, 12, 0)
    assert found.curvature == pytest.approx(2 / 145)  # second derivative over the loss at the ends
    assert all(cosine == pytest.approx(1) for cosine in landscapes.agreement(bowl()).values())


def test_a_minimum_beside_the_truth_is_seen():
    found = landscapes.describe(landscapes.translations(bowl((3, 3, 3))), landscapes.SHIFTS)
    assert found.minimum == 3
    near, *_, far = landscapes.agreement(bowl((3, 3, 3)), count=40).values()
    assert near < 0.5 < far
    rows, columns = np.unravel_index(landscapes.plane(bowl((0, 4, -2))).argmin(), (13, 13))
    assert (landscapes.SHIFTS[::2][rows], landscapes.SHIFTS[::2][columns]) == (4, -2)


def test_false_minima_are_counted():
    curve = np.array([3.0, 2, 3, 2, 1, 0, 1, 2, 3, 2.5, 3])
    found = landscapes.describe([curve], tuple(range(-5, 6)))
    assert (found.minimum, found.capture, found.false_minima) == (0, 3, 2)


def test_features_match_best_where_they_belong():
    fixed, moving, mask = landscapes.aligned(procedural.Case("t1-t2", "small", 1, (24, 24, 24)))
    assert mask.dtype == torch.bool and float(fixed.min()) >= 0 and float(moving.max()) <= 1
    found = landscapes.explore(landscapes.make_loss("mind", fixed, moving, mask), mask)
    assert found["translation"]["minimum"] <= 1 and found["rotation"]["minimum"] <= 6
    assert found["scaling"]["minimum"] <= 6 and found["deformation"]["minimum"] <= 4
    assert found["agreement"]["1"] > 0.5
    # interpolation smoothes off the voxels' middles as it does on them: no spike at the truth
    assert found["rotation"]["curvature"] > 0 and found["scaling"]["curvature"] > 0
    twice = landscapes.make_loss("mind + mind", fixed, moving, mask)
    assert twice(np.eye(3, 4)) == pytest.approx(2 * landscapes.make_loss("mind", fixed, moving, mask)(np.eye(3, 4)))


@pytest.mark.parametrize("losses", [["mind", "dns"], ["nmi"]])
def test_a_quick_run_writes_numbers_and_figures(losses, tmp_path, capsys):
    if "nmi" in losses and not hasattr(pymasr.losses, "NMILoss"):
        pytest.skip("pymasr.losses has no NMILoss")
    file = tmp_path / "landscapes.json"
    assert landscapes.main(["--quick", "--losses", *losses, "--appearances", "ct-mr", "-o", str(file), "--figures",
                            str(tmp_path / "figures")]) == 0
    result = json.loads(file.read_text())
    assert [row["loss"] for row in result["rows"]] == losses and result["benchmark"] == "landscapes"
    for row in result["rows"]:
        assert [len(row[kind]["curves"]) for kind in landscapes.KINDS] == [3, 3, 1, 3]
        assert all(len(curve) == len(positions) for kind, (positions, _) in landscapes.KINDS.items()
                   for curve in row[kind]["curves"])
        assert np.isfinite(row["plane"]).all() and np.shape(row["plane"]) == (13, 13)
        assert all(-1 <= cosine <= 1 for cosine in row["agreement"].values())
    picture, = (tmp_path / "figures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000
    assert "capture range" in capsys.readouterr().out


def test_what_cannot_be_is_said_before_anything_is_measured(tmp_path, capsys):
    assert landscapes.main(["--losses", "nim"]) == 1
    assert "landscapes: features: there is no descriptor called nim" in capsys.readouterr().err
    assert landscapes.main(["--quick", "-o", str(tmp_path)]) == 1
    assert f"landscapes: {tmp_path} cannot be written" in capsys.readouterr().err
