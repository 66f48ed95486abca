"""Promise: a template has the mean shape of its group, whatever the contrasts are, and is made only once."""

import contextlib
import json
import pathlib
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import small_scans
import torch
from small_scans import QUICK, SPACING

from pymasr import cli, ops
from pymasr.batch import Crew, Watcher, Workers
from pymasr.errors import InputError
from pymasr.evaluation import foreground
from pymasr.geometry import Geometry
from pymasr.sitk import vectors_to_sitk
from pymasr.template import Construction, Subject, build_template, read_group, subjects_of
from pymasr.template import build as module
from pymasr.template.group import target_of
from pymasr.template.shape import inverse_displacement, positions, without_pose


class Counted(Watcher):
    """Counts the registrations."""

    def __init__(self):
        self.names = []

    def ends(self, row):
        self.names.append(row.pair.id)


@pytest.fixture(scope="module")
def crew():
    with Crew(Workers(2, 1, device="cpu")) as crew:
        yield crew


@pytest.fixture(autouse=True)
def shared_workers(crew, monkeypatch):
    """Workers of their own would take seconds to start in every test."""
    monkeypatch.setattr(module, "Crew", lambda workers: contextlib.nullcontext(crew))


def build(subjects, out, watcher=None, options=None, redo=False, **construction):
    return build_template(subjects, out, Construction(**construction), options={**QUICK, **(options or {})},
                          watcher=watcher, redo=redo)


@pytest.mark.parametrize("contrasts", [(1,), (1, 2)], ids=["one contrast", "two contrasts"])
def test_nearer_to_the_true_mean_than_any_subject(tmp_path, contrasts):
    """The anatomy whose maps to the subjects add up to nothing is the mean shape; poses are taken out."""
    files, inverses, truth = small_scans.group(tmp_path / "in", 4, contrasts=contrasts)
    subjects = [Subject(f"s{k}", {"AB"[k % len(contrasts)]: file}) for k, file in enumerate(files)]
    template = build(subjects, tmp_path / "out", iterations=2)
    assert list(template.files) == ["A", "B"][:len(contrasts)] and all(row.status == "done" for row in template.rows)

    grid = Geometry(truth.shape, (SPACING,) * 3)
    here, region = positions(grid), foreground(torch.from_numpy(truth)).numpy()

    def distance(points):
        """Mean in mm from the true mean shape of a shape whose points these are in it."""
        return np.linalg.norm(without_pose(here, points, region) - here, axis=-1)[region].mean()

    def to_truth(number, points):
        """Where the truth has what a subject has at `points`."""
        voxels = torch.from_numpy(np.moveaxis(points[..., ::-1], -1, 0) / SPACING).float()
        moved = ops.warp(torch.from_numpy(inverses[number]), (voxels - torch.from_numpy(np.indices(truth.shape)))
                         .float().contiguous())
        return points + SPACING * np.moveaxis(moved.numpy(), 0, -1)[..., ::-1]

    singles = [distance(to_truth(number, here)) for number in range(4)]
    reached = [to_truth(number, here + sitk.GetArrayFromImage(sitk.ReadImage(str(
        tmp_path / "out" / "subjects" / f"s{number}" / "displacement.nii.gz")))) for number in range(4)]
    assert distance(np.mean(reached, 0)) < 0.4 * min(singles)
    first, last = (facts["from_mean_shape_mm"]["mean"] for facts in (template.report["iterations"][0], template.report))
    assert last < first and (len(contrasts) > 1 or last < 0.25 * first)

    def likeness(file):
        return np.corrcoef(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[region], truth[region])[0, 1]

    same = [likeness(file) for file, subject in zip(files, subjects) if "A" in subject.scans]
    assert likeness(template.files["A"]) > max(same)


@pytest.fixture
def group(tmp_path):
    files, _ = small_scans.scans(tmp_path / "in", fixed=3, moving=1, size=20)
    return subjects_of(files)


