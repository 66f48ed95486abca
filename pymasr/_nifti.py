"""What ITK does not say of a NIfTI file: it reads missing voxels and NaN as 0 without a word."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import BinaryIO

import numpy as np

_HEADER = 348
#: Code of a floating type in the header, and NumPy's name of it.
_FLOATS = {16: "f4", 64: "f8"}
_CHUNK = 1 << 22


def defect(path: str | os.PathLike) -> str | None:
    """What is wrong with the voxels of a NIfTI-1 file (.nii, .nii.gz): cut short, not finite; None for nothing.

    None as well for a file that is no NIfTI: its reader has to say so. Reads the file once, a few MB at a time.
    """
    name = os.fspath(path).lower()
    if not name.endswith((".nii", ".nii.gz")):
        return None
    with (gzip.open if name.endswith(".gz") else open)(path, "rb") as file:
        try:
            return _defect(file)
        except (EOFError, zlib.error):
            return "the file is cut short or damaged"
        except gzip.BadGzipFile:
            return None


def _defect(file: BinaryIO) -> str | None:
    header = file.read(_HEADER)
    if len(header) < _HEADER or header[344:347] != b"n+1":
        return None
    order = next((o for o in "<>" if struct.unpack_from(o + "i", header)[0] == _HEADER), None)
    if order is None:
        return None
    dim = struct.unpack_from(order + "8h", header, 40)
    datatype, bits = struct.unpack_from(order + "2h", header, 70)
    offset, = struct.unpack_from(order + "f", header, 108)
    if not 1 <= dim[0] <= 7 or min(dim[1:1 + dim[0]]) < 1 or bits < 1 or not math.isfinite(offset):
        return None
    expected = math.prod(dim[1:1 + dim[0]]) * bits // 8
    kind = np.dtype(order + _FLOATS[datatype]) if datatype in _FLOATS else None
    file.seek(max(int(offset), _HEADER))
    found = bad = 0
    while part := _read(file, min(_CHUNK, expected - found)):
        found += len(part)
        if kind is not None:
            bad += int((~np.isfinite(np.frombuffer(part, kind, len(part) // kind.itemsize))).sum())
    if found < expected:
        return f"the file is cut short, {found} of {expected} bytes of voxels are there"
    if bad:
        return f"{bad} of {expected // kind.itemsize} voxels are NaN or infinite; replace them first"
    return None


def _read(file: BinaryIO, count: int) -> bytes:
    """`count` bytes, or fewer at the end of the file."""
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
