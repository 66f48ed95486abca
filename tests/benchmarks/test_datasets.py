"""Promise: pairs are found in the layouts of public sets, prepared as the paper says, scored by what is known, and
their fields written as Learn2Reg reads them."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from synthetic_pairs import image_of, scaled

from benchmarks import datasets, layouts, submission
from benchmarks.datasets import Scan, ScanPair
from pymasr.errors import InputError
from pymasr.sitk import geometry_of, vectors_to_sitk

nibabel = pytest.importorskip("nibabel", reason="nibabel writes submissions")

SHAPE = (9, 10, 8)
OTHER_GRID = {"spacing": (1.5, 2.0, 2.5), "origin": (-20.0, 30.0, 5.0), "direction": (0, -1, 0, 1, 0, 0, 0, 0, 1)}


def _write(file, array=None, **grid):
    file.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).normal(0, 900, SHAPE).astype(np.float32) if array is None else array
    sitk.WriteImage(image_of(array, **grid), str(file))
    return file


@pytest.fixture
def learn2reg(tmp_path):
    """Two pairs; of the second no labels."""
    for case in ("0001", "0012"):
        for modality in ("0000", "0001"):
            _write(tmp_path / "imagesTr" / f"AbdomenMRCT_{case}_{modality}.nii.gz")
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 3:7, 2:6] = 1
    _write(tmp_path / "labelsTr" / "AbdomenMRCT_0001_0000.nii.gz", labels)
    _write(tmp_path / "labelsTr" / "AbdomenMRCT_0001_0001.nii.gz", np.roll(labels, 1, axis=0))
    pairs = [{"fixed": f"./imagesTr/AbdomenMRCT_{n}_0000.nii.gz", "moving": f"./imagesTr/AbdomenMRCT_{n}_0001.nii.gz"}
             for n in ("0001", "0012")]
    (tmp_path / "AbdomenMRCT_dataset.json").write_text(json.dumps({
        "name": "AbdomenMRCT", "modality": {"0": "MR", "1": "CT"}, "numRegistration_val": 2,
        "training_paired_images": [{"0": pairs[0]["fixed"], "1": pairs[0]["moving"]}],
        "registration_val": pairs, "registration_test": []}))
    return tmp_path


def test_learn2reg_pairs_come_from_its_description(learn2reg):
    first, second = layouts.find("learn2reg", learn2reg)
    assert first.name == "learn2reg AbdomenMRCT_0001_0000 <- AbdomenMRCT_0001_0001"
    assert (first.fixed.modality, first.moving.modality) == ("MR", "CT")
    assert first.fixed.labels == learn2reg / "labelsTr" / "AbdomenMRCT_0001_0000.nii.gz"
    assert second.fixed.labels is None and second.group == "learn2reg MR <- CT"
    assert layouts.find("learn2reg", learn2reg, split="train")[0].fixed == first.fixed
    with pytest.raises(InputError, match=r"split 'test', expected some in registration_test; .* registration_val"):
        layouts.find("learn2reg", learn2reg, split="test")
    second.moving.image.unlink()
    with pytest.raises(InputError, match=r"0012_0001\.nii\.gz: named by the set's description, but not there"):
        layouts.find("learn2reg", learn2reg)


def test_learn2reg_is_scored_by_labels_and_landmarks(learn2reg):
    pair, unlabelled = layouts.find("learn2reg", learn2reg)
    field = vectors_to_sitk(np.broadcast_to((0.0, 0, 2), (*SHAPE, 3)).copy(), geometry_of(pair.images()[0]))
    score = pair.score(field)
    assert score["dice"] == {"1": 1, "mean": 1} and score["hd95"] == score["assd"] == 0 and score["folded"] == 0
    assert score["dice_start"] == pytest.approx(2 / 3) and "tre" not in score
    start = pair.score(scaled(field, 0))
    assert start["hd95"] == pytest.approx(2) and start["assd"] > 0
    score = unlabelled.score(field)  # nothing is known of it
    assert {"folded", "std_log_jacobian"} <= score.keys() and not {"dice", "tre", "hd95"} & score.keys()
    # voxels (x, y, z); the moving ones lie one slice higher
    for modality, z in (("0000", 4), ("0001", 5)):
        file = learn2reg / "landmarksTr" / f"AbdomenMRCT_0001_{modality}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"3,4,{z}\n2.5,5,{z}\n")
    score = layouts.find("learn2reg", learn2reg)[0].score(field)
    assert score["tre"] == pytest.approx(0, abs=1e-6) and score["tre_start"] == pytest.approx(2)


def test_ct_is_clipped_and_brought_to_spacing_and_size(tmp_path):
    ramp = np.tile(np.linspace(-1000, 3000, 16, dtype=np.float32), (12, 14, 1))
    scan = Scan(_write(tmp_path / "ct.nii.gz", ramp), "CT")
    clipped = sitk.GetArrayFromImage(datasets.prepared(scan, None, None))
    assert clipped.min() == -200 and clipped.max() == 1024
    inside = (ramp > -200) & (ramp < 1024)
    np.testing.assert_allclose(clipped[inside], ramp[inside])
    assert sitk.GetArrayFromImage(datasets.prepared(Scan(scan.image, "MR"), None, None)).max() == 3000
    before = sitk.ReadImage(str(scan.image))
    image = datasets.prepared(scan, (1.0, 2.0, 4.0), (20, 18, 6))
    assert image.GetSize() == (20, 18, 6) and image.GetSpacing() == (1.0, 2.0, 4.0)
    middles = [i.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in i.GetSize()]) for i in (before, image)]
    assert middles[0] == pytest.approx(middles[1])
    padded = sitk.GetArrayFromImage(image)[:, [0, -1]]  # 14 voxels became 18
    assert padded.min() == padded.max() == pytest.approx(-200, abs=0.01)


@pytest.mark.parametrize("moving_grid", [{}, OTHER_GRID])
def test_a_submission_warps_as_map_coordinates_does(tmp_path, moving_grid):
    fixed = _write(tmp_path / "AbdomenMRCT_0003_0000.nii.gz")
    moving = _write(tmp_path / "AbdomenMRCT_0003_0001.nii.gz", **moving_grid)
    pair = ScanPair("learn2reg", Scan(fixed, "MR"), Scan(moving, "CT"), "3")
    images = [sitk.ReadImage(str(file)) for file in (fixed, moving)]
    middles = [np.array(i.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in i.GetSize()])) for i in images]
    vectors = middles[1] - middles[0] + np.random.default_rng(1).uniform(-1, 1, (*SHAPE, 3))
    field = vectors_to_sitk(vectors, geometry_of(images[0]))
    file = submission.write(tmp_path / "out", pair, field)
    assert file.name == "disp_0003_0003.nii.gz" and [f.name for f in file.parent.iterdir()] == [file.name]
    written = nibabel.load(file)
    assert written.shape == (*SHAPE[::-1], 3) and written.get_data_dtype() == np.float32
    np.testing.assert_allclose(written.affine, nibabel.load(fixed).affine)
    # as the organisers warp: array indices, nothing else
    array = nibabel.load(moving).get_fdata()
    identity = np.stack(np.meshgrid(*map(np.arange, SHAPE[::-1]), indexing="ij"))
    found = ndimage.map_coordinates(array, identity + written.get_fdata().transpose(3, 0, 1, 2), order=1, cval=np.nan)
    # as ITK warps: points in mm
    expected = sitk.Resample(images[1], images[0], sitk.DisplacementFieldTransform(field), sitk.sitkLinear, np.nan)
    expected = sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.3
    np.testing.assert_allclose(found[both], expected[both], atol=0.05)


def test_names_of_submissions_hold_the_modalities_where_they_must():
    names = [f"Task_{case}_{kind}.nii.gz" for case, kind in (("0003", "0000"), ("0004", "0001"), ("0005", "0001"))]
    assert submission.file_name(names[0], names[1]) == "disp_0003_0004.nii.gz"
    assert submission.file_name(names[1], names[2]) == "disp_0004_0005.nii.gz"
    assert submission.file_name(names[1], names[0]) == "disp_0004_0001_0003_0000.nii.gz"
    with pytest.raises(InputError, match=r"expected names like NAME_0001_0000\.nii\.gz"):
        submission.file_name("amos_0507.nii.gz", names[0])


def test_amos_pairs_mr_with_ct_of_others(tmp_path):
    entries = []
    for number in (1, 2, 507, 508, 509):
        entries.append({key: str(_write(tmp_path / f"{key}sTr" / f"amos_{number:04d}.nii.gz",
                                        np.eye(10, dtype=np.uint8)[None].repeat(9, 0)).relative_to(tmp_path))
                        for key in ("image", "label")})
    (tmp_path / "dataset.json").write_text(json.dumps({"training": entries[:4], "validation": entries[4:], "test": []}))
    found = layouts.find("amos", tmp_path)
    assert [pair.fixed.image.name for pair in found] == [f"amos_0{n}.nii.gz" for n in (507, 508, 509)]
    assert {pair.moving.modality for pair in found} == {"CT"} and found == layouts.find("amos", tmp_path)
    assert (found[0].spacing, found[0].size) == ((2, 2, 2), (192, 160, 192))
    small = layouts.find("amos", tmp_path, most=2, spacing=(2, 2, 2), size=(8, 10, 9))
    assert len(small) == 2 and small[0].images()[0].GetSize() == (8, 10, 9)


def test_phases_of_a_liver_are_known_by_their_names(tmp_path):
    for name in ("p1/case1_Arterial", "p1/case1_portal-venous", "p1/case1_native", "p1/case1_native_seg", "p1/scout",
                 "p2/arterial"):
        _write(tmp_path / f"{name}.nii.gz")
    (tmp_path / "p1" / "case1_native_landmarks.csv").write_text("x,y,z\n1,2,3\n")
    arterial, native = layouts.find("liver", tmp_path)
    assert arterial.name == "liver p1 venous <- arterial" and arterial.fixed.image.name == "case1_portal-venous.nii.gz"
    assert native.moving.labels.name == "case1_native_seg.nii.gz" and native.moving.landmarks is not None
    np.testing.assert_allclose(native.moving.points(), [[1, 2, 3]])
    _write(tmp_path / "p1" / "art.nii.gz")
    with pytest.raises(InputError, match="two files of the arterial phase"):
        layouts.find("liver", tmp_path)


@pytest.mark.parametrize("name, files", [
    ("ixi", ("IXI-T1/IXI002-Guys-0828-T1", "IXI-T2/IXI002-Guys-0828-T2", "IXI-T1/IXI012-HH-1211-T1")),
    ("hcp", ("100307/T1w/T1w_acpc_dc_restore", "100307/T1w/T2w_acpc_dc_restore")),
    ("bids", ("sub-01/anat/sub-01_T1w", "sub-01/anat/sub-01_T2w", "sub-02/anat/sub-02_T1w")),
    ("bids", ("sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w", "sub-01/ses-a/anat/sub-01_ses-a_run-1_T2w"))])
def test_t1_and_t2_of_a_subject_differ_by_a_known_deformation(tmp_path, name, files):
    array = np.zeros((20, 18, 16), np.float32)
    array[4:16, 4:14, 4:12] = np.random.default_rng(0).random((12, 10, 8)) + 1
    for file in files:
        _write(tmp_path / f"{file}.nii.gz", array)
    pair, = layouts.find(name, tmp_path)
    assert (pair.fixed.modality, pair.moving.modality) == ("T2", "T1") and pair.moving.image.name.count("T1") >= 1
    fixed, moving = pair.images()
    truth = pair._truth(fixed)
    assert pair.score(truth)["tre"] == pytest.approx(0, abs=1e-5)
    assert pair.score(scaled(truth, 0))["tre"] == pytest.approx(pair.score(truth)["tre_start"]) != 0
    # both files hold one image: it lies under the fixed one where the truth says
    warped = sitk.Resample(moving, fixed, sitk.DisplacementFieldTransform(sitk.Image(truth)), sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(fixed), atol=1e-4)


def test_what_is_no_set_is_said_in_a_sentence(tmp_path):
    for name, folder, message in (("oasis", tmp_path, "expected one of learn2reg, amos"),
                                  ("ixi", tmp_path / "no", "is no folder"), ("bids", tmp_path, "no pairs in"),
                                  ("learn2reg", tmp_path, r"expected one description, .* got none")):
        with pytest.raises(InputError, match=message):
            layouts.find(name, folder)
    with pytest.raises(InputError, match="has no split, only learn2reg does"):
        layouts.find("ixi", tmp_path, split="val")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        layouts.find("amos", tmp_path)
