"""Whether files still hold what they held: SHA-256 of their content, taken anew only when size or time changed."""

from __future__ import annotations

import glob
import hashlib
import os
import pathlib
from collections.abc import Iterator

#: Headers whose voxels lie in another file of the same name.
DETACHED = (".hdr", ".img", ".mhd", ".nhdr")
CHUNK = 1 << 20


def stamp(path: str | os.PathLike) -> str | None:
    """Changes when the size of a file, or the time of its last change, does (of any file in a directory); None where
    there is nothing."""
    entries = []
    for name, file in _files(pathlib.Path(path)):
        try:
            status = file.stat()
        except OSError:
            return None
        entries.append(f"{name} {status.st_size} {status.st_mtime_ns}\n")
    return hashlib.sha256("".join(entries).encode()).hexdigest() if entries else None


def digest(path: str | os.PathLike) -> str | None:
    """SHA-256 of what a file (with the voxels that lie beside it, or all files in a directory) holds; None where it
    cannot be read."""
    total = hashlib.sha256()
    found = False
    for name, file in _files(pathlib.Path(path)):
        own = hashlib.sha256()
        try:
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    own.update(chunk)
        except OSError:
            return None
        total.update(f"{name} {own.hexdigest()}\n".encode())
        found = True
    return total.hexdigest() if found else None


def describe(path: str | os.PathLike, known: dict | None = None, *, verify: bool = False) -> dict:
    """``{"path", "stamp", "sha256"}`` of a file; the hash of `known`, such a description from before, is taken over
    where the stamp is the same, unless `verify`."""
    now = stamp(path)
    unchanged = known is not None and now is not None and known["stamp"] == now and not verify
    return {"path": os.fspath(path), "stamp": now, "sha256": known["sha256"] if unchanged else digest(path)}


def _files(path: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """The files that belong to an image, in order, with names that do not depend on where it lies."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield file.relative_to(path).as_posix(), file
        return
    yield "", path
    if path.suffix.lower() in DETACHED:
        for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*")):
            if file != path and file.is_file():
                yield file.name.removeprefix(path.stem), file