def test_resumed_continued_and_refused(group, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = Counted()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="interrupted in iteration 1 of 1; the"):
        patch.setattr(module, "mean_shape", stop)
        build(group, out, first, iterations=1)
    assert sorted(first.names) == sorted(subject.id for subject in group)
    again = Counted()
    template = build(group, out, again, iterations=1)
    assert sorted(again.names) == sorted(first.names)  # those of the last step alone
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "iterations", "subjects", "template.json", "template.nii.gz"]
    assert not (out / "iterations" / "01" / "subjects").exists()
    before = template.files["image"].read_bytes()

    rest = Counted()
    build(group, out, rest, iterations=1)
    assert rest.names == [] and template.files["image"].read_bytes() == before
    shutil.rmtree(out / "subjects" / group[0].id)
    build(group, out, rest, iterations=1)
    assert rest.names == [group[0].id]

    for change, why in (({"options": {"regularisation": 3}}, "regularisation was 7.0, now it is 3"),
                        ({"sharpen": "laplacian"}, "sharpen was 'none', now it is 'laplacian'")):
        with pytest.raises(InputError, match="holds a template of other scans or settings") as caught:
            build(group, out, **{"iterations": 1, **change})
        assert why in str(caught.value)
    with pytest.raises(InputError, match=f"{group[2].id} image is not what it was"):
        build(group[:2], out, iterations=1)
    longer = Counted()
    template = build(group, out, longer, iterations=2)  # goes on where one ended
    assert len(longer.names) == 6 and template.files["image"].read_bytes() != before
    build(group, out, longer, iterations=2, sharpen="laplacian", redo=True)
    assert len(longer.names) == 15


def test_the_number_of_workers_changes_nothing(group, tmp_path, monkeypatch):
    template = build(group, tmp_path / "two", iterations=1)
    with Crew(Workers(1, 2, device="cpu")) as alone:
        monkeypatch.setattr(module, "Crew", lambda workers: contextlib.nullcontext(alone))
        other = build(group, tmp_path / "one", iterations=1)
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(t.files["image"]))) for t in (template, other)]
    np.testing.assert_array_equal(*arrays)


def test_broken_scans_are_left_out_and_told(group, tmp_path):
    (tmp_path / "broken.nii").write_bytes(b"no image")
    broken = [*group[:2], Subject("gone", {"image": str(tmp_path / "gone.nii")}),
              Subject("half", {"image": group[2].scans["image"], "T2": str(tmp_path / "broken.nii")})]
    template = build(broken, tmp_path / "out", iterations=1)
    assert "no such file" in template.report["failed"]["gone"]
    facts = template.report["iterations"][0]
    assert facts["subjects"] == 3 and "half: T2 scan" in facts["left_out"][0] and list(template.files) == ["image"]
    with pytest.raises(InputError, match="1 of 2 subjects could be registered, two are needed; gone: "):
        build([group[0], broken[2]], tmp_path / "other", iterations=1)


def test_grid_of_the_template(group, tmp_path):
    build(group, tmp_path / "out", iterations=1, spacing=5.0, margin=10.0, reference=group[1].id)
    template, reference = (sitk.ReadImage(str(path)) for path in (tmp_path / "out/template.nii.gz",
                                                                  group[1].scans["image"]))
    assert template.GetSpacing() == (5.0,) * 3
    middles = [image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
               for image in (template, reference)]
    np.testing.assert_allclose(*middles, atol=1e-3)
    for n, m in zip(template.GetSize(), reference.GetSize()):
        assert n * 5 == pytest.approx(m * SPACING + 20, abs=5)


