"""Promise: a BIDS dataset gives pairs within subjects and sessions, and results names of a BIDS derivative."""

import json

import pytest

from pymasr.batch import find_pairs
from pymasr.batch.bids import write_description
from pymasr.batch.pairs import require_usable
from pymasr.errors import InputError


def dataset(tmp_path, *names):
    root = tmp_path / "bids"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_pairs_within_subjects_and_sessions(tmp_path):
    root = dataset(
        tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/sub-01_FLAIR.nii",
        "sub-01/anat/sub-01_T1w.json", "sub-01/anat/notes_T2w.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T2w.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_run-2_T2w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_T2w.nii.gz", "sub-03/anat/sub-03_T1w.nii.gz", "derivatives/x/y_T1w.nii.gz")
    found = find_pairs(root)
    assert [pair.id for pair in found.pairs] == [
        "sub-01_from-FLAIR_to-T1w", "sub-01_from-T2w_to-T1w", "sub-02_ses-a_run-1_from-T2w_to-T1w",
        "sub-02_ses-a_run-2_from-T2w_to-T1w"]
    assert found.pairs[0].fixed == str(root / "sub-01/anat/sub-01_T1w.nii.gz")
    assert found.pairs[0].moving == str(root / "sub-01/anat/sub-01_FLAIR.nii")
    assert found.incomplete == ["sub-02/ses-b", "sub-03"]
    require_usable(found.pairs)
    assert found.pairs[0].destination("warped.nii.gz") == "sub-01_from-FLAIR_to-T1w/warped.nii.gz"


def test_other_suffixes(tmp_path):
    root = dataset(tmp_path, "sub-1/anat/sub-1_run-1_T1w.nii.gz", "sub-1/anat/sub-1_run-2_T1w.nii.gz",
                   "sub-1/pet/sub-1_trc-FDG_pet.nii.gz")
    pair, = find_pairs(root, "run-2_T1w", ["pet"]).pairs
    assert pair.fixed.endswith("run-2_T1w.nii.gz") and pair.moving.endswith("FDG_pet.nii.gz") and not pair.obstacle
    pair, = find_pairs(root, "T1w", ["pet"]).pairs  # which of the two?
    assert "2 images that end in T1w" in pair.obstacle and "--fixed-suffix run-1_T1w" in pair.obstacle


def test_names_of_a_derivative(tmp_path):
    root = dataset(tmp_path, "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
                   "sub-02/ses-a/anat/sub-02_ses-a_run-1_T2w.nii.gz")
    pair, = find_pairs(root, derivative=True).pairs
    folder = "sub-02/ses-a/anat/sub-02_ses-a_run-1"
    assert pair.destination("transform.h5") == f"{folder}_from-T2w_to-T1w_mode-image_xfm.h5"
    assert pair.destination("inverse.h5") == f"{folder}_from-T1w_to-T2w_mode-image_xfm.h5"
    assert pair.destination("warped.nii.gz") == f"{folder}_space-T1w_T2w.nii.gz"
    assert pair.destination("overview.png").startswith("sub-02/figures/sub-02_ses-a_run-1_")
    assert len(set(pair.names.values())) == len(pair.names)


def test_description(tmp_path):
    write_description(tmp_path, tmp_path / "bids")
    text = (tmp_path / "dataset_description.json").read_text()
    assert json.loads(text)["DatasetType"] == "derivative" and json.loads(text)["GeneratedBy"][0]["Name"] == "pymasr"
    (tmp_path / "dataset_description.json").write_text("mine")
    write_description(tmp_path, tmp_path / "bids")
    assert (tmp_path / "dataset_description.json").read_text() == "mine"


def test_no_dataset_and_no_pair(tmp_path):
    with pytest.raises(InputError, match="is no BIDS dataset"):
        find_pairs(tmp_path)
    with pytest.raises(InputError, match="no subject has an image that ends in _T1w and another"):
        find_pairs(dataset(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz"))
