"""Promise: every pair of a batch ends with the result that it would have alone, or with a reason; nothing done is lost
or done twice."""

import csv
import errno
import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import small_scans
from small_scans import QUICK

import pymasr
from pymasr.batch import Crew, Pair, Watcher, Workers, register_pairs, runner
from pymasr.batch.store import Store
from pymasr.errors import InputError
from pymasr.registration.result import FILES


class Told(Watcher):
    """Remembers what a batch tells."""

    def __init__(self, then=lambda row: None):
        self.begun, self.ended, self.retried, self.then = None, [], [], then

    def begins(self, total, done, failed):
        self.begun = (total, done, failed)

    def ends(self, row):
        self.ended.append(row.pair.id)
        self.then(row)

    def retries(self, name):
        self.retried.append(name)


@pytest.fixture(scope="module")
def crew():
    with Crew(Workers(2, 1, device="cpu")) as crew:
        yield crew


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return small_scans.scans(tmp_path_factory.mktemp("scans"), fixed=10, moving=5)


@pytest.fixture
def pairs(scans, tmp_path):
    """Three, on copies of the scans that a test may spoil."""
    copies = [shutil.copy(file, tmp_path) for file in (*scans[0][:3], scans[1][0])]
    return [Pair(f"p{number}", fixed, copies[3]) for number, fixed in enumerate(copies[:3])]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(pairs, out, crew, told=None, **more):
    told = told or Told()
    rows = register_pairs(pairs, out, options={**QUICK, **more.pop("options", {})}, workers=crew, watcher=told, **more)
    return rows, told


def test_fifty_pairs_and_a_worker_that_is_killed(scans, out, crew):
    """All finish, with the bits of a single process."""
    pairs = [Pair(f"{k}-{n}", fixed, moving) for k, fixed in enumerate(scans[0]) for n, moving in enumerate(scans[1])]

    def kill(row):
        """The worker that has just begun its next pair; again, should that have been between two."""
        if len(told.ended) >= 20 and not told.retried:
            os.kill(int(row.facts["worker"].rpartition(":")[2]), signal.SIGKILL)

    rows, told = run(pairs, out, crew, told := Told(kill))
    assert [row.status for row in rows] == ["done"] * 50 and sorted(told.ended) == sorted(pair.id for pair in pairs)
    assert told.retried and all(row.record.attempts == 1 + told.retried.count(row.pair.id) for row in rows)
    for row in rows:
        assert sorted(os.listdir(out / row.pair.id)) == sorted(FILES)
        alone = pymasr.register(row.pair.fixed, row.pair.moving, **QUICK)
        displacement = sitk.GetArrayFromImage(sitk.ReadImage(str(out / row.pair.id / "displacement.nii.gz")))
        np.testing.assert_array_equal(displacement, sitk.GetArrayViewFromImage(alone.displacement))
        assert row.facts["similarity_after"] == alone.report["similarity_after"]
    assert not (out / ".pymasr-batch" / "scratch").exists()


