"""Promise: the true place is ranked among its neighbours as it should be, at the same points for every descriptor."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks import descriptors, discriminability, in_register, matching
from pymasr import ops
from pymasr.features import parse


def _noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


EVERYWHERE = torch.ones((20, 20, 20), dtype=torch.bool)
PLACES = torch.tensor([[10, 10, 10], [3, 12, 9]])


def test_identical_features_find_themselves():
    features = _noise(4, 20, 20, 20)
    found = discriminability.scores(features, features, EVERYWHERE, PLACES)
    assert found["queries"] == 2 and found["rank_median"] == 0 and found["false_minima"] == 0
    assert found["within_1"] == found["within_2"] == 100 and found["contrast"] > 1


def test_a_shifted_image_is_found_where_it_went():
    features = _noise(4, 20, 20, 20)
    for shift, within_1, within_2 in ((1, 100, 100), (2, 0, 100), (3, 0, 0)):
        found = discriminability.scores(features, features.roll(shift, 3), EVERYWHERE, PLACES)
        assert (found["within_1"], found["within_2"]) == (within_1, within_2)
        assert found["rank_median"] >= 1 and found["false_minima"] >= 1


def test_candidates_are_counted_by_hand():
    moving = torch.ones(1, 20, 20, 20)
    moving[0, 10, 10, 10] = 0.5
    moving[0, 10, 10, 14:16] = torch.tensor([0.1, 0.3])  # one minimum, two candidates
    moving[0, 5, 10, 10] = 0.2
    moving[0, 10, 1, 10] = 0.0  # nine voxels away: no candidate
    one, = matching.candidates(torch.zeros(1, 20, 20, 20), moving, EVERYWHERE, PLACES[:1])
    assert len(one.distance) == 17**3 and (one.before, one.error, one.false_minima) == (3, 4, 2)
    values = np.ones(17**3)
    values[:4] = np.square([0.5, 0.1, 0.3, 0.2])
    assert one.contrast == pytest.approx((values.mean() - 0.25) / values.std(), rel=1e-4)
    mask = EVERYWHERE.clone()
    mask[10, 10, 14:] = False
    one, = matching.candidates(torch.zeros(1, 20, 20, 20), moving, mask, PLACES[:1])
    assert (one.before, one.error, one.false_minima) == (1, 5, 1)
    flat, = matching.candidates(torch.zeros(1, 20, 20, 20), torch.zeros(1, 20, 20, 20), mask, PLACES[:1])
    assert (flat.before, flat.contrast, flat.false_minima) == (0, 0, 0)


def test_a_sum_differs_as_in_a_registration():
    fixed, moving = _noise(12, 12, 12), _noise(12, 12, 12, seed=1)
    one, other = (discriminability.volume("mind + 0.5 * dns", image) for image in (fixed, moving))
    expected = sum(term.weight * float(ops.warp_ssd(*(term.descriptor(i) for i in (fixed, moving)))[0])
                   for term in parse("mind + 0.5 * dns"))
    assert float((one - other).square().sum(0).mean()) == pytest.approx(expected, rel=1e-4)


def test_points_lie_at_structures():
    cube = torch.zeros(24, 24, 24)
    cube[12:, 12:, 12:] = 1
    mask = torch.ones_like(cube, dtype=torch.bool)
    assert len(discriminability.structured(cube, mask, 50)) == 50
    assert torch.equal(discriminability.structured(cube, mask, 50), discriminability.structured(cube, mask, 50))
    found = discriminability.typical(cube, mask)
    assert (found["corner"] - 12).abs().max() <= 3
    off = sorted((found["edge"] - 11.5).abs().tolist())
    assert off[0] <= 2 and off[1] > 2  # at one face, far from the others
    assert (found["even place"] - 11.5).abs().max() > 4


def test_a_quick_run_writes_numbers_and_figures(tmp_path, capsys):
    file = tmp_path / "discriminability.json"
    names = ["mind", "dsir"]
    assert discriminability.main(["--quick", "--descriptors", *names, "--appearances", "ct-phases", "-o", str(file),
                                  "--figures", str(tmp_path / "figures")]) == 0
    result = json.loads(file.read_text())
    assert result["benchmark"] == "discriminability" and {"machine", "versions"} <= result.keys()
    assert [(r["pair"], r["descriptor"]) for r in result["rows"]] == [("procedural ct-phases 0", n) for n in names]
    for row in result["rows"]:
        assert row["queries"] == 20 and 0 <= row["within_1"] <= row["within_2"] <= 100
        assert 0 <= row["rank_median"] < 100 and math.isfinite(row["contrast"]) and row["false_minima"] >= 0
    picture, = (tmp_path / "figures").iterdir()
    assert picture.name == "discriminability-procedural-ct-phases-0.png" and picture.stat().st_size > 20_000
    assert "median rank" in capsys.readouterr().out


def test_what_is_wrong_or_lacking_is_said(tmp_path, capsys):
    assert discriminability.main(["--descriptors", "mnid"]) == 1
    assert "mnid" in capsys.readouterr().err
    arguments = ["--data", str(tmp_path), "--appearances", "--descriptors", "mind", "-o", str(tmp_path / "a.json")]
    assert discriminability.main(arguments) == 1
    said = capsys.readouterr().err
    assert "without the development scans" in said and "there is nothing to compare" in said
    assert not (tmp_path / "a.json").exists()
    assert discriminability.main(["--quick", "-o", str(tmp_path)]) == 1
    assert f"{tmp_path} cannot be written" in capsys.readouterr().err


def test_landscapes_of_descriptors_have_no_spike_at_the_truth():
    """Interpolation that smooths noise away everywhere but at the truth would bend the curve the wrong way."""
    image = torch.nn.functional.avg_pool3d(_noise(1, 1, 40, 40, 40), 9, 1, 4)[0, 0]
    image = (image - image.min()) / (image.max() - image.min())
    noisy = [(image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(n))).clamp(0, 1)
             for n in (1, 2)]
    mask = torch.zeros_like(image, dtype=torch.bool)
    mask[6:-6, 6:-6, 6:-6] = True
    pair = in_register.Scans("noisy", *noisy, mask)
    found = descriptors.scores(lambda i: i[None], [pair])["noisy"]
    assert found["rotation"]["curvature"] > 0 and found["translation"]["curvature"] > 0
