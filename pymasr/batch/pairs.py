"""What is to be registered: one pair of a batch, and what may be said about it."""

from __future__ import annotations

import inspect
import json
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pymasr.errors import InputError

#: Files that go with a pair beside its two images.
COMPANIONS = ("fixed_mask", "moving_mask", "fixed_weights", "fixed_labels", "moving_labels")
#: Keywords of :func:`pymasr.register` that are for images in memory.
OF_ARRAYS = ("fixed_geometry", "moving_geometry", "spacing")
#: What an id may not be, in lower case: the batch's own files lie beside the folders of the pairs.
RESERVED = ("summary.csv", "index.html", "dataset_description.json")
#: Longest id: a file system allows names of 255 bytes, and endings are added.
LONGEST = 180


@dataclass(frozen=True)
class Pair:
    """Two images to be registered.

    Attributes:
        id: unique in the batch; the name of its folder.
        fixed, moving: image files, or directories with one DICOM series each.
        files: further files by what they are, one of :data:`COMPANIONS`. Labels are not shown to the registration:
            those of the moving image are written on the fixed grid, and compared with those of the fixed one.
        options: keywords of :func:`pymasr.register`, over those of the batch.
        notes: columns of a manifest that are carried to the summary.
        names: where results are put, relative to the output directory, by the name that
            :meth:`~pymasr.registration.result.Registration.save` gives them; what is not named goes to a folder of the
            pair's id.
        obstacle: why the pair cannot be registered, where that is known beforehand.
    """

    id: str
    fixed: str
    moving: str
    files: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    obstacle: str | None = None

    @property
    def inputs(self) -> dict[str, str]:
        """All files by what they are; a file that the option `initial` names is one of them."""
        files = {"fixed": self.fixed, "moving": self.moving, **self.files}
        initial = self.options.get("initial")
        if isinstance(initial, (str, os.PathLike)) and os.path.exists(initial):
            files["initial"] = os.fspath(initial)
        return files

    def destination(self, name: str) -> str:
        """Where the result `name` is put, relative to the output directory."""
        return self.names.get(name, f"{self.id}/{name}")

    def with_options(self, options: dict[str, Any]) -> Pair:
        """The pair with the options of the batch where it has none of its own; a file for `initial` by its full name,
        since workers may be in another directory."""
        options = {**options, **self.options}
        initial = options.get("initial")
        if isinstance(initial, (str, os.PathLike)) and os.path.isfile(initial):
            options["initial"] = os.path.abspath(initial)
        return replace(self, options=options)


def require_usable(pairs: Sequence[Pair]) -> None:
    """Raise InputError where there is no pair, an id is no name for a folder, or two pairs share one."""
    if not pairs:
        raise InputError("batch: there is no pair to register")
    for pair in pairs:
        name = pair.id
        if not name or name != name.strip() or name.startswith(".") or "/" in name or not name.isprintable() \
                or name.lower() in RESERVED or len(name.encode()) > LONGEST:
            raise InputError(f"batch: the id {name!r} cannot name a folder; it must be printable, of at most "
                             f"{LONGEST} bytes, without /, not begin with a dot and not be one of "
                             f"{', '.join(RESERVED)}")
    shared = [name for name, count in Counter(pair.id.lower() for pair in pairs).items() if count > 1]
    if shared:
        twins = [pair for pair in pairs if pair.id.lower() == shared[0]]
        raise InputError(f"batch: {len(twins)} pairs have the id {twins[0].id}, such as {twins[0].moving} to "
                         f"{twins[0].fixed} and {twins[1].moving} to {twins[1].fixed}; give each its own (column id)")


def resolved(options: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides what :func:`pymasr.register` makes of a pair's images, as plain JSON values.

    Not in it is what does not change the result: the device that computes.

    Args:
        options: keywords of :func:`pymasr.register`.

    Raises:
        InputError: for an option that there is not, or whose value makes no sense.
    """
    from pymasr.api import register
    from pymasr.registration import Settings
    from pymasr.registration.initial import NAMES

    arguments = inspect.signature(register).parameters
    own = {name: value for name, value in options.items() if name in arguments}
    for name in ("fixed", "moving", *OF_ARRAYS, "progress", "settings", *COMPANIONS):
        if name in options:
            raise InputError(f"batch: {name} is not an option")
    shared = {name: own[name] for name in ("features", "device", "transform") if name in own}
    others = {name: value for name, value in options.items() if name not in arguments}
    settings = asdict(Settings.from_preset(own.get("preset", "default"), **shared, **others))
    settings.pop("device")
    initial = own.get("initial", "auto")
    if isinstance(initial, (str, os.PathLike)) and initial not in NAMES:
        if not os.path.isfile(initial):
            raise InputError(f"initial must be one of {', '.join(NAMES)} or the file of a transform, got "
                             f"{os.fspath(initial)!r}, which is no file")
        initial = "file"  # what it holds is among the inputs
    rest = {name: value for name, value in own.items() if name not in ("device", "initial", *settings)}
    # through JSON, as it comes back from a record: tuples are lists there
    return json.loads(json.dumps({**settings, **rest, "initial": np.asarray(initial).tolist()}))


def weights_files(options: dict[str, Any]) -> dict[str, str]:
    """Files of weights that the options name, of descriptors or of a registration network: what they hold decides the
    result, too."""
    from pymasr.features import terms_of

    texts = [options[name] for name in ("features", "global_features") if name in options]
    named = [getattr(term.descriptor, "weights", None) for text in texts for term in terms_of(text)]
    return {f"weights {pathlib.Path(name).name}": name for name in (*named, options.get("network"))
            if name and os.path.isfile(name)}
