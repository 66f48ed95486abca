"""Promise: scores are those of their definitions, and of the programs that others score with."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr import cli
from pymasr.assessment import evaluate, read_field
from pymasr.errors import InputError
from pymasr.geometry import Geometry
from pymasr.label_scores import label_scores
from pymasr.sitk import to_sitk, vectors_to_sitk

GRID = Geometry((12, 14, 16), (1.5, 2.0, 3.0), (5.0, -3.0, 2.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
SHARED = pathlib.Path(__file__).parents[2] / "shared"


def box(*slices):
    mask = np.zeros(GRID.shape, bool)
    mask[slices] = True
    return mask


def test_scores_of_two_voxels_by_hand():
    scores = label_scores(box(2, 3, 4), box(4, 3, 7), GRID.spacing)  # 2 * 3 mm in z, 3 * 1.5 mm in x
    assert scores == {"dice": 0, "hd95_mm": 7.5, "surface_distance_mm": 7.5}


def test_scores_of_two_boxes_by_hand():
    """5 x 5 x 5 voxels, and the same 2 voxels further along y: 60 % in common."""
    one, two = box(slice(2, 7), slice(2, 7), slice(2, 7)), box(slice(2, 7), slice(4, 9), slice(2, 7))
    scores = label_scores(one, two, (1.0, 1.0, 1.0))
    assert scores["dice"] == pytest.approx(0.6)
    # the surface of a box: two full faces across y, and three rings of 16 between them. Across y: the outer face lies 2
    # from the other box, the ring beside it 1, the middle ring touches it. The fourth ring lies in the other surface;
    # of the face that is inside the other box, the rim of 16 touches it, then 8 voxels are 1 and 1 voxel is 2 away
    distances = [2.0] * 25 + [1.0] * 16 + [0.0] * 32 + [0.0] * 16 + [1.0] * 8 + [2.0]
    assert scores["surface_distance_mm"] == pytest.approx(np.mean(distances))
    assert scores["hd95_mm"] == 2


def test_scores_by_the_definition_and_symmetry():
    rng = np.random.default_rng(0)
    one, two = (box(slice(0, 9), slice(3, 12), slice(5, 16)) & (rng.random(GRID.shape) > 0.2) for _ in range(2))
    scores = label_scores(one, two, GRID.spacing)
    assert scores == label_scores(two, one, GRID.spacing)

    def surface(mask):
        padded = np.pad(mask, 1)
        inner = np.all([np.roll(padded, s, k) for k in range(3) for s in (-1, 1)], 0)
        return np.argwhere(padded & ~inner) * GRID.spacing[::-1]

    a, b = surface(one), surface(two)
    between = np.linalg.norm(a[:, None] - b[None], axis=-1)
    there, back = between.min(1), between.min(0)
    assert scores["hd95_mm"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert scores["surface_distance_mm"] == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)
    assert scores["dice"] == pytest.approx(2 * (one & two).sum() / (one.sum() + two.sum()))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")
def test_scores_are_those_of_monai():
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is not installed: pip install monai")
    import torch

    rng = np.random.default_rng(1)
    one, two = (sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(
        sitk.GetImageFromArray(rng.normal(size=(30, 30, 30))), 3.0)) > 0.02 for _ in range(2))
    scores = label_scores(one, two, (1.0, 1.0, 1.0))
    batch = [torch.from_numpy(mask)[None, None].float() for mask in (one, two)]
    hd95 = metrics.compute_hausdorff_distance(*batch, include_background=True, percentile=95)
    asd = metrics.compute_average_surface_distance(*batch, include_background=True, symmetric=True)
    assert scores["hd95_mm"] == pytest.approx(hd95.item(), rel=1e-5)
    assert scores["surface_distance_mm"] == pytest.approx(asd.item(), rel=1e-5)


def test_labels_that_are_nowhere():
    nowhere, somewhere = box(slice(0)), box(2, 3, 4)
    assert label_scores(nowhere, nowhere, GRID.spacing)["dice"] is None
    assert label_scores(nowhere, somewhere, GRID.spacing) == {"dice": 0, "hd95_mm": None, "surface_distance_mm": None}


def labels(*boxes):
    array = np.zeros(GRID.shape, np.uint8)
    for label, part in enumerate(boxes, 1):
        array[part] = label
    return to_sitk(array, GRID)


def shift(voxels):
    """A transform by whole voxels (z, y, x)."""
    return sitk.TranslationTransform(3, (GRID.voxel_to_physical[:3, :3] @ voxels).tolist())


def test_before_and_after():
    fixed = labels(box(slice(3, 6), slice(3, 8), slice(3, 8)), box(9, 9, 9))
    moving = labels(box(slice(5, 8), slice(3, 8), slice(3, 8)), box(11, 9, 9), box(0, 0, 0))
    points = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    right = shift([2, 0, 0])
    offset = np.array(right.GetOffset())
    known, aside = offset + np.array([0, 0, 3.0]), offset + np.array([0, 0.25, 0])
    found = evaluate(right, reference=GRID, fixed_labels=fixed, moving_labels=moving, fixed_points=points,
                     moving_points=points + aside,
                     target=vectors_to_sitk(np.broadcast_to(known, (*GRID.shape, 3)).copy(), GRID))
    assert found["labels"]["1"]["after"] == {"dice": 1, "hd95_mm": 0, "surface_distance_mm": 0}
    assert found["labels"]["1"]["before"]["dice"] == pytest.approx(1 / 3)
    assert found["labels"]["2"]["before"] == {"dice": 0, "hd95_mm": 6, "surface_distance_mm": 6}
    assert found["labels_mean"]["before"]["dice"] == pytest.approx(1 / 6) and found["labels_mean"]["after"]["dice"] == 1
    assert found["labels_left_out"] == [3]
    assert found["landmarks"]["after"] == pytest.approx({"count": 3, "mean": 0.25, "median": 0.25, "p95": 0.25,
                                                         "max": 0.25})
    assert found["landmarks"]["before"]["mean"] == pytest.approx(np.linalg.norm(aside))
    assert found["target"]["after"]["mean"] == pytest.approx(3)
    assert found["target"]["before"]["max"] == pytest.approx(np.linalg.norm(known))
    assert found["jacobian"]["folded"] == 0 and found["jacobian"]["min"] == pytest.approx(1, abs=1e-5)


def test_a_label_that_is_lost_has_no_mean():
    fixed, moving = labels(box(0, 0, 0), box(5, 5, 5)), labels(box(0, 0, 0), box(5, 5, 5))
    found = evaluate(shift([1, 0, 0]), fixed_labels=fixed, moving_labels=moving)
    assert found["labels"]["1"]["after"] == {"dice": 0, "hd95_mm": None, "surface_distance_mm": None}
    assert found["labels_mean"]["after"] == {"dice": 0, "hd95_mm": None, "surface_distance_mm": None}


def test_images_that_do_not_meet_before():
    fixed, moving = labels(box(5, 5, 5)), labels(box(5, 5, 5))
    moving.SetOrigin([1000.0, 0.0, 0.0])
    right = sitk.TranslationTransform(3, [1000.0 - GRID.origin[0], -GRID.origin[1], -GRID.origin[2]])
    found = evaluate(right, fixed_labels=fixed, moving_labels=moving)["labels"]["1"]
    assert (found["before"]["dice"], found["after"]["dice"]) == (0, 1)
    with pytest.raises(InputError, match="takes no voxel of the reference into it"):
        evaluate(shift([0, 0, 0]), fixed_labels=fixed, moving_labels=moving)


def test_the_mask_says_where_the_target_and_the_jacobian_count():
    rng = np.random.default_rng(0)
    field, inside = rng.normal(size=(*GRID.shape, 3)), rng.random(GRID.shape) > 0.7
    found = evaluate(sitk.Transform(3, sitk.sitkIdentity), target=vectors_to_sitk(field, GRID),
                     mask=to_sitk(inside.astype(np.uint8), GRID))
    lengths = np.linalg.norm(field, axis=-1)[inside]
    assert found["target"]["after"] == pytest.approx({
        "count": inside.sum(), "mean": lengths.mean(), "median": np.median(lengths), "p95": np.percentile(lengths, 95),
        "max": lengths.max()})
    assert found["jacobian"]["voxels"] == inside.sum()


def test_targets_in_both_forms_and_frames(tmp_path):
    field = np.random.default_rng(0).normal(size=(*GRID.shape, 3)).astype(np.float32)
    sitk.WriteImage(vectors_to_sitk(field, GRID), str(tmp_path / "vectors.mha"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_field(tmp_path / "vectors.mha")), field)
    along = sitk.JoinSeries([to_sitk(np.ascontiguousarray(field[..., k] * sign), GRID)
                             for k, sign in enumerate((-1, -1, 1))])
    sitk.WriteImage(along, str(tmp_path / "axes.nii.gz"))
    found = read_field(tmp_path / "axes.nii.gz", "RAS")
    np.testing.assert_allclose(sitk.GetArrayFromImage(found), field)
    np.testing.assert_allclose(found.GetDirection(), GRID.direction, atol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), GRID.origin, rtol=1e-6)
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "axes.nii.gz").read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"target .*cut\.nii\.gz: "):
        read_field(tmp_path / "cut.nii.gz", "RAS")


@pytest.mark.skipif(not (SHARED / "eval" / "score.py").exists(), reason="there is no ../shared")
def test_scores_are_those_of_the_independent_program(tmp_path):
    level = SHARED / "data" / "openms_p07" / "medium"
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.05, -0.03, 0.04)
    turn.SetTranslation((1.0, -2.0, 1.5))
    sitk.WriteTransform(turn, str(tmp_path / "turn.tfm"))
    done = subprocess.run([sys.executable, str(SHARED / "eval" / "score.py"), str(level), str(tmp_path / "turn.tfm"),
                           "--json"], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    given = ["--mask", level / "fixed_mask.nii.gz", "--fixed-labels", level / "fixed_label.nii.gz", "--moving-labels",
             level.parent / "moving_label.nii.gz", "--target", level / "disp_fixed2moving_mm.nii.gz", "--target-frame",
             "RAS", "-o", tmp_path / "scores.json", "-q"]
    assert cli.main(["evaluate", *map(str, [tmp_path / "turn.tfm", *given])]) == 0
    ours = json.loads((tmp_path / "scores.json").read_text())
    for name in ("mean", "median", "p95"):
        assert ours["target"]["after"][name] == pytest.approx(theirs[f"tre_{name}"], rel=1e-6)
        assert ours["target"]["before"][name] == pytest.approx(theirs[f"tre_start_{name}"], rel=1e-6)
    for label, entry in ours["labels"].items():
        assert entry["after"]["dice"] == pytest.approx(theirs[f"dice_{label}"], rel=1e-12)
    assert ours["jacobian"]["folded"] == theirs["folded"]
    assert ours["jacobian"]["std_log_jacobian"] == pytest.approx(theirs["std_log_jacobian"], abs=1e-6)


@pytest.fixture
def files(tmp_path):
    """A result's folder, and things to score it with."""
    (tmp_path / "out").mkdir()
    sitk.WriteTransform(shift([2, 0, 0]), str(tmp_path / "out" / "transform.h5"))
    grey = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    sitk.WriteImage(to_sitk(grey, GRID), str(tmp_path / "out" / "warped.nii.gz"))
    sitk.WriteImage(to_sitk(0 * grey, GRID), str(tmp_path / "empty.nii.gz"))
    sitk.WriteImage(labels(box(3, 3, 3)), str(tmp_path / "labels.nii.gz"))
    sitk.WriteImage(labels(box(0, 0, 0), box(5, 5, 5)) == 2, str(tmp_path / "one.nii.gz"))
    sitk.WriteImage(2 * labels(box(3, 3, 3)), str(tmp_path / "two.nii.gz"))
    (tmp_path / "a.csv").write_text("name,x,y,z\ntip,1,2,3\nbase,4,5,6\n")
    (tmp_path / "b.csv").write_text("x,y,z\n1,2,3\n")
    return tmp_path


