"""Promise: what the pages on the report and on evaluation tell people to type runs."""

import contextlib
import os
import pathlib
import re
import shlex

import numpy as np
import pytest
import SimpleITK as sitk

from pymasr import cli
from pymasr.demo import make_pair

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the pages name."""
    pair = make_pair((24, 24, 24), 6.0, deformation=1.0, rotation=2.0, shift=(3.0, 0.0, -3.0), points=10)
    pair.save(tmp_path)
    for name in ("fixed", "moving"):
        image = getattr(pair, name)
        values = sitk.GetArrayFromImage(image)
        labels = np.digitize(values, np.quantile(values, (0.5, 0.8))).astype(np.uint8)
        for kind, array in (("labels", labels), ("mask", (labels > 0).astype(np.uint8))):
            made = sitk.GetImageFromArray(array)
            made.CopyInformation(image)
            sitk.WriteImage(made, str(tmp_path / f"{name}_{kind}.nii.gz"))
        points = getattr(pair, f"{name}_points")
        np.savetxt(tmp_path / f"{name}.csv", points, delimiter=",", header="x,y,z", comments="")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line):
    """A line of a shell that calls pymasr; what it prints goes to the file behind >, if there is one."""
    words = shlex.split(line, comments=True)
    assert words[0] == "pymasr"
    output = words[words.index(">") + 1:] if ">" in words else [os.devnull]
    with open(output[0], "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        assert cli.main(words[1:words.index(">")] if ">" in words else words[1:]) == 0, line


@pytest.mark.parametrize("page", ["report", "evaluation"])
def test_commands_and_code_of_a_page_run(page, workplace):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(bash|python|yaml)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    for kind, block in blocks:
        if kind == "bash":
            for line in block.splitlines():
                run(line)
        elif kind == "python":
            exec(compile(block, f"{page}.md", "exec"), names)
        else:
            (workplace / "by_hand.yaml").write_text(block)
            run("pymasr register --config by_hand.yaml --dump-config")
    if page == "report":
        assert {"report.html", "report.json"} <= {file.name for file in (workplace / "result").iterdir()}
        for folder in ("smoother", "again"):
            assert (workplace / folder / "transform.h5").exists()
    else:
        assert (workplace / "scores.json").exists()
        assert names["scores"]["labels_mean"]["after"]["dice"] > names["scores"]["labels_mean"]["before"]["dice"]
