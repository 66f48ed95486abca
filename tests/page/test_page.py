"""Promise: report.html is one file that shows what the result holds."""

import base64
import dataclasses
import io
import json
import re

import engines
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from results import FIXED, registered

from pymasr.evaluation import determinant, foreground
from pymasr.page.charts import curves
from pymasr.page.volumes import MIDDLE, REACH, Shrinkage, volumes
from pymasr.registration.result import FILES, Registration
from pymasr.report import Anatomical, bounds


def unpacked(volume):
    """The array that a picture in the page holds, as the page reads it."""
    data = base64.b64decode(volume["picture"].partition("base64,")[2])
    picture = np.asarray(Picture.open(io.BytesIO(data)))
    depth, height, width = volume["shape"]
    tiles = [(z // volume["columns"], z % volume["columns"]) for z in range(depth)]
    return np.stack([picture[r * height:(r + 1) * height, c * width:(c + 1) * width] for r, c in tiles])


def shown_part(result, array):
    """`array` (D, H, W, ...) as the page has it: in patient order, cut to the contents."""
    turned = Anatomical.of(FIXED)
    return turned.turn(array)[bounds(turned.turn(foreground(result.fixed.array).numpy()))]


@pytest.fixture(scope="module")
def result():
    return registered()


def test_the_volumes_of_the_page_are_those_of_the_result(result):
    shown = volumes(result)
    turned = Anatomical.of(FIXED)
    vectors = shown_part(result, result.deformation.numpy()) @ turned.vectors.T
    found = shown["displacement"]
    assert shown["extent"] == pytest.approx([n * s for n, s in zip(vectors.shape[:3], turned.spacing)])
    codes = unpacked(found).astype(float)
    step = found["largest"] / REACH
    np.testing.assert_allclose((codes - MIDDLE) * step, vectors, atol=0.51 * step)
    assert found["longest"] == pytest.approx(np.linalg.norm(vectors, axis=-1).max(), rel=1e-5)
    warped = unpacked(shown["images"]["warped"]).astype(float)
    assert np.corrcoef(warped.ravel(), shown_part(result, result.warped_array.numpy()).ravel())[0, 1] > 0.95
    assert set(shown["images"]) == {"fixed", "before", "warped"}


def test_folds_are_marked_and_volume_change_is_coded(result):
    field = torch.zeros((3, *FIXED.shape))
    field[2] = 0.25 * torch.arange(FIXED.shape[2])  # 1.25 times as long
    stretched = registered(engines.Solution(np.eye(4), field.clone()), moving=result.fixed)
    found = volumes(stretched)["jacobian"]
    values = (unpacked(found).astype(float) - MIDDLE) / REACH * found["largest"]
    np.testing.assert_allclose(values, np.log2(1.25), atol=found["largest"] / REACH)
    field[2, 7, 8, 9] += 4
    folded = registered(engines.Solution(np.eye(4), field), moving=result.fixed)
    marked = unpacked(volumes(folded)["jacobian"]) == 0
    folds = determinant(folded.total_displacement, FIXED).numpy() <= 0
    assert folds.any() and folded.report["folded"] > 0
    np.testing.assert_array_equal(marked, shown_part(folded, folds))


def test_a_result_without_deformation(result):
    still = registered(engines.Solution(np.eye(4), torch.zeros((3, *FIXED.shape))), moving=result.fixed)
    assert volumes(still)["displacement"] is None
    assert "viewer-data" in still.html()


def test_shrinkage_takes_the_mean_of_blocks():
    small = Shrinkage.to(48, (4, 6, 8), (3.0, 1.0, 1.0))
    assert small.factors == (1, 2, 2) and small.spacing == (3.0, 2.0, 2.0)
    array = np.random.default_rng(0).random((4, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(small.mean(array), array.reshape(4, 3, 2, 4, 2).mean((2, 4)), rtol=1e-5)
    np.testing.assert_array_equal(small.any(array > 0.8), (array > 0.8).reshape(4, 3, 2, 4, 2).any((2, 4)))
    uneven = Shrinkage.to(2, (3, 1, 1), (1.0, 1.0, 1.0)).mean(array[:3, :1, :1])[:, 0, 0]
    np.testing.assert_allclose(uneven, [array[:2, 0, 0].mean(), array[2, 0, 0]], rtol=1e-5)


def test_save_writes_the_page_only_when_asked(result, tmp_path):
    assert [file.name for file in result.save(tmp_path / "plain")] == list(FILES)
    assert [file.name for file in result.save(tmp_path / "with", report=True)] == [*FILES, "report.html"]
    text = (tmp_path / "with" / "report.html").read_text(encoding="utf-8")
    assert len(text) < 4e6
    inside = json.loads(re.search(r'id="report">(.*?)</script>', text, re.DOTALL)[1])
    written = json.loads((tmp_path / "with" / "report.json").read_text())
    assert "page" in [stage["name"] for stage in written["stages"]]
    for own in ("stages", "seconds", "peak_memory_mib"):  # the page cannot hold how long it took itself
        inside.pop(own), written.pop(own)
    assert inside == written


def test_the_page_names_no_address_and_shows_warnings_and_settings(result):
    text = result.html()
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:)(?:https?:|//)""", text)
    assert "The deformation folds" not in text
    for part in ("T.nii.gz onto &lt;b&gt;.nii.gz", "regularisation", "deformable"):
        assert part in text
    assert "<b>.nii.gz" not in text
    folding = 40 * torch.sin(torch.arange(FIXED.shape[2])).expand(3, *FIXED.shape)
    doubted = registered(engines.Solution(np.eye(4), folding))
    for warning in doubted.report["warnings"]:
        assert warning.replace("'", "&#39;").replace(">", "&gt;") in doubted.html()
    assert "folds" in " ".join(doubted.report["warnings"])


def test_a_page_of_a_result_about_which_little_is_known(result):
    solution = dataclasses.replace(result.solution, history=[])
    bare = Registration(result.fixed, result.moving, solution)
    assert "Settings" not in bare.html()


def test_curves_begin_anew_at_each_level():
    history = [{"stage": stage, "level": level, "iteration": i, "loss": 1.0 / (i + level), "similarity": 0.5}
               for stage, levels in (("affine", 1), ("deformable", 2)) for level in range(1, levels + 1)
               for i in range(1, 5)]
    history.insert(3, {**history[2], "loss": float("nan")})
    affine, deformable = curves(history)
    assert (affine.stage, affine.evaluations, deformable.evaluations) == ("affine", 4, 8)
    assert (deformable.first, deformable.last) == (1 / 3, 1 / 6)
    loss = dict(deformable.paths)["loss"]
    assert loss.count("M") == 2 and loss.count("L") == 6
    assert [label for _, label in deformable.levels] == ["1", "2"]
    heights = [float(pair.split()[1]) for pair in re.split("[ML]", loss)[1:5]]
    assert heights == sorted(heights)  # SVG counts downwards: the loss falls


def test_a_flat_loss_is_drawn():
    curve, = curves([{"stage": "discrete", "level": 1, "iteration": 1, "loss": 0.5, "similarity": 0.5}])
    assert curve.words.endswith("0.5 at the first, 0.5 at the last of the finest level.")
