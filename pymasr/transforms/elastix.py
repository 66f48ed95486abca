"""Transform parameters of elastix (TransformParameters.0.txt or .toml) as SimpleITK transforms.

elastix works in LPS mm as ITK does, and its transforms are ITK's or the like. Parameter files name the transform that
precedes them; T(x) = T_1(T_0(x)), where T_0 is the initial one.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk

from pymasr.errors import InputError

#: How the file begins where it is one of elastix's: a parameter in brackets, or TOML's assignment.
_TEXT = re.compile(r"^\s*\(\s*(Transform|NumberOfParameters|TransformParameters)\b", re.MULTILINE)
_TOML = re.compile(r"^\s*(Transform|NumberOfParameters|TransformParameters)\s*=", re.MULTILINE)
_LINE = re.compile(r"^\s*\(\s*(\w+)\s+(.*?)\s*\)\s*(?://.*)?$")
_VALUE = re.compile(r'"([^"]*)"|([^\s"]+)')
#: Both spellings that versions of elastix have.
_INITIAL = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_ALTERNATIVE = ("let transformix write its displacement field (-def all, deformationField.nii.gz), which can be used "
                "instead")


def holds_parameters(path: pathlib.Path) -> bool:
    """Whether a file is one of elastix's transform parameters, in text or TOML."""
    if path.suffix.lower() not in (".txt", ".toml"):
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return bool((_TOML if path.suffix.lower() == ".toml" else _TEXT).search(text))


def read(path: pathlib.Path, read_other: Callable[[pathlib.Path], sitk.Transform],
         seen: Sequence[pathlib.Path] = ()) -> sitk.Transform:
    """The transform of a parameter file, after those that it names as initial.

    Args:
        read_other: reads the file of a displacement or of an ITK transform that the parameters name.
        seen: the files on the way here, none of which may come again.

    Raises InputError: a file that is damaged, a transform that SimpleITK has no equal of, a missing initial one.
    """
    label = f"transform {path}"
    if path.resolve() in seen:
        raise InputError(f"{label}: names itself as its initial transform, by way of others or at once")
    parameters = _Parameters(_parse(path, label), label)
    for name in ("FixedImageDimension", "MovingImageDimension"):
        if parameters.number(name, 3) != 3:
            raise InputError(f"{label}: must map 3-D points, got {name} {parameters.number(name, 3):g}")
    if parameters.text("UseDirectionCosines", "true") == "false":
        raise InputError(f"{label}: UseDirectionCosines is false, so its points are not in LPS; run elastix again with "
                         "true")
    transform = _transform(parameters, path, read_other)
    initial = next((parameters.text(name) for name in _INITIAL if name in parameters.values), "NoInitialTransform")
    if initial == "NoInitialTransform":
        return transform
    before = _find(path, initial, label, "initial transform")
    first = (read(before, read_other, [*seen, path.resolve()]) if holds_parameters(before) else read_other(before))
    if parameters.text("HowToCombineTransforms", "Compose") != "Compose":
        raise InputError(f"{label}: is added to its initial transform (HowToCombineTransforms "
                         f"{parameters.text('HowToCombineTransforms')}), expected Compose; {_ALTERNATIVE}")
    return sitk.CompositeTransform([transform, first])  # the last one is applied first


class _Parameters:
    """What a parameter file says, with its complaints."""

    def __init__(self, values: dict[str, list[str]], label: str):
        self.values, self.label = values, label

    def text(self, name: str, default: str | None = None) -> str:
        if not self.values.get(name):
            if default is None:
                raise InputError(f"{self.label}: {name} is missing; is the file complete?")
            return default
        return self.values[name][0]

    def numbers(self, name: str, count: int | None = None) -> list[float]:
        """`count` numbers; as many as there are by default."""
        values = self.values.get(name, [])
        try:
            numbers = [float(value) for value in values]
        except ValueError:
            raise InputError(f"{self.label}: {name} must be numbers, got {' '.join(values)[:60]}") from None
        if not values or (count is not None and len(numbers) != count) or not np.isfinite(numbers).all():
            wanted = "numbers" if count is None else f"{count} numbers"
            raise InputError(f"{self.label}: {name} must be {wanted}, all of them finite, got {len(numbers)}; is the "
                             "file complete?")
        return numbers

    def number(self, name: str, default: float) -> float:
        return self.numbers(name, 1)[0] if name in self.values else default


