"""Promise: the Python in the pages on SimpleITK and elastix runs."""

import importlib.util
import os
import pathlib
import re

import pytest
import SimpleITK as sitk

from pymasr.demo import make_pair

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["simpleitk", pytest.param("elastix", marks=pytest.mark.skipif(
    importlib.util.find_spec("itk") is None
    or importlib.util.find_spec("itk.itkElastixRegistrationMethodPython") is None,
    reason="itk-elastix is not installed: pip install itk-elastix"))])
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    pair = make_pair((24, 24, 24), 6.0, deformation=1.0, rotation=2.0, shift=(3.0, 0.0, -3.0), points=10)
    pair.save(tmp_path)
    monkeypatch.chdir(tmp_path)
    # elastix's B-spline stage would take a minute
    monkeypatch.setattr("pymasr.itk.elastix.STAGES", ("affine",))
    monkeypatch.setattr("pymasr.itk.elastix.RESOLUTIONS", 1)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), names)
    if page == "elastix":
        assert names["result"].channels == 6
        assert sitk.ReadTransform(os.fspath(tmp_path / "transform.h5")).GetDimension() == 3
    else:
        assert names["descriptor"].GetNumberOfComponentsPerPixel() == 12
