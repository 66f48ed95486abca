"""Promise: real scans of any grid and format become views as synthetic ones do; one that is of no use stops everything
before it starts."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from smoke import smoke_config

from pymasr.errors import InputError
from pymasr.training import loop, synthetic
from pymasr.training import scans as scans_module
from pymasr.training.appearance import AppearanceConfig
from pymasr.training.checkpoint import read_checkpoint
from pymasr.training.draws import Draws
from pymasr.training.pairs import TRAINING, Pairs
from pymasr.training.scans import Scans, ScansConfig, body_of, read_scan
from pymasr.training.views import random_views

EXTENT = smoke_config().views.extent


def write_scan(file, shape=(48, 44, 40), spacing=(1.0, 1.0, 1.0), seed=0):
    """A synthetic trunk with 0 to 1000 and noise around it; `spacing` (x, y, z)."""
    labels = synthetic.anatomy(shape, spacing[::-1], seed=seed)
    image = sitk.GetImageFromArray(np.round(1000 * synthetic.render(labels, seed, spacing[::-1])).astype(np.int16))
    image.SetSpacing(spacing)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scans, in three formats and grids, and files that are none."""
    folder = tmp_path_factory.mktemp("scans")
    write_scan(folder / "b.nii.gz")
    write_scan(folder / "sub" / "a.mha", (24, 44, 40), (1.0, 1.0, 2.0), seed=1)
    write_scan(folder / "c.NRRD", (42, 40, 44), (1.1, 1.1, 1.1), seed=2)
    (folder / "notes.txt").write_text("no scan")
    (folder / ".hidden.mha").write_text("no scan")
    return folder


def scans_of(folder, **settings):
    return Scans(ScansConfig(folder=str(folder), **settings), EXTENT)


def test_what_is_found(folder):
    scans = scans_of(folder)
    assert [f.relative_to(folder).as_posix() for f in scans.files] == ["b.nii.gz", "c.NRRD", "sub/a.mha"]
    scans.check()


def test_scans_get_isotropic_voxels_and_a_range(folder):
    for scan, shape in zip(map(scans_of(folder).scan, range(3)), ((48, 44, 40), (47, 44, 49), (48, 44, 40))):
        assert tuple(scan.image.shape) == tuple(scan.body.shape) == shape
        assert scan.image.dtype == torch.float16
        assert float(scan.image.min()) == 0 and float(scan.image.max()) == 1
    # a coarser grid is the mean of the finer one, not a part of its voxels
    coarse = read_scan(folder / "b.nii.gz", 2.0, 8)
    assert tuple(coarse.image.shape) == (24, 22, 20)


def test_the_body():
    labels = synthetic.anatomy((48, 44, 40), seed=3)
    image = torch.from_numpy(synthetic.render(labels, 3)).clamp(0, 1)
    body, truth = body_of(image), torch.from_numpy(labels != synthetic.BACKGROUND)
    assert float(body[truth].float().mean()) > 0.95
    assert float(body[:, :2, :2].float().mean()) < 0.3  # corners are air


def test_pieces(folder, monkeypatch):
    """As much of the body in them as was asked for, or as there is; anywhere else."""
    body = torch.zeros(60, 40, 40, dtype=torch.bool)
    body[:30] = True
    index = torch.arange(60 * 40 * 40).reshape(60, 40, 40)
    for foreground, least in ((0.0, 0.5), (0.9, 0.9), (1.0, 1.0)):
        scans = scans_of(folder, foreground=foreground)
        monkeypatch.setattr(scans, "scan", lambda number: scans_module.Scan((index / index.max()).half(), body))
        pieces = [scans.piece((20, 20, 20), Draws((seed,))) for seed in range(8)]
        assert all(p.image.shape == p.inside.shape == (20, 20, 20) and p.image.dtype == torch.float32 for p in pieces)
        assert min(float(p.inside.float().mean()) for p in pieces) >= least
        assert len({float(p.image.sum()) for p in pieces}) > 4


