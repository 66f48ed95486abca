"""Promise: an exported network gives pymasr's numbers where there is no pymasr, at any size that it says it takes."""

import json
import os
import subprocess
import sys
import warnings

import networks
import pytest
import torch

from pymasr import cli
from pymasr.errors import InputError
from pymasr.models import packaged, save
from pymasr.models.export import Portable, export

#: Runs in a process that cannot import pymasr.
WITHOUT_PYMASR = """
import json, sys, warnings
sys.modules["pymasr"] = None
import torch
warnings.simplefilter("ignore")
inputs = torch.load("inputs.pt")
facts = {"pymasr.json": ""}
script = torch.jit.load("net.pt", _extra_files=facts)
results = {"pt": [script(x) for x in inputs], "facts": [facts["pymasr.json"]]}
facts = {"pymasr.json": ""}
program = torch.export.load("net.pt2", extra_files=facts)
whole = [x for x in inputs if all(n % 8 == 0 and n >= 16 for n in x.shape[2:])]
results["pt2"] = [program.module()(x) for x in whole]
results["facts"].append(facts["pymasr.json"])
operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
results["operators"] = sorted(name for name in operators if not name.startswith(("aten.", "<built-in", "_operator")))
assert not any(name.startswith("pymasr") for name in sys.modules if name != "pymasr")
torch.save(results, "results.pt")
"""
SIZES = [(1, 13, 14, 15), (2, 21, 9, 34), (1, 5, 1, 18), (2, 16, 24, 40), (1, 48, 16, 16)]


def inputs():
    return [torch.stack([networks.random_image(size, seed)[None] for seed in range(batch)]) for batch, *size in SIZES]


def native(model):
    with torch.no_grad():
        return [model(x) for x in inputs()]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of a network."""
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save(networks.small_network(3, image_dns=(1, 3)), file, steps=5)
    return str(file)


def test_torchscript_and_torch_export_without_pymasr(weights, tmp_path):
    for name in ("net.pt", "net.pt2"):
        assert export(weights, tmp_path / name) == tmp_path / name
    torch.save(inputs(), tmp_path / "inputs.pt")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", WITHOUT_PYMASR], cwd=tmp_path, env=environment, check=True, timeout=600)
    results, wanted = torch.load(tmp_path / "results.pt"), native(packaged.load(weights))
    assert len(results["pt"]) == 5 and len(results["pt2"]) == 2
    for format, expected in (("pt", wanted), ("pt2", wanted[3:])):
        for result, x in zip(results[format], expected, strict=True):
            assert result.shape == x.shape and torch.allclose(result, x, atol=2e-5), format
    assert results["operators"] == []
    for facts in results["facts"]:
        assert json.loads(facts) == packaged.details(weights)


def test_onnx(weights, tmp_path):
    onnx = pytest.importorskip("onnx", reason="ONNX needs the package onnx")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX is run by onnxruntime")
    file = export(weights, tmp_path / "net.onnx")
    model = onnx.load(file)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}, "standard operators only"
    assert json.loads({p.key: p.value for p in model.metadata_props}["pymasr"]) == packaged.details(weights)
    session = runtime.InferenceSession(file)
    for x, wanted in zip(inputs(), native(packaged.load(weights)), strict=True):
        result, = session.run(["dsir"], {"image": x.numpy()})
        assert result.shape == wanted.shape and torch.allclose(torch.from_numpy(result), wanted, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"], "nothing is left of writing"


@pytest.mark.parametrize("config", [{}, {"reduction": "none"}, {"dns": False}, {"image_dns": (), "image_mind": ()},
                                    {"squeeze": 4}])
def test_standard_operators_compute_the_same(config):
    model = networks.small_network(**config)
    for x, wanted in zip(inputs(), native(model), strict=True):
        assert torch.allclose(Portable(model)(x), wanted, atol=2e-5)


def test_onnx_asks_for_its_package(weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"export to ONNX needs the package onnx: pip install 'pymasr\[export\]'"):
        export(weights, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command(weights, tmp_path, capsys):
    out = tmp_path / "new" / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none comes through
        assert cli.main(["export", "--weights", weights, "-o", str(out)]) == 0
    assert capsys.readouterr() == (f"wrote {out}\n", "")
    assert torch.jit.load(out)(inputs()[0]).shape == (1, 4, 13, 14, 15)
    assert cli.main(["export", "--weights", weights, "-o", str(tmp_path / "net.h5")]) == 2
    assert capsys.readouterr().err == f"pymasr: error: output {tmp_path}/net.h5: must end with .pt, .pt2 or .onnx\n"
    assert cli.main(["export", "--weights", "nothing", "-o", str(out)]) == 2
    assert capsys.readouterr().err.startswith("pymasr: error: weights must be ")
    assert cli.main(["export", "--weights", weights, "-o", str(out / "net.pt")]) == 2
    assert "is not a directory" in capsys.readouterr().err
