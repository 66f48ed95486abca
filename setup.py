"""Builds pymasr._C through CMake; everything else about the package is in pyproject.toml.

PYMASR_CUDA=ON|OFF|AUTO (default AUTO: on where a CUDA compiler is found) chooses the CUDA backend, PYMASR_BUILD_DIR a
build directory that is kept, and CMAKE_ARGS adds further options of CMake.
"""

import os
import pathlib
import shlex
import subprocess
import sys

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    def build_extension(self, extension):
        output = pathlib.Path(self.get_ext_fullpath(extension.name)).resolve()
        build = pathlib.Path(os.environ.get("PYMASR_BUILD_DIR") or self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DMASR_PYTHON=ON",
             f"-DMASR_CUDA={os.environ.get('PYMASR_CUDA', 'AUTO')}",
             f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
             f"-DPython_EXECUTABLE={sys.executable}",
             f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
             f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output.parent}",
             *shlex.split(os.environ.get("CMAKE_ARGS", ""))],
            check=True)
        subprocess.run(["cmake", "--build", str(build), "--target", "_C"], check=True)


setup(ext_modules=[Extension("pymasr._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