def _transform(parameters: _Parameters, path: pathlib.Path,
               read_other: Callable[[pathlib.Path], sitk.Transform]) -> sitk.Transform:
    kind = parameters.text("Transform")
    if kind == "TranslationTransform":
        return sitk.TranslationTransform(3, parameters.numbers("TransformParameters", 3))
    if kind == "EulerTransform":
        *angles, x, y, z = parameters.numbers("TransformParameters", 6)
        transform = sitk.Euler3DTransform()
        transform.SetComputeZYX(parameters.text("ComputeZYX", "false") == "true")
        transform.SetCenter(parameters.numbers("CenterOfRotationPoint", 3))
        transform.SetRotation(*angles)
        transform.SetTranslation((x, y, z))
        return transform
    if kind in ("SimilarityTransform", "AffineTransform"):
        transform = sitk.Similarity3DTransform() if kind == "SimilarityTransform" else sitk.AffineTransform(3)
        transform.SetCenter(parameters.numbers("CenterOfRotationPoint", 3))
        transform.SetParameters(parameters.numbers("TransformParameters", transform.GetNumberOfParameters()))
        return transform
    if kind in ("BSplineTransform", "RecursiveBSplineTransform"):
        return _spline(parameters)
    if kind == "DeformationFieldTransform":
        field = parameters.text("DeformationFieldFileName")
        return read_other(_find(path, field, parameters.label, "displacement field"))
    if kind == "File":
        return read_other(_find(path, parameters.text("TransformFileName"), parameters.label, "transform file"))
    raise InputError(f"{parameters.label}: SimpleITK has no equal of elastix's {kind}; {_ALTERNATIVE}")


def _spline(parameters: _Parameters) -> sitk.BSplineTransform:
    """Its lattice is that of ITK's transform, but given as control points rather than as the domain."""
    if parameters.text("UseCyclicTransform", "false") == "true":
        raise InputError(f"{parameters.label}: SimpleITK has no equal of a cyclic B-spline; {_ALTERNATIVE}")
    if any(parameters.numbers("GridIndex", 3) if "GridIndex" in parameters.values else []):
        raise InputError(f"{parameters.label}: GridIndex must be 0 0 0, got "
                         f"{' '.join(parameters.values['GridIndex'])}; {_ALTERNATIVE}")
    order = int(parameters.number("BSplineTransformSplineOrder", 3))
    if not 1 <= order <= 3:
        raise InputError(f"{parameters.label}: BSplineTransformSplineOrder must be 1, 2 or 3, got {order}")
    size = [int(n) for n in parameters.numbers("GridSize", 3)]
    if min(size) <= order:
        raise InputError(f"{parameters.label}: GridSize must be more than the spline's order, got {size}")
    values = np.reshape(parameters.numbers("TransformParameters", 3 * int(np.prod(size))), (3, *size[::-1]))
    direction = np.eye(3)
    if "GridDirection" in parameters.values:  # elastix writes directions column after column
        direction = np.reshape(parameters.numbers("GridDirection", 9), (3, 3)).T
    images = [sitk.GetImageFromArray(component) for component in values]
    for image in images:
        image.SetSpacing(parameters.numbers("GridSpacing", 3))
        image.SetOrigin(parameters.numbers("GridOrigin", 3))
        image.SetDirection(direction.ravel().tolist())
    return sitk.BSplineTransform(images, order)


def _find(path: pathlib.Path, name: str, label: str, what: str) -> pathlib.Path:
    """A file that `path` names: elastix notes where it was when it ran, so the same name beside `path` will do."""
    named = pathlib.PureWindowsPath(name) if "\\" in name else pathlib.PurePath(name)
    for candidate in (path.parent / name, path.parent / named.name):
        if candidate.is_file():
            return candidate
    raise InputError(f"{label}: its {what} {name} is neither there nor beside it")


def _parse(path: pathlib.Path, label: str) -> dict[str, list[str]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix.lower() == ".toml":
        return _parse_toml(text, label)
    values = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("//"):
            found = _LINE.match(line)
            if not found:
                raise InputError(f"{label}: cannot be read, expected (Name value ...) in every line, got "
                                 f"{line.strip()[:60]}")
            values[found[1]] = [quoted or bare for quoted, bare in _VALUE.findall(found[2])]
    return values


def _parse_toml(text: str, label: str) -> dict[str, list[str]]:
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        import tomli as tomllib
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{label}: cannot be read, {error}") from error
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return {name: [str(v).lower() if isinstance(v, bool) else str(v) for v in value] for name, value in lists.items()}