def test_both_views_show_the_scan(folder):
    """Along two curves of their own."""
    config = smoke_config()
    plain = AppearanceConfig(curve=0, noise=0, bias=0, blur=0, slices=0, ghosting=0, strip=0)
    pair = random_views(Draws((4,)), config.views, plain, scans_of(folder).piece)
    assert int(pair.border.sum()) >= 128 and bool((pair.valid | ~pair.border).all())
    assert not torch.equal(*pair.images)


@pytest.mark.parametrize("memory, expected", [(1024, 3), (2, 4), (0, 7)])
def test_memory_is_bounded(folder, monkeypatch, memory, expected):
    """Scans that were used last stay; each is as large as the next here."""
    reads = []
    original = scans_module.read_scan
    monkeypatch.setattr(scans_module, "read_scan", lambda *arguments: reads.append(1) or original(*arguments))
    monkeypatch.setattr(scans_module.Scan, "mebibytes", 1.0)
    scans = scans_of(folder, memory=memory)
    seen = {}
    for number in (0, 0, 1, 2, 1, 2, 0):
        scan = scans.scan(number)
        assert torch.equal(scan.image, seen.setdefault(number, scan).image)
        assert len(scans._kept) <= memory
    assert len(reads) == expected


def broken(kind, file):
    if kind == "truncated":
        write_scan(file)
        file.write_bytes(file.read_bytes()[:-2000])
    elif kind == "constant":
        sitk.WriteImage(sitk.GetImageFromArray(np.ones((48, 44, 40), np.float32)), str(file))
    elif kind == "nan":
        sitk.WriteImage(sitk.GetImageFromArray(np.full((48, 44, 40), np.nan, np.float32)), str(file))
    elif kind == "small":
        write_scan(file, (48, 20, 40))
    elif kind == "text":
        file.write_text("hello")


@pytest.mark.parametrize("kind, message", [
    ("truncated", "cannot be read"), ("constant", "is constant"), ("nan", "are NaN"), ("text", "cannot be read"),
    ("small", f"has 40 x 20 x 48 voxels of 1 mm, but pieces of {EXTENT} along each axis are needed"),
])
def test_a_scan_of_no_use_is_named_before_the_start(tmp_path, kind, message):
    broken(kind, tmp_path / "bad.mha")
    config = smoke_config(scans={"folder": str(tmp_path)})
    with pytest.raises(InputError) as error:
        loop.train(config, tmp_path / "out", progress=lambda step, values: pytest.fail("it had started"))
    assert message in str(error.value) and "bad.mha" in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "out").iterdir())


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        scans_of(tmp_path / "missing")
    with pytest.raises(InputError, match="has no file whose name ends with"):
        scans_of(tmp_path)


def test_shares(folder):
    """Some pairs of a mixture come from scans, the others do not."""
    config = smoke_config(scans={"folder": str(folder), "share": 0.5})
    scans = Scans(config.scans, EXTENT)
    made = []
    original = scans.piece
    scans.piece = lambda *a: made.append(number) or original(*a)
    pairs = Pairs(config, TRAINING, scans=scans)
    for number in range(8):
        pairs[number]
    assert 1 <= len(set(made)) <= 7


def test_training_on_scans(folder, tmp_path):
    """It goes on as if it had not stopped, from a folder that was moved; and refuses one with other scans in it."""
    def config(folder):
        return smoke_config(run={"steps": 2, "workers": 1}, scans={"folder": str(folder), "share": 1.0})

    moved = tmp_path / "moved"
    moved.mkdir()
    for file in scans_of(folder).files:
        goal = moved / file.relative_to(folder)
        goal.parent.mkdir(exist_ok=True)
        goal.write_bytes(file.read_bytes())
    loop.train(config(folder), tmp_path / "whole")
    loop.train(config(folder), tmp_path / "parts", stop=1)
    loop.train(config(moved), tmp_path / "parts")
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    (moved / "c.NRRD").unlink()
    with pytest.raises(InputError, match="was trained on other files"):
        loop.train(config(moved), tmp_path / "parts")


@pytest.mark.parametrize("settings", [{"share": 2.0}, {"foreground": -1.0}, {"spacing": 0.0}, {"memory": -1}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(InputError, match=r"^scans: "):
        ScansConfig(**settings)
