"""Configurations of a registration: everything that decides about a run, as YAML or JSON.

The names are those of the options of ``pymasr register`` with underscores, and ``settings`` holds any further field of
:class:`pymasr.registration.Settings`. A report.json holds the configuration of its run as ``config``.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pymasr.errors import InputError

if TYPE_CHECKING:
    from pymasr.registration import Settings

#: Fields of Settings that are options of their own.
OPTIONS = ("features", "preset", "device", "transform", "method", "network", "diffeomorphic", "symmetric", "robust",
           "seed")
#: Options that name files.
PATHS = ("fixed", "moving", "output", "fixed_mask", "moving_mask", "fixed_weights", "also", "also_labels")


def effective(settings: Settings, *, initial: Any, **options: Any) -> dict[str, Any]:
    """The configuration of a run, plain values; paths are absolute, and None for what is no file.

    Args:
        settings: all of them.
        initial: a name, a file, a 4 x 4 matrix or a SimpleITK transform, see :func:`pymasr.register`.
        options: others, by name.
    """
    plain = settings.plain()
    return {**absolute(options), **{name: plain.pop(name) for name in OPTIONS}, "initial": _start(initial),
            "settings": plain}


def _start(initial: Any) -> str | list[list[float]]:
    """A name, the absolute path of a file, or a matrix; of a deformation in memory a text that is none of these, so
    that a run from another start is not taken for the same."""
    import numpy as np

    from pymasr.registration.initial import NAMES

    if isinstance(initial, (str, os.PathLike)):
        return initial if initial in NAMES else os.path.abspath(initial)
    if hasattr(initial, "TransformPoint"):
        from pymasr.sitk import linear_matrix

        if not initial.IsLinear():
            return f"{initial.GetName()} from memory"
        initial = linear_matrix(initial)
    return np.asarray(initial, float).tolist()


def absolute(options: dict[str, Any]) -> dict[str, Any]:
    """The same options with paths that mean the same everywhere; None for what is no file."""
    def path(value: Any) -> Any:
        if isinstance(value, list):
            return [path(entry) for entry in value]
        return os.path.abspath(value) if isinstance(value, (str, os.PathLike)) else None

    return {name: path(value) if name in PATHS else value for name, value in options.items()}


def dump(config: dict[str, Any]) -> str:
    """`config` as YAML, which :func:`load` reads."""
    import yaml

    return yaml.safe_dump(config, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)


def load(file: str | os.PathLike, known: Iterable[str]) -> dict[str, Any]:
    """The configuration in a YAML or JSON file, or of the run whose report.json it is; what is null is left out.

    Args:
        known: names that it may hold, beside ``settings``.

    Raises InputError: no such file, not YAML, a name that is not known.
    """
    import yaml

    path = pathlib.Path(file)
    try:
        text = path.read_text(encoding="utf-8")
        try:
            content = json.loads(text)  # YAML would take 1e-05 for text
        except json.JSONDecodeError:
            content = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"configuration {file}: cannot be read, {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"configuration {file}: is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if isinstance(content, dict) and "versions" in content:  # a report
        if not isinstance(content.get("config"), dict):
            raise InputError(f"configuration {file}: is the report of a run that noted no configuration (config); give "
                             "one of this version, or a configuration")
        content = content["config"]
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"configuration {file}: must hold names and values, got {str(content)[:60]!r}")
    known = [*known, "settings"]
    for name in content:
        if name not in known:
            raise InputError(f"configuration {file}: there is no {name!r}, {_hint(str(name), known)}")
    return {name: value for name, value in content.items() if value is not None}


def _hint(name: str, known: list[str]) -> str:
    from pymasr.registration import Settings

    settings = [field for field in Settings.__dataclass_fields__ if field not in OPTIONS]
    near = difflib.get_close_matches(name.replace("-", "_"), [*known, *settings], 1)
    if not near:
        return f"expected some of {', '.join(known)}"
    if near[0] in settings:
        return f"did you mean {near[0]}? That is given below settings"
    return f"did you mean {near[0]}?"


def settings_of(config: dict[str, Any], file: str | os.PathLike) -> dict[str, Any]:
    """The ``settings`` of a configuration that are not those of its preset, checked; with another preset they stay as
    they are, the others follow it."""
    from pymasr.registration import Settings

    given = config.get("settings", {})
    if not isinstance(given, dict):
        raise InputError(f"configuration {file}: settings must hold names and values, got {str(given)[:60]!r}")
    for name in given:
        if name in OPTIONS:
            raise InputError(f"configuration {file}: {name} is given beside settings, not below it")
    preset = config.get("preset", "default")
    given = {name: _numbers(value) for name, value in given.items()}
    try:
        chosen = Settings.from_preset(preset, **given).plain()
    except InputError as error:
        raise InputError(f"configuration {file}: {error}") from error
    usual = Settings.from_preset(preset).plain()
    return {name: chosen[name] for name in given if chosen[name] != usual[name]}


def _numbers(value: Any) -> Any:
    """`value` with numbers in place of text that is one: YAML takes 1e-3 for text."""
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    return literal(value) if isinstance(value, str) else value


def literal(text: str) -> Any:
    """A Python literal where `text` is one, else the text."""
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text.strip())
    return text.strip()
