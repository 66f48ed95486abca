"""Promise: a manifest gives the pairs that it lists, or one sentence that names the line."""

import os
import shutil

import pytest

from pymasr.batch import Pair, read_manifest
from pymasr.batch.pairs import require_usable, resolved, weights_files
from pymasr.errors import InputError
from pymasr.models import packaged


def manifest(tmp_path, text, name="m.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_rows_become_pairs(tmp_path):
    (tmp_path / "start.tfm").touch()
    file = manifest(tmp_path, "\ufeffid, fixed ,moving,fixed_mask,moving_labels,preset,regularisation,initial,"
                              "note_site\r\n"
                              "one,a.nii,sub/b.nii.gz,m.nii,,fast,5,start.tfm,Graz\r\n"
                              "\r\n"
                              'two,/data/a.nii,"b, left.nii",,l.nii,,,,\r\n')
    one, two = read_manifest(file)
    here = str(tmp_path)
    assert one == Pair("one", f"{here}/a.nii", f"{here}/sub/b.nii.gz", {"fixed_mask": f"{here}/m.nii"},
                       {"preset": "fast", "regularisation": 5, "initial": f"{here}/start.tfm"}, {"note_site": "Graz"})
    assert two == Pair("two", "/data/a.nii", f"{here}/b, left.nii", {"moving_labels": f"{here}/l.nii"}, {},
                       {"note_site": ""})
    assert one.inputs == {"fixed": one.fixed, "moving": one.moving, "fixed_mask": f"{here}/m.nii",
                          "initial": f"{here}/start.tfm"}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators(tmp_path, separator):
    pair, = read_manifest(manifest(tmp_path, f"fixed{separator}moving\na/t1.nii.gz{separator}a/t2.nii.gz\n"))
    assert (pair.id, pair.moving) == ("a_t2_to_a_t1", os.path.join(tmp_path, "a/t2.nii.gz"))


@pytest.mark.parametrize(("text", "message"), [
    ("fixed\na\n", "has no column moving"),
    ("fixed,moving,fixed\na,b,c\n", "the column fixed is there twice"),
    ("fixed,moving,fixd_mask\na,b,c\n", "there is no column fixd_mask; did you mean fixed_mask"),
    ("fixed,moving,hospital\na,b,c\n", "begin with note: note_hospital"),
    ("fixed,moving\n", "holds no rows"),
    ("", "holds no rows"),
    ("fixed,moving\na,\n", "line 2: names no moving image"),
    ("fixed,moving\na,b,c\n", "line 2: has 3 cells, expected 2"),
    ("fixed,moving,preset\na,b,quick\n", "line 2: settings: preset must be one of fast"),
    ("fixed,moving,regularisation\na,b,5\n\na,b,-1\n", "line 4: settings: regularisation must be at least 0"),
    ("fixed,moving,features\na,b,surf\n", "line 2: features: there is no descriptor called surf"),
    ("fixed,moving,initial\na,b,nowhere.tfm\n", "line 2: initial must be one of .*which is no file"),
])
def test_bad_manifests(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(manifest(tmp_path, text))
    assert str(tmp_path / "m.csv") in str(caught.value)


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"\x1f\x8b\xff\x00")
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(InputError, match="No such file"):
        read_manifest(tmp_path / "other.csv")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "Index.html", " a", "a\n", "x" * 200])
def test_ids_that_name_no_folder(name):
    with pytest.raises(InputError, match="cannot name a folder"):
        require_usable([Pair(name, "a", "b")])


def test_ids_are_unique_and_some(tmp_path):
    with pytest.raises(InputError, match="2 pairs have the id A, such as b to a and d to c"):
        require_usable([Pair("A", "a", "b"), Pair("a", "c", "d")])
    with pytest.raises(InputError, match="no pair"):
        require_usable([])


def test_what_decides_the_result():
    """Defaults that are spelled out change nothing, nor does the device; anything else does."""
    assert resolved({}) == resolved({"preset": "default", "features": "masr", "device": "cpu", "initial": "auto"})
    assert resolved({"regularisation": 3}) != resolved({}) != resolved({"transform": "affine"})
    assert resolved({"initial": "mass"}) != resolved({})
    for options in ({"fixed_mask": "a"}, {"progress": 1}, {"regularization": 3}):
        with pytest.raises(InputError):
            resolved(options)


def test_weights_of_ones_own_are_inputs(tmp_path):
    weights = tmp_path / "mine.safetensors"
    shutil.copy(packaged.FOLDER / "masr.safetensors", weights)
    features = f"dsir(weights={str(weights)!r}) + dns"
    assert weights_files({"features": features}) == {"weights mine.safetensors": str(weights)}
    assert weights_files({"features": "masr", "network": "registration"}) == {}
