"""Promise: the benchmarks measure distances from the truth, overlap and folding as they say, whatever the grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from synthetic_pairs import SHAPE, image_of, write_pair

from benchmarks import pairs


@pytest.fixture
def pair(tmp_path):
    """Fixed and moving points differ by (1.5, -2, 4) mm in LPS."""
    pytest.importorskip("nibabel", reason="nibabel reads the true displacement")
    return write_pair(pairs.Pair(tmp_path, "openms_p07", "T2", "T1", "small"), (1.5, -2, 4))


def _field(vector, shape=SHAPE, **grid):
    return image_of(np.broadcast_to(np.float32(vector), (*shape, 3)).copy(), **grid)


def test_the_truth_scores_zero(pair):
    score = pair.score(_field((1.5, -2, 4)))
    assert score["tre"] == score["tre_p95"] == 0 and score["folded"] == 0
    assert score["tre_start"] == pytest.approx(np.linalg.norm((1.5, 2, 4)))


def test_a_wrong_sign_is_an_error(pair):
    assert pair.score(_field((-1.5, -2, 4)))["tre"] == pytest.approx(3)


def test_another_grid_is_resampled(pair):
    # the same extent with voxels half as wide along z, not flipped along x and y
    field = _field((1.5, -2, 4), (24, 14, 10), spacing=(2.0, 2.0, 1.0), origin=(-9.0, -13.0, -11.5),
                   direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert pair.score(field)["tre"] == pytest.approx(0, abs=1e-6)


def test_labels_overlap_where_the_field_leads(pair):
    score = pair.score(_field((0, 0, 4)))
    assert score["dice"] == {"1": 1, "2": 1, "mean": 1}
    assert score["dice_start"] == pytest.approx(0.5)
    sideways = pair.score(_field((2, 0, 4)))["dice"]  # x is flipped: one voxel to the left, half of each label
    assert sideways["1"] == pytest.approx(0.5) and sideways["mean"] == pytest.approx(0.5)


def test_folding_is_seen(pair):
    field = np.zeros((*SHAPE, 3), np.float32)
    field[..., 0] = 2 * 2 * np.arange(SHAPE[2])  # x runs against the index: x - 2 i + 4 i
    assert pair.score(image_of(field))["folded"] == 1


def test_upsampling_keeps_the_extent():
    image = image_of(np.tile(np.arange(10, dtype=np.float32), (12, 14, 1)))
    finer = pairs.upsample(image, (20, 14, 36))
    assert finer.GetSize() == (20, 14, 36) and finer.GetPixelID() == sitk.sitkFloat32
    assert finer.GetSpacing() == pytest.approx((1, 2, 2 / 3))
    for corner in ((-0.5, -0.5, -0.5), (9.5, 13.5, 11.5)):
        there = [-0.5 if c < 0 else n - 0.5 for c, n in zip(corner, finer.GetSize())]
        assert (finer.TransformContinuousIndexToPhysicalPoint(there)
                == pytest.approx(image.TransformContinuousIndexToPhysicalPoint(corner)))
    inside = sitk.GetArrayFromImage(finer)[18, 7, 4:16]
    np.testing.assert_allclose(inside, np.arange(4, 16) / 2 - 0.25, atol=0.05)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"openms_p07.small.fixed_T2\.nii\.gz"):
        pairs.find(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"inter_p07T1_to_p19T2.fixed_T2\.nii\.gz"):
        pairs.inter_subject(tmp_path)


def test_hard_images_come_from_the_script(tmp_path):
    hard = write_pair(pairs.Pair(tmp_path / "data", *pairs.INTER_SUBJECT, "inter", "hard"), None)
    with pytest.raises(FileNotFoundError, match=r"eval.degrade\.py"):
        hard.images()
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "degrade.py").write_text("def degrade(image, seed):\n    return image + seed\n")
    (fixed, moving), plain = hard.images(), pairs.inter_subject(tmp_path / "data").images()
    for image, before, seed in ((fixed, plain[0], 1), (moving, plain[1], 2)):
        np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(before) + seed)
