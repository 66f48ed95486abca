"""Builds pymasr._C through CMake; everything else about the package is in pyproject.toml.

PYMASR_CUDA=ON|OFF|AUTO (default AUTO: on where a CUDA compiler is found) chooses the CUDA backend, PYMASR_BUILD_DIR a
build directory that is kept, and CMAKE_ARGS adds further options of CMake.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).resolve().parent


def cuda_choice():
    choice = os.environ.get("PYMASR_CUDA", "AUTO")
    if choice.upper() not in ("ON", "OFF", "AUTO"):
        sys.exit(f"PYMASR_CUDA must be ON, OFF or AUTO, got {choice}")
    return choice.upper()


class CMakeBuild(build_ext):
    def build_extension(self, extension):
        output = pathlib.Path(self.get_ext_fullpath(extension.name)).resolve()
        build = pathlib.Path(os.environ.get("PYMASR_BUILD_DIR") or self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        # cmake and ninja of this interpreter's environment come first, whether or not it was activated
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
        environment = {**os.environ, "PATH": path}
        tools = {tool: shutil.which(tool, path=path) for tool in ("cmake", "ninja")}
        missing = [tool for tool, found in tools.items() if not found]
        if missing:
            sys.exit(f"{' and '.join(missing)} not found: pip install {' '.join(missing)}, or build with isolation")
        configure = [
            tools["cmake"], "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DMASR_PYTHON=ON",
            f"-DMASR_CUDA={cuda_choice()}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output.parent}",
            *shlex.split(os.environ.get("CMAKE_ARGS", ""))]
        try:
            subprocess.run(configure, check=True, env=environment)
            subprocess.run([tools["cmake"], "--build", str(build), "--target", "_C"], check=True, env=environment)
        except subprocess.CalledProcessError:
            sys.exit("Building pymasr._C failed; the message of CMake or of the compiler is above.")


setup(ext_modules=[Extension("pymasr._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
