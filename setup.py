"""Builds pymasr._C, and pymasr.itk._itk where it can, through CMake; everything else is in pyproject.toml.

PYMASR_CUDA=ON|OFF|AUTO (default AUTO: on where a CUDA compiler is found) chooses the CUDA backend, PYMASR_BUILD_DIR a
build directory that is kept, and CMAKE_ARGS adds further options of CMake. ITK_INCLUDE_DIR, or ITK_DIR of an installed
ITK, is where the headers of ITK 5.4 are; by default it is where `make itk-headers` puts them. See docs/itk.md.
"""

import importlib.util
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


def itk_options():
    """CMake's options for pymasr.itk._itk; None, with a line that says why, where it can't be built."""
    include, config = os.environ.get("ITK_INCLUDE_DIR"), os.environ.get("ITK_DIR")
    if include:
        places = [pathlib.Path(include)]
    elif config:  # .../lib/cmake/ITK-5.4 beside .../include/ITK-5.4, or a build tree
        places = [parent / "include" / "ITK-5.4" for parent in pathlib.Path(config).resolve().parents]
    else:
        places = [ROOT / "build/itk/5.4/usr/include/ITK-5.4"]
    include = next((place for place in places if (place / "itkImageToImageMetricv4.h").is_file()), None)
    package = importlib.util.find_spec("itk")
    swig = shutil.which("swig", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    needed = ((f"the headers of ITK 5.4 (not in {places[0]})", include), ("the package itk", package), ("swig", swig))
    missing = [what for what, found in needed if not found]
    if not missing:
        return [f"-DITK_INCLUDE_DIR={include}", f"-DMASR_ITK_PACKAGE={package.submodule_search_locations[0]}",
                f"-DSWIG_EXECUTABLE={swig}"]
    message = f"pymasr.itk will be without its metric, there is no {', no '.join(missing)}; see docs/itk.md"
    if os.environ.get("ITK_INCLUDE_DIR") or config:
        sys.exit(message)
    print(message, file=sys.stderr)
    return None


class CMakeBuild(build_ext):
    def build_extension(self, extension):
        output = pathlib.Path(self.get_ext_fullpath(extension.name)).resolve()
        package = output.parents[extension.name.count(".") - 1]  # of pymasr
        if COMPILED:
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(COMPILED / output.relative_to(package), output)
            return
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
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={package}",
            *(ITK_OPTIONS or ["-DITK_INCLUDE_DIR="]),
            *shlex.split(os.environ.get("CMAKE_ARGS", ""))]
        try:
            subprocess.run(configure, check=True, env=environment)
            subprocess.run([tools["cmake"], "--build", str(build), "--target", extension.name.rpartition(".")[2]],
                           check=True, env=environment)
        except subprocess.CalledProcessError:
            sys.exit(f"Building {extension.name} failed; the message of CMake or of the compiler is above.")


COMPILED = pathlib.Path(os.environ["PYMASR_COMPILED"]) if "PYMASR_COMPILED" in os.environ else None
ITK_OPTIONS = None if COMPILED else itk_options()
WITH_ITK = any(COMPILED.glob("itk/_itk.*")) if COMPILED else ITK_OPTIONS
NAMES = ["pymasr._C", "pymasr.itk._itk"] if WITH_ITK else ["pymasr._C"]
setup(ext_modules=[Extension(name, sources=[]) for name in NAMES], cmdclass={"build_ext": CMakeBuild})