def test_a_folder_and_a_table(files, capsys):
    given = [files / "out", "--fixed-points", files / "a.csv", "--moving-points", files / "a.csv", "--points", "RAS",
             "--fixed-labels", files / "labels.nii.gz", "--moving-labels", files / "labels.nii.gz", "-o",
             files / "scores.json"]
    assert cli.main(["evaluate", *map(str, given)]) == 0
    text = capsys.readouterr().out
    for part in ("landmarks (2)", "0.00 → 6.00", "1.000 → 0.000", "2688 voxels", "0 (0 %)",
                 f"wrote {files / 'scores.json'}"):
        assert part in text, text
    scores = json.loads((files / "scores.json").read_text())
    assert scores["transforms"] == [str(files / "out" / "transform.h5")]
    assert scores["reference"] == str(files / "out" / "warped.nii.gz")
    assert scores["landmarks"]["after"]["mean"] == pytest.approx(6) and scores["points"] == "RAS"


@pytest.mark.parametrize(("given", "message"), [
    (["{}"], "is not a folder that pymasr register wrote, it has no transform.h5"),
    (["{}/out/transform.h5"], "nothing to evaluate on, give a reference, a mask, landmarks, labels or a target"),
    (["{}/out", "--fixed-labels", "{}/labels.nii.gz"], "the moving labels are missing"),
    (["{}/out", "--moving-points", "{}/a.csv", "--points", "LPS"], "the fixed points are missing"),
    (["{}/out", "--fixed-points", "{}/a.csv", "--moving-points", "{}/a.csv"], "say with --points LPS or --points RAS"),
    (["{}/out", "--fixed-points", "{}/a.csv", "--moving-points", "{}/b.csv", "--points", "LPS"],
     "each fixed point needs its moving point, got 2 fixed and 1 moving ones"),
    (["{}/out", "--fixed-labels", "{}/out/warped.nii.gz", "--moving-labels", "{}/labels.nii.gz"],
     "labels must be whole numbers"),
    (["{}/out", "--fixed-labels", "{}/labels.nii.gz", "--moving-labels", "{}/two.nii.gz"],
     "no label in common: the fixed one has 1, the moving one 2"),
    (["{}/out", "--mask", "{}/empty.nii.gz"], "is empty, every voxel is zero"),
    (["{}/out", "--target", "{}/labels.nii.gz"], "must be a 3-D image with 3 values per voxel"),
    (["{}/out", "--target", "{}/nothing.mha"], "target {}/nothing.mha: no such file"),
    (["{}/out", "-o", "{}/scores.txt"], "must be a file that ends with .json"),
    (["{}/nothing.h5", "--mask", "{}/labels.nii.gz"], "nothing.h5: no such file"),
])
def test_one_sentence(files, given, message, capsys):
    before = sorted(files.iterdir())
    assert cli.main(["evaluate", *(text.format(files) for text in given)]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert text.startswith("pymasr: error: ") and text.count("\n") == 1 and message.format(files) in text
    assert sorted(files.iterdir()) == before


def test_targets_that_cannot_be_used():
    with pytest.raises(InputError, match="1 of its vectors are NaN or infinite"):
        field = np.zeros((*GRID.shape, 3))
        field[1, 2, 3, 0] = np.nan
        read_field(vectors_to_sitk(field, GRID))
    with pytest.raises(InputError, match="the frame must be LPS or RAS, got 'ITK'"):
        read_field(vectors_to_sitk(np.zeros((*GRID.shape, 3)), GRID), "ITK")