def test_poses_are_taken_out_and_inverses_are_inverses():
    geometry = Geometry((12, 10, 14), (3.0, 2.0, 2.5), (5.0, -4.0, 7.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    here = positions(geometry)
    for k, index in enumerate(((0, 0, 0), (3, 4, 5))):
        expected = geometry.voxel_to_physical @ [*index, 1]
        np.testing.assert_allclose(here[index], expected[:3], err_msg=str(k))
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    region = np.ones(geometry.shape, bool)
    np.testing.assert_allclose(without_pose(here, here @ turn.T + 8, region), here, atol=1e-9)
    middle = here.mean((0, 1, 2))
    larger = middle + 1.1 * (here - middle)
    np.testing.assert_allclose(without_pose(here, 1.1 * here @ turn.T, region), larger, atol=1e-9)

    displacement = 1.5 * np.sin(here / 9)
    inverse, unconverged = inverse_displacement(displacement, geometry)
    field = sitk.DisplacementFieldTransform(vectors_to_sitk(displacement, geometry))
    points = here[3:-3, 3:-3, 3:-3].reshape(-1, 3)
    back = inverse[3:-3, 3:-3, 3:-3].reshape(-1, 3)
    there = np.array([field.TransformPoint(p) for p in (points + back).tolist()])
    assert unconverged == 0 and np.abs(there - points).max() < 0.02


def test_groups_from_tables_and_files(tmp_path):
    table = tmp_path / "g.csv"
    table.write_text("id,T1,FLAIR,mask,note\na,a1.nii,,m.nii,x\nb,,b2.nii,,\nc,/c1.nii,c2.nii,,\n")
    one, two, three = read_group(table)
    assert one == Subject("a", {"T1": str(tmp_path / "a1.nii")}, str(tmp_path / "m.nii"))
    assert two.scan_for("T1") == str(tmp_path / "b2.nii") and three.scan_for("FLAIR") == str(tmp_path / "c2.nii")
    assert target_of([one, two, three]) == "T1" and target_of([two, one, three], "FLAIR") == "FLAIR"
    with pytest.raises(InputError, match="no subject has the target contrast T2, there are T1, FLAIR"):
        target_of([one, two], "T2")
    assert [s.id for s in subjects_of(["x/t1.nii.gz", "y/t1.nii.gz"])] == ["x_t1", "y_t1"]
    for text, message in (("T1\na\n", "expected the column id"), ("id\na\n", "one for each contrast"),
                          ("id,T1\na,\n", "line 2: has no scan"), ("id,T1\n,x\n", "line 2: has no id"),
                          ("id,T 1\na,b\n", "cannot be part of a file's name")):
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            read_group(table)


@pytest.mark.parametrize(("arguments", "message"), [
    (["a.nii"], "takes two subjects or more, got 1"),
    (["a.nii", "g.csv"], "give one table or images"),
    (["a.nii", "b.nii", "--step", "2"], "step must be above 0, at most 1, got 2.0"),
    (["a.nii", "b.nii", "--spacing", "-1"], "spacing must be positive"),
    (["a.nii", "b.nii", "--reference", "c"], "the reference must be the id of a subject or an image file, got 'c'"),
    (["a.nii", "a.nii"], "have the id"),
    (["a.nii", "b.nii", "--target", "T9"], "no subject has the target contrast T9")])
def test_wrong_use_ends_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["template", *arguments, "-o", "out"]) == cli.WRONG_USE
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1


def test_files_that_are_not_its_own_stay(group, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "template.nii.gz").write_text("mine")
    with pytest.raises(InputError, match=r"holds template\.nii\.gz, which is of no template that can be gone on with"):
        build(group, tmp_path / "out", redo=True)
    assert (tmp_path / "out" / "template.nii.gz").read_text() == "mine"


def test_command(group, tmp_path, capsys):
    files = [subject.scans["image"] for subject in group]
    out = pathlib.Path(tmp_path / "out")
    assert cli.main(["template", *files, "-o", str(out), "--iterations", "1", "--features", "dns", "--preset", "fast",
                     "--initial", "headers", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "iteration 1 of 1" in text and "mm from the mean shape" in text and f"wrote {out}/template.nii.gz" in text
    report = json.loads((out / "template.json").read_text())
    assert report["subjects"][group[0].id] == {"image": files[0]} and report["failed"] == {}
