"""Promise: the library serves C++ programs through find_package(masr), and the source distribution holds what a build needs."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])}


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], env=ENVIRONMENT, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_find_package(tmp_path):
    prefix = tmp_path / "prefix"
    # unoptimised: this is about the installed files, not about speed
    run("cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", "-DMASR_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Debug",
        f"-DCMAKE_INSTALL_PREFIX={prefix}")
    run("cmake", "--build", tmp_path / "build")
    run("cmake", "--install", tmp_path / "build")
    run("cmake", "-S", ROOT / "tests/packaging/consumer", "-B", tmp_path / "consumer", "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "consumer")
    assert run(tmp_path / "consumer" / "consumer").strip() in ("baseline", "avx2", "avx512")


def test_source_distribution_holds_every_source(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    run(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path, cwd=ROOT)
    archive, = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    tracked = set(subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert {n for n in tracked - held if not n.startswith(".")} == set()


def test_a_cuda_build_without_a_compiler_says_what_to_do(tmp_path):
    environment = {**ENVIRONMENT, "PYMASR_CUDA": "ON", "PYMASR_BUILD_DIR": str(tmp_path), "CUDACXX": "/nonexistent/nvcc"}
    done = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path / "lib")], cwd=ROOT,
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "MASR_CUDA=ON, but no" in done.stdout + done.stderr


def test_an_unknown_cuda_choice_is_named(tmp_path):
    environment = {**ENVIRONMENT, "PYMASR_CUDA": "yes", "PYMASR_BUILD_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path / "lib")], cwd=ROOT,
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "PYMASR_CUDA must be ON, OFF or AUTO, got YES" in done.stderr
