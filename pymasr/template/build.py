"""A template of a group of scans: register all to what there is, average, bring the average to the mean shape, repeat.

The iteration of A. Guimond et al. (2000, see :mod:`pymasr.template.shape`), which ANTs' template construction follows,
too (B. Avants et al., The optimal template effect in hippocampus studies of diseased populations, NeuroImage 49, 2010).
Descriptors do not depend on the contrast, and so all scans are registered to one contrast of the template, whatever
theirs is, and averaged by contrast.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from pymasr._output import whole_file, write_image
from pymasr._version import __version__
from pymasr.batch import content
from pymasr.batch.pairs import Pair, require_usable, resolved, weights_files
from pymasr.batch.runner import Watcher, register_pairs
from pymasr.batch.store import DONE, Store, write_text
from pymasr.batch.summary import Row
from pymasr.batch.workers import Crew, Workers
from pymasr.errors import InputError
from pymasr.evaluation import foreground
from pymasr.geometry import Geometry
from pymasr.io import as_image
from pymasr.registration import grids
from pymasr.sitk import geometry_of, set_geometry, to_sitk
from pymasr.template.group import PLAIN, Subject, target_of
from pymasr.template.shape import inverse_displacement
from pymasr.template.sums import mean_images, mean_shape, normalised

SHARPENINGS = ("none", "laplacian", "unsharp")


@dataclass(frozen=True)
class Construction:
    """How a template is made.

    Attributes:
        iterations: how often all are registered and averaged.
        reference: id of the subject whose scan the first template is, or an image file; None: the first subject that
            has the target contrast. It gives the template's pose and grid; its shape is left behind.
        target: contrast of the template that all are registered to; None: what most subjects have.
        spacing: edge in mm of the template's voxels; None: those of the reference.
        margin: mm by which the template's grid is larger than the reference's, on every side.
        step: share of the way to the mean shape that an iteration goes.
        sharpen: of the averages of every iteration, "none", "laplacian" or "unsharp".
    """

    iterations: int = 4
    reference: str | None = None
    target: str | None = None
    spacing: float | None = None
    margin: float = 0.0
    step: float = 1.0
    sharpen: str = "none"

    def __post_init__(self):
        for name, holds, expected in (
                ("iterations", isinstance(self.iterations, int) and self.iterations >= 1, "a whole number from 1 up"),
                ("spacing", self.spacing is None or 0 < self.spacing < float("inf"), "positive, mm"),
                ("margin", 0 <= self.margin < float("inf"), "at least 0, mm"),
                ("step", 0 < self.step <= 1, "above 0, at most 1"),
                ("sharpen", self.sharpen in SHARPENINGS, f"one of {', '.join(SHARPENINGS)}")):
            if not holds:
                raise InputError(f"template: {name} must be {expected}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Template:
    """What :func:`build_template` made.

    Attributes:
        files: the template by contrast.
        rows: of the last registrations, of every subject to the template.
        report: as in template.json.
    """

    files: dict[str, pathlib.Path]
    rows: list[Row]
    report: dict[str, Any]


def build_template(subjects: Sequence[Subject], output: str | os.PathLike, construction: Construction | None = None, *,
                   options: dict[str, Any] | None = None, workers: Workers | None = None, retry_failed: bool = False,
                   redo: bool = False, watcher: Watcher | None = None,
                   stage: Callable[[str], None] = lambda text: None) -> Template:
    """Make a template of the scans of many subjects.

    Writes ``template.nii.gz`` (with several contrasts ``template_CONTRAST.nii.gz``; intensities 0 and 1 are the
    percentiles 1 and 99 of a scan's foreground), ``subjects/ID/`` with the registration of every subject to it
    (transforms from points of the template to points of the subject), and ``template.json``. ``iterations/`` holds the
    templates on the way; an interrupted run goes on with the registration that it was at.

    Args:
        subjects: two or more, see :func:`read_group`. One that cannot be registered is left out, and reported.
        output: directory; made when missing.
        options: keywords of :func:`pymasr.register`.
        workers: who works; see :class:`pymasr.batch.Workers`.
        retry_failed: try subjects again that failed.
        redo: replace a template that was made of other scans, or with other settings.
        watcher: is told how the registrations of an iteration go.
        stage: called with the name of each step.

    Raises:
        InputError: options that make no sense, fewer than two subjects that can be registered, another template in the
            directory without `redo`.
        KeyboardInterrupt: with a sentence; the same call goes on.
    """
    construction = construction or Construction()
    build = _Build(subjects, output, construction, options or {}, watcher or Watcher(), retry_failed)
    with build.store.locked(), Crew(workers or Workers()) as crew:
        build.begin(redo)
        for number in range(1, construction.iterations + 1):
            stage(f"iteration {number} of {construction.iterations}")
            _interruptible(build.iterate, f"iteration {number} of {construction.iterations}", number, crew)
        stage("subjects to the template")
        return _interruptible(build.finish, "the registrations to the template", crew)


def _interruptible(step: Callable, name: str, *arguments: Any) -> Any:
    try:
        return step(*arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted in {name}; the same command goes on") from None


class _Build:
    """One call of :func:`build_template`."""

    def __init__(self, subjects: Sequence[Subject], output: str | os.PathLike, construction: Construction,
                 options: dict[str, Any], watcher: Watcher, retry_failed: bool):
        if len(subjects) < 2:
            raise InputError(f"template: takes two subjects or more, got {len(subjects)}")
        self.subjects, self.construction, self.options = subjects, construction, options
        self.watcher, self.retry_failed = watcher, retry_failed
        self.settings = resolved(options)
        self.target = target_of(subjects, construction.target)
        require_usable([self._pair(subject, "") for subject in subjects])
        self.store = Store(output)
        self.directory = self.store.directory
        self.known: dict[str, dict] = {}

    def begin(self, redo: bool) -> None:
        """Look at what is there, and make the first template."""
        self._state = self.directory / "iterations" / "state.json"
        earlier = _read(self._state)
        self.known = earlier.get("inputs", {})
        files = {f"{subject.id} {name}": path for subject in self.subjects
                 for name, path in {**subject.scans, "mask": subject.mask}.items() if path}
        reference = self._reference()
        files.update({"reference": reference, **weights_files(self.options)})
        now = {"version": __version__, "settings": self.settings, "target": self.target,
               **{name: value for name, value in asdict(self.construction).items()
                  if name not in ("iterations", "reference", "target")},
               "inputs": {role: content.describe(path, self.known.get(role)) for role, path in files.items()}}
        now = json.loads(json.dumps(now))
        self.known = now["inputs"]
        if not earlier:
            there = [path.name for pattern in ("iterations", "subjects", "template*.nii.gz", "template.json")
                     for path in self.directory.glob(pattern)]
            if there:
                raise InputError(f"{self.directory}: holds {there[0]}, which is of no template that can be gone on "
                                 "with; give another output directory")
        difference = _difference(earlier, now) if earlier else ""
        if difference:
            if not redo:
                raise InputError(f"{self.directory}: holds a template of other scans or settings ({difference}); "
                                 "--redo replaces it, another output directory keeps it")
            shutil.rmtree(self.directory / "iterations")
            shutil.rmtree(self.directory / "subjects", ignore_errors=True)
        write_text(self._state, json.dumps(now, indent=1) + "\n")
        if self._complete(0) is None:
            image = self._first(reference)
            self._keep(0, {self.target: image}, {"reference": reference})

    def iterate(self, number: int, crew: Crew) -> None:
        """Registrations to the template of the last iteration, and a new one; nothing where that was done."""
        done = self._complete(number)
        if done is not None and not (self.retry_failed and done["failed"]):
            return
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        rows = self._register(self._file(number - 1, self.target), folder / "subjects", crew)
        template = as_image(self._file(number - 1, self.target), name="template")
        displacement, facts = self._shape(rows, folder / "subjects", template, crew)
        used = [row for row in rows if row.status == DONE]
        by_id = {subject.id: subject for subject in self.subjects}
        with _scratch(folder) as scratch:
            images, left_out = mean_images(
                crew, [{"id": row.pair.id, "scans": by_id[row.pair.id].scans,
                        "transform": str(folder / "subjects" / row.pair.destination("transform.h5"))} for row in used],
                displacement, template.geometry, scratch)
        if self.target not in images:
            raise InputError(f"template: no scan of the target contrast {self.target} could be averaged")
        averages = {name: _sharpened(to_sitk(image, template.geometry), self.construction.sharpen)
                    for name, image in images.items()}
        change = averages[self.target] - to_sitk(template.array.numpy(), template.geometry)
        self._keep(number, averages, {
            **facts, "subjects": len(used), "failed": {row.pair.id: row.reason for row in rows if row.reason},
            "left_out": left_out, "change": float(np.abs(sitk.GetArrayViewFromImage(change)).mean()),
            "similarity": float(np.median([row.facts["similarity_after"] for row in used]))})
        shutil.rmtree(folder / "subjects")  # everything that is needed of them is in the average

    def finish(self, crew: Crew) -> Template:
        """The template of the last iteration, and every subject registered to it."""
        last = self.construction.iterations
        contrasts = self._complete(last)["outputs"]
        files = {}
        for name in contrasts:
            files[name] = self.directory / ("template.nii.gz" if name == PLAIN else f"template_{name}.nii.gz")
            with whole_file(files[name]) as temporary:
                shutil.copyfile(self._file(last, name), temporary)
        rows = self._register(files[self.target], self.directory / "subjects", crew)
        template = as_image(files[self.target], name="template")
        _, facts = self._shape(rows, self.directory / "subjects", template, crew)
        report = {"version": __version__, "construction": asdict(self.construction), "target": self.target,
                  "settings": self.settings, "template": {name: file.name for name, file in files.items()},
                  "subjects": {subject.id: subject.scans for subject in self.subjects},
                  "failed": {row.pair.id: row.reason for row in rows if row.reason}, **facts,
                  "iterations": [{name: value for name, value in self._complete(number).items() if name != "outputs"}
                                 for number in range(1, last + 1)]}
        write_text(self.directory / "template.json", json.dumps(report, indent=2) + "\n")
        return Template(files, rows, report)

    def _reference(self) -> str:
        wanted = self.construction.reference
        own = {subject.id: subject.scans.get(self.target) for subject in self.subjects}
        if wanted is None:
            return next(path for path in own.values() if path)
        if wanted in own:
            if own[wanted] is None:
                raise InputError(f"template: the reference {wanted} has no scan of the target contrast {self.target}")
            return own[wanted]
        if os.path.exists(wanted):
            return os.path.abspath(wanted)
        raise InputError(f"template: the reference must be the id of a subject or an image file, got {wanted!r}, "
                         "which is neither")

    def _first(self, reference: str) -> sitk.Image:
        """The reference on the template's grid."""
        image = normalised(reference, "reference")
        geometry = _grid(geometry_of(image), self.construction.spacing, self.construction.margin)
        grid = set_geometry(sitk.Image(geometry.shape[::-1], sitk.sitkUInt8), geometry)
        lowest = float(sitk.GetArrayViewFromImage(image).min())
        return sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, lowest)

    def _pair(self, subject: Subject, template: str) -> Pair:
        files = {} if subject.mask is None else {"moving_mask": subject.mask}
        return Pair(subject.id, template, subject.scan_for(self.target), files, dict(self.options))

    def _register(self, template: pathlib.Path, folder: pathlib.Path, crew: Crew) -> list[Row]:
        """All subjects to a template; the state of the template says whether that may replace anything."""
        return register_pairs([self._pair(subject, str(template)) for subject in self.subjects], folder, workers=crew,
                              retry_failed=self.retry_failed, redo=True, watcher=self.watcher)

    def _shape(self, rows: Sequence[Row], folder: pathlib.Path, template: Any,
               crew: Crew) -> tuple[np.ndarray, dict[str, Any]]:
        """The displacement at which the template is sampled to have the mean shape, and how far it is from that."""
        used = [row for row in rows if row.status == DONE]
        if len(used) < 2:
            raise InputError(f"template: {len(used)} of {len(rows)} subjects could be registered, two are needed; "
                             + "; ".join(f"{row.pair.id}: {row.reason}" for row in rows if row.reason))
        region = foreground(template.array).numpy()
        with _scratch(folder) as scratch:
            mean = mean_shape(crew, [str(folder / row.pair.destination("displacement.nii.gz")) for row in used], region,
                              scratch)
        length = np.linalg.norm(mean[region], axis=-1)
        inverse, unconverged = inverse_displacement(self.construction.step * mean, template.geometry)
        return inverse, {"from_mean_shape_mm": {"mean": float(length.mean()), "max": float(length.max())},
                         "mean_shape_without_inverse": unconverged}

    def _folder(self, number: int) -> pathlib.Path:
        return self.directory / "iterations" / f"{number:02d}"

    def _file(self, number: int, contrast: str) -> pathlib.Path:
        return self._folder(number) / f"template_{contrast}.nii.gz"

    def _keep(self, number: int, images: dict[str, sitk.Image], facts: dict[str, Any]) -> None:
        """Write the templates of an iteration, then that it is complete."""
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            write_image(image, self._file(number, name))
        write_text(folder / "iteration.json", json.dumps(
            {**facts, "before": self._digest(number - 1),
             "outputs": {name: content.describe(self._file(number, name)) for name in images}}, indent=1) + "\n")

    def _complete(self, number: int) -> dict[str, Any] | None:
        """What is known of an iteration that is complete and follows from the one before; else None."""
        facts = _read(self._folder(number) / "iteration.json")
        if not facts or facts["before"] != self._digest(number - 1):
            return None
        same = all(content.describe(self._file(number, name), known)["sha256"] == known["sha256"]
                   for name, known in facts["outputs"].items())
        return facts if same else None

    def _digest(self, number: int) -> str | None:
        facts = _read(self._folder(number) / "iteration.json")
        return facts["outputs"][self.target]["sha256"] if facts else None


