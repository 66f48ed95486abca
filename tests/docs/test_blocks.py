"""Promise: every block of code in README.md and docs/ runs as it stands, or says before it why it does not.

A page's blocks run in order, in a folder with the small images of :func:`files`. Python blocks of a page share their
names; bash blocks find `pymasr` and `python`; a yaml block is written to the file that its first line names (``#
name.yaml``). Where ``<!-- not run: reason -->`` stands in the line before a block it is not run, but the commands of
`pymasr` in it still have to be understood. Text that is no code is ``text``.
"""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr import cli
from pymasr.demo import make_pair

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
FENCE = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$",
                   re.DOTALL | re.MULTILINE)
RUN = ("python", "bash", "yaml")


def _found(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


#: What a page needs besides pymasr, and how it is installed.
NEEDED = {
    "docs/elastix.md": ("itk.itkElastixRegistrationMethodPython", "pip install itk-elastix"),
    "docs/itk.md": ("pymasr.itk._itk", "see docs/itk.md"),
    "docs/features.md": ("onnxruntime", "pip install onnx onnxruntime"),
    "docs/howto/kinds.md": ("nibabel", "pip install nibabel"),
    "docs/howto/transforms.md": (("monai", "torchio"), "pip install monai torchio"),
}


#: Pages whose blocks are run by a test of their own, which knows what they need and lead to.
TESTED_ELSEWHERE = {
    "docs/batch.md": "tests/batch/test_batch_page.py",
    "docs/evaluation.md": "tests/docs/test_report_pages.py",
    "docs/network.md": "tests/models/test_network_page.py",
    "docs/report.md": "tests/docs/test_report_pages.py",
    "docs/transforms.md": "tests/transforms/test_transform_page.py",
}


class Block(NamedTuple):
    language: str
    code: str
    reason: str | None


def blocks(page):
    return [Block(m["language"], m["code"], m["reason"]) for m in FENCE.finditer(PAGES[page])]


WITH_CODE = [page for page in PAGES if page not in TESTED_ELSEWHERE
             and any(b.language in RUN and b.reason is None for b in blocks(page))]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A pair of images, under the names that the pages use, and the labels of the moving one."""
    folder = tmp_path_factory.mktemp("files")
    pair = make_pair((24, 24, 24), 6.0, deformation=1.0, rotation=2.0, shift=(3.0, 0.0, -3.0), points=10)
    fixed, moving = pair.fixed, pair.moving
    ct = sitk.ShiftScale(fixed, 0.0, 1000.0) - 200.0
    for names, image in ((("fixed", "fixed_t2"), fixed), (("moving", "moving_t1", "mr", "t1", "T1"), moving),
                         (("ct", "CT"), ct), (("mr_organs", "labels"), pair.moving_labels)):
        for name in names:
            sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    commands = folder / "bin"
    commands.mkdir()
    for name, arguments in (("pymasr", "-m pymasr.cli"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (commands / name).chmod(0o755)
    return folder


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    """The folder that a page's blocks run in."""
    for file in files.glob("*.nii.gz"):
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{files / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # elastix's B-spline stage would take a minute
    if _found("itk"):
        monkeypatch.setattr("pymasr.itk.elastix.STAGES", ("affine",))
        monkeypatch.setattr("pymasr.itk.elastix.RESOLUTIONS", 1)
    return tmp_path


def run(page, folder):
    """Runs the blocks of a page in `folder`; returns the names that its Python has defined."""
    names = {}
    for block in blocks(page):
        if block.reason is not None or block.language not in RUN:
            continue
        if block.language == "python":
            exec(compile(block.code, page, "exec"), names)
        elif block.language == "bash":
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], cwd=folder, capture_output=True,
                                  text=True, timeout=900)
            assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
        else:
            (folder / re.match(r"# (\S+\.ya?ml)\n", block.code)[1]).write_text(block.code, encoding="utf-8")
    return names


@pytest.mark.parametrize("page", [page for page in WITH_CODE if page != "docs/index.md"])
def test_page(page, folder):
    modules, install = NEEDED.get(page, ((), ""))
    for module in (modules,) if isinstance(modules, str) else modules:
        if not _found(module):
            pytest.skip(f"{module} is not installed: {install}")
    run(page, folder)


def test_quick_start(folder):
    """The first page, word for word, from making a pair to the labels of the moving image on the fixed one."""
    run("docs/index.md", folder)
    labels = sitk.ReadImage(str(folder / "labels.nii.gz"))
    fixed, moving = (sitk.ReadImage(str(folder / "demo" / f"{name}_labels.nii.gz")) for name in ("fixed", "moving"))
    assert labels.GetPixelID() == moving.GetPixelID() and labels.GetSize() == fixed.GetSize()
    np.testing.assert_allclose(labels.GetOrigin(), fixed.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(labels.GetDirection(), fixed.GetDirection(), atol=1e-5)
    array = sitk.GetArrayFromImage(labels)
    assert set(np.unique(array)) <= set(np.unique(sitk.GetArrayFromImage(moving)))
    unmoved = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
    before, after = (agreement(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(fixed))
                     for image in (unmoved, labels))
    assert after > before + 0.2


def agreement(labels, truth):
    """Mean Dice of the structures."""
    return np.mean([2 * ((labels == k) & (truth == k)).sum() / ((labels == k).sum() + (truth == k).sum())
                    for k in np.unique(truth) if k])


@pytest.mark.parametrize("page", [page for page in TESTED_ELSEWHERE if page in PAGES])
def test_pages_tested_elsewhere(page):
    text = (ROOT / TESTED_ELSEWHERE[page]).read_text(encoding="utf-8")
    assert f'"{pathlib.Path(page).name}"' in text or f'"{pathlib.Path(page).stem}"' in text


@pytest.mark.parametrize("page", [page for page in PAGES if page not in TESTED_ELSEWHERE])
def test_nothing_is_left_out_without_a_word(page):
    for block in blocks(page):
        if block.language != "text":
            assert block.language in RUN or block.reason, f"say why this is not run, or that it is text:\n{block.code}"
        if block.language == "yaml" and block.reason is None:
            assert re.match(r"# \S+\.ya?ml\n", block.code), f"its first line must name its file:\n{block.code}"
    rest = FENCE.sub("", PAGES[page])
    assert "```" not in rest
    indented = re.findall(r"^\n {4}\S.*$", rest, re.MULTILINE)
    assert not [line for line in indented if not page.startswith("docs/api/")], "fence code, and name its language"


def test_commands_that_are_not_run_are_understood():
    count = 0
    for page in PAGES:
        for block in blocks(page):
            if block.language != "bash" or block.reason is None:
                continue
            for line in block.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                start = next((i for i, word in enumerate(words) if word in ("pymasr", "pymasr.cli")), None)
                if start is not None:
                    cli.parser().parse_args(words[start + 1:])  # exits where it does not understand
                    count += 1
    assert count >= 6


@pytest.mark.parametrize("reason", sorted({f"{page}: {b.reason}" for page in PAGES for b in blocks(page) if b.reason}))
def test_reasons(reason):
    """Lists the blocks that are not run: pytest -v shows their reasons."""
    assert len(reason.partition(".md: ")[2]) >= 8, "say why"
