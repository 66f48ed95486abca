"""What this installation is and what this machine offers it."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from pymasr._version import __version__
from pymasr.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
PACKAGES = {"torch": "torch", "numpy": "numpy", "SimpleITK": "SimpleITK", "itk": "itk-core"}


def versions() -> dict[str, str | None]:
    """Versions of pymasr, Python and the packages that results depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"pymasr": __version__, "python": platform.python_version()}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def info() -> dict:
    """Versions, compiler, instruction set, threads and CUDA: what ``pymasr info`` prints."""
    import torch

    from pymasr import _C

    cuda = _C.cuda_status()
    return {
        "versions": versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "executable": sys.executable,
        "compiler": _C.compiler,
        "instruction_set": {"used": _C.instruction_set(), "best": _C.best_instruction_set()},
        "threads": torch.get_num_threads(),
        "cuda": {"built": cuda["built"], "devices": cuda["devices"], "usable": cuda_obstacle() is None,
                 "reason": cuda_obstacle()},
    }


def cuda_obstacle() -> str | None:
    """Why nothing here can compute on a GPU, in one sentence; None when it can."""
    import torch

    from pymasr import _C

    status = _C.cuda_status()
    if not status["built"]:
        return f"this pymasr has no CUDA kernels: {status['reason']}"
    if status["devices"] < 1:
        return f"there is no GPU that CUDA can use: {status['reason']}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA, install one that was built with it"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__}, built for CUDA {torch.version.cuda}, finds no GPU that it can use"
    return None


def choose_device(device: str) -> str:
    """The device to compute on, "cpu" or "cuda", for a wish "auto", "cpu" or "cuda".

    Raises InputError for another name, and for "cuda" where it cannot be used, saying why.
    """
    if device not in DEVICES:
        raise InputError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    if device == "cpu":
        return "cpu"
    obstacle = cuda_obstacle()
    if device == "cuda" and obstacle:
        raise InputError(f"device cuda cannot be used: {obstacle}")
    return "cpu" if obstacle else "cuda"