def _grid(reference: Geometry, spacing: float | None, margin: float) -> Geometry:
    grid = reference if spacing is None else grids.fixed_grid(reference, spacing)
    more = [round(margin / s) for s in reversed(grid.spacing)]
    origin = (grid.voxel_to_physical @ [*(-m for m in more), 1])[:3]
    return replace(grid, shape=tuple(n + 2 * m for n, m in zip(grid.shape, more, strict=True)), origin=tuple(origin))


def _sharpened(image: sitk.Image, how: str) -> sitk.Image:
    if how == "laplacian":
        return sitk.LaplacianSharpening(image)
    return sitk.UnsharpMask(image) if how == "unsharp" else image


@contextlib.contextmanager
def _scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that the workers see, too, and that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".sums-", dir=folder) as scratch:
        yield pathlib.Path(scratch)


def _read(file: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _difference(earlier: dict, now: dict) -> str:
    """What two states differ in; empty where nothing does."""
    for name in sorted(set(now) - {"inputs", "settings"}):
        if earlier.get(name) != now[name]:
            return f"{name} was {earlier.get(name)!r}, now it is {now[name]!r}"
    for name, value in now["settings"].items():
        if earlier["settings"].get(name) != value:
            return f"{name} was {earlier['settings'].get(name)!r}, now it is {value!r}"
    for role in sorted(set(now["inputs"]) | set(earlier["inputs"])):
        if now["inputs"].get(role, {}).get("sha256") != earlier["inputs"].get(role, {}).get("sha256"):
            return f"{role} is not what it was"
    return ""
