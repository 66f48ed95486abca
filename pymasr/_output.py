"""Results, files or directories of them, that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from pymasr.errors import InputError

#: Endings of image formats that are one file.
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")


def require_writable(directory: str | os.PathLike) -> None:
    """Raise InputError unless files can be written to `directory`, or it can be made. Leaves nothing behind."""
    directory = pathlib.Path(directory)
    try:
        existing = directory
        while not (existing.exists() or existing.is_symlink()):
            existing = existing.parent
        if not existing.is_dir():
            raise InputError(f"output directory {directory}: cannot be made, {existing} is not a directory")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"output directory {directory}: cannot be written, {error.strerror or error}") from error


@contextlib.contextmanager
def whole_directory(directory: str | os.PathLike, names: Sequence[str]) -> Iterator[pathlib.Path]:
    """A temporary directory to write the files `names` to; on success they move to `directory`, by renaming each.

    After an error, or an interruption, in the body the files that were in `directory` before are as they were, nothing
    is added, and a directory that did not exist still does not.
    """
    directory = pathlib.Path(directory).absolute()
    require_writable(directory)
    for name in names:
        if (directory / name).is_dir():
            raise InputError(f"output directory {directory}: {name} in it is a directory, expected a file or nothing")
    made = [path for path in (directory, *directory.parents) if not path.exists()]  # innermost first
    temporary = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # on the same file system as its goal, or renaming would copy
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=".pymasr-", dir=directory))
        yield temporary
        for name in names:
            os.replace(temporary / name, directory / name)
        temporary.rmdir()
    except BaseException:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if made:
            for name in names:
                (directory / name).unlink(missing_ok=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


@contextlib.contextmanager
def whole_file(file: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary file of the same name to write to; on success it moves to `file`, else nothing is left of it."""
    path = pathlib.Path(file)
    with whole_directory(path.parent, [path.name]) as folder:
        yield folder / path.name


def require_file(file: str | os.PathLike, suffixes: Sequence[str], inputs: Sequence[str | os.PathLike] = ()) -> None:
    """Raise InputError unless `file` ends with one of `suffixes`, can be written, and is none of `inputs`."""
    path = pathlib.Path(file)
    if not path.name.lower().endswith(tuple(suffixes)) or path.name.lower() in suffixes:
        raise InputError(f"output {path}: must be a file that ends with {', '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"output {path}: is a directory, expected the name of a file")
    if path.exists() and any(os.path.exists(other) and os.path.samefile(path, other) for other in inputs):
        raise InputError(f"output {path}: is what is read, too; give another name")
    require_writable(path.parent)


def write_image(image: Any, file: str | os.PathLike) -> None:
    """Write a SimpleITK image, compressed, whole or not at all."""
    import SimpleITK as sitk

    with whole_file(file) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