def test_one_broken_scan_stops_no_other(pairs, out, crew, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    broken = [Pair("broken", str(tmp_path / "broken.nii.gz"), pairs[0].moving),
              Pair("gone", pairs[0].fixed, str(tmp_path / "gone.nii.gz")),
              Pair("twice", pairs[0].fixed, pairs[0].moving, obstacle="which of the two?")]
    rows, told = run([*broken, *pairs], out, crew)
    assert [row.status for row in rows] == ["failed"] * 3 + ["done"] * 3
    assert "broken.nii.gz: cannot be read" in rows[0].reason and "no such file" in rows[1].reason
    assert rows[2].reason == "which of the two?" and not (out / "broken").exists()

    shutil.copy(pairs[1].fixed, tmp_path / "broken.nii.gz")  # another file now: tried without being asked
    rows, told = run([*broken, *pairs], out, crew)
    assert (told.begun, told.ended) == ((6, 3, 2), ["broken"]) and rows[0].status == "done"
    rows, told = run([*broken, *pairs], out, crew, retry_failed=True)
    assert (told.begun, sorted(told.ended)) == ((6, 4, 0), ["gone", "twice"])


def test_done_pairs_are_skipped_where_they_are_what_they_were(pairs, out, crew):
    run(pairs[:2], out, crew)
    record = out / ".pymasr-batch" / "records" / "p0.json"
    before = record.read_text()
    os.utime(pairs[0].fixed)  # another time, the same content
    rows, told = run(pairs, out, crew, verify=False)
    assert told.begun == (3, 2, 0) and told.ended == ["p2"] and record.read_text() == before
    (out / "p1" / "inverse.h5").unlink()
    rows, told = run(pairs, out, crew, verify=True)
    assert told.ended == ["p1"] and (out / "p1" / "inverse.h5").exists()
    assert [row.status for row in rows] == ["done"] * 3
    shutil.rmtree(out / "p2")
    assert run(pairs, out, crew)[1].ended == ["p2"]


@pytest.mark.parametrize(("change", "why"), [
    (lambda pairs, out: (pairs[0], {"preset": "default"}), "preset was 'fast', now it is 'default'"),
    (lambda pairs, out: (pairs[0], {"regularisation": 4}), "regularisation was 7.0, now it is 4"),
    (lambda pairs, out: (shutil.copy(pairs[1].fixed, pairs[0].fixed) and pairs[0], {}), "its fixed is another one"),
    (lambda pairs, out: (replace(pairs[0], files={"fixed_mask": pairs[0].fixed}), {}), "its fixed mask is new"),
    (lambda pairs, out: ((out / "p0" / "report.json").write_text("mine") and pairs[0], {}), "report.json was changed"),
    (lambda pairs, out: (shutil.rmtree(out / ".pymasr-batch") or pairs[0], {}), "of which the batch knows nothing")])
def test_other_results_are_not_replaced_without_a_word(pairs, out, crew, change, why):
    run(pairs[:1], out, crew)
    before = (out / "p0" / "transform.h5").read_bytes()
    pair, options = change(pairs, out)
    with pytest.raises(InputError, match="1 of 1 pairs have other results already") as caught:
        run([pair], out, crew, options=options)
    assert why in str(caught.value) and "--redo" in str(caught.value)
    assert (out / "p0" / "transform.h5").read_bytes() == before
    rows, told = run([pair], out, crew, options=options, redo=True)
    assert told.ended == ["p0"] and rows[0].status == "done"
    assert run([pair], out, crew, options=options)[1].begun == (1, 1, 0)


def test_a_new_version_of_the_package_is_no_reason_to_replace_in_silence(pairs, out, crew, monkeypatch):
    run(pairs[:1], out, crew)
    monkeypatch.setattr(runner, "__version__", "9.9")
    with pytest.raises(InputError, match=r"it was made by pymasr .*, this is 9\.9"):
        run(pairs[:1], out, crew)
    rows, _ = run(pairs[:1], out, crew, redo=True)  # the workers still have the old one
    assert "install the same" in rows[0].reason and "the result of an earlier run" in rows[0].reason
    assert (out / "p0" / "transform.h5").exists()


def test_a_pair_that_kills_its_workers(pairs, out, crew, monkeypatch):
    monkeypatch.setattr(runner, "register_pair", small_scans.register_or_die)
    deadly = Pair("deadly", pairs[0].fixed, pairs[0].moving)
    rows, told = run([deadly, *pairs], out, crew)
    assert [row.status for row in rows] == ["failed", "done", "done", "done"]
    assert told.retried.count("deadly") == 2 and rows[0].record.attempts == 3
    assert "its worker died 3 times" in rows[0].reason


def test_labels_and_options_of_a_pair(pairs, out, crew, scans):
    labels = os.path.join(os.path.dirname(scans[0][0]), "labels.nii.gz")
    pair = Pair("p", pairs[0].fixed, pairs[0].moving, {"moving_labels": labels, "fixed_labels": labels},
                {"transform": "affine"}, {"note_site": "Graz"})
    broken = Pair("q", pairs[0].fixed, pairs[0].moving, {"moving_labels": pairs[0].moving})
    rows, _ = run([pair, broken], out, crew)
    assert rows[0].facts["dice_before"] == 1.0 > rows[0].facts["dice_after"] > 0.1  # the labels were not deformed
    warped = sitk.ReadImage(str(out / "p" / "warped_labels.nii.gz"))
    assert warped.GetSize() == sitk.ReadImage(pair.fixed).GetSize() and "integer" in warped.GetPixelIDTypeAsString()
    report = json.loads((out / "p" / "report.json").read_text())
    assert report["settings"]["transform"] == "affine" and report["preset"] == "fast"
    assert "labels must be whole numbers" in rows[1].reason
    with (out / "summary.csv").open(newline="") as stream:
        one, other = csv.DictReader(stream)
    assert (one["id"], one["status"], one["note_site"]) == ("p", "done", "Graz")
    assert float(one["dice_after"]) == rows[0].facts["dice_after"]
    assert (other["status"], other["similarity_after"]) == ("failed", "") and "whole numbers" in other["reason"]


def test_two_batches_in_one_directory(pairs, out, crew):
    with Store(out).locked(), pytest.raises(InputError, match=f"another batch works in it .process {os.getpid()} on "):
        run(pairs, out, crew)
    assert not (out / "summary.csv").exists()


def test_a_file_system_without_locks(out, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="its file system has no locks"), Store(out).locked():
        assert (out / ".pymasr-batch" / "lock").exists()


def test_a_run_that_was_killed_while_it_published(pairs, out, crew):
    """A record that says so counts as nothing, and what was begun is taken away."""
    run(pairs[:1], out, crew)
    record = out / ".pymasr-batch" / "records" / "p0.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "publishing"}))
    (out / ".pymasr-batch" / "scratch" / "p0" / "x").mkdir(parents=True)
    rows, told = run(pairs[:1], out, crew)
    assert told.ended == ["p0"] and rows[0].record.attempts == 1


def test_the_page_shows_everything_and_needs_nothing(pairs, out, crew, tmp_path):
    name = "ü <b> & c#"
    run([Pair(name, pairs[0].fixed, pairs[0].moving), Pair("gone", "nothing<i>", pairs[0].moving)], out, crew)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "ü &lt;b&gt; &amp; c#" in page and "<b> & c#" not in page.replace("<b>ü", "")
    assert 'href="%C3%BC%20%3Cb%3E%20%26%20c%23/overview.png"' in page
    assert "nothing&lt;i&gt;: no such file" in page
    assert page.count('src="data:image/jpeg;base64,') == 1 and "http" not in page


def test_results_in_places_of_their_own(pairs, out, crew):
    pair = Pair("p", pairs[0].fixed, pairs[0].moving, names={"transform.h5": "sub-1/anat/t.h5"})
    run([pair], out, crew)
    assert (out / "sub-1" / "anat" / "t.h5").exists() and not (out / "p" / "transform.h5").exists()
    assert run([pair], out, crew)[1].begun == (1, 1, 0)


def test_options_that_make_no_sense(pairs, out, crew):
    with pytest.raises(InputError, match="there is no setting called regularization"):
        run(pairs, out, crew, options={"regularization": 3})
    assert not out.exists()


def test_a_page_for_every_pair(pairs, out, crew):
    run(pairs[:1], out, crew, pages=True)
    assert (out / "p0" / "report.html").exists()
    assert '<a href="p0/report.html">report</a>' in (out / "index.html").read_text()
    with pytest.raises(InputError, match="report was True, now it is False"):
        run(pairs[:1], out, crew)
