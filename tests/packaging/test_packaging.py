"""Promise: find_package(masr) serves C++ programs; the source distribution holds what a build needs; the CUDA switch
answers clearly."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# cmake and ninja stand beside the interpreter
PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])


def run(*command, **environment):
    return subprocess.run([str(c) for c in command], cwd=ROOT, env={**os.environ, "PATH": PATH, **environment},
                          capture_output=True, text=True, check=False)


def succeed(*command):
    done = run(*command)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_find_package(tmp_path):
    prefix = tmp_path / "prefix"
    # unoptimised: this is about the installed files, not about speed
    succeed("cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", "-DMASR_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Debug",
            f"-DCMAKE_INSTALL_PREFIX={prefix}")
    succeed("cmake", "--build", tmp_path / "build")
    succeed("cmake", "--install", tmp_path / "build")
    succeed("cmake", "-S", ROOT / "tests/packaging/consumer", "-B", tmp_path / "consumer", "-G", "Ninja",
            f"-DCMAKE_PREFIX_PATH={prefix}")
    succeed("cmake", "--build", tmp_path / "consumer")
    assert succeed(tmp_path / "consumer" / "consumer").strip() in ("baseline", "avx2", "avx512")


def test_source_distribution_holds_every_source(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    succeed(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path)
    archive, = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    tracked = set(succeed("git", "ls-files").split())
    assert {name for name in tracked - held if not name.startswith(".")} == set()


@pytest.mark.parametrize("choice, message", [
    ("ON", "MASR_CUDA=ON, but no CUDA compiler was found"),
    ("yes", "PYMASR_CUDA must be ON, OFF or AUTO, got yes"),
])
def test_a_cuda_build_that_cannot_be_says_why(choice, message, tmp_path):
    done = run(sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib",
               PYMASR_CUDA=choice, PYMASR_BUILD_DIR=str(tmp_path / "build"), CUDACXX=str(tmp_path / "no-nvcc"))
    assert done.returncode != 0
    assert message in " ".join((done.stdout + done.stderr).split())
