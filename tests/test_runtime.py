"""Promise: a device is taken where it can be used, and where CUDA cannot, one sentence says what is missing."""

import pytest
import torch

from pymasr import _C, runtime
from pymasr.errors import InputError

WORKING = {"built": True, "devices": 1, "reason": ""}


@pytest.fixture
def machine(monkeypatch):
    """Sets what the kernels and torch find."""

    def find(status, built_for="13.0", available=True):
        monkeypatch.setattr(_C, "cuda_status", lambda: status)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)

    return find


@pytest.mark.parametrize("status, torchs, message", [
    ({"built": False, "devices": 0, "reason": "built with MASR_CUDA=OFF"}, {}, "has no CUDA kernels: built with MASR"),
    ({"built": True, "devices": 0, "reason": "no NVIDIA driver found"}, {}, "no GPU that CUDA can use: no NVIDIA"),
    (WORKING, {"built_for": None, "available": False}, "torch .* was built without CUDA"),
    (WORKING, {"available": False}, "torch .*, built for CUDA 13.0, finds no GPU"),
])
def test_what_is_missing_is_said_in_a_sentence(machine, status, torchs, message):
    machine(status, **torchs)
    with pytest.raises(InputError, match=f"device cuda cannot be used: .*{message}") as caught:
        runtime.choose_device("cuda")
    assert "\n" not in str(caught.value)
    assert runtime.choose_device("auto") == runtime.choose_device("cpu") == "cpu"


def test_cuda_is_taken_where_it_can_be_used(machine):
    machine(WORKING)
    assert runtime.cuda_obstacle() is None
    assert (runtime.choose_device("auto"), runtime.choose_device("cuda"), runtime.choose_device("cpu")) == (
        "cuda", "cuda", "cpu")
    with pytest.raises(InputError, match="one of auto, cpu, cuda, got 'tpu'"):
        runtime.choose_device("tpu")
