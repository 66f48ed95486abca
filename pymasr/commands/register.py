"""``pymasr register``: align a moving image to a fixed one."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pymasr import config
from pymasr.commands.common import add_loudness, positive, progress_bar
from pymasr.commands.configuration import add_configuration, configured
from pymasr.config import literal
from pymasr.errors import InputError

if TYPE_CHECKING:
    from pymasr.registration.result import Registration


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "register", allow_abbrev=False, help="align a moving image to a fixed one",
        description="Find the transform that carries points of FIXED to the same anatomy in MOVING, and write it to "
                    "DIR: transform.h5 and displacement.nii.gz (ITK, LPS mm), inverse.h5 (points of MOVING to FIXED), "
                    "warped.nii.gz (MOVING on the grid of FIXED), report.json and overview.png.")
    parser.add_argument("fixed", metavar="FIXED", nargs="?", help="image file, or directory with one DICOM series")
    parser.add_argument("moving", metavar="MOVING", nargs="?", help="image file, or directory with one DICOM series")
    parser.add_argument("-o", "--output", metavar="DIR", help="where to write; made when missing")
    parser.add_argument("--fixed-mask", metavar="FILE", help="compare only where this image is not zero")
    parser.add_argument("--moving-mask", metavar="FILE", help="the same for the moving image")
    parser.add_argument("--fixed-weights", metavar="FILE",
                          help="how much each place of the fixed image counts, numbers of at least 0")
    parser.add_argument("--also", metavar="IMAGE", action="append", default=[],
                        help="warp this image of the moving space, too, to DIR/warped_NAME.nii.gz, where NAME is its "
                             "own without the ending; its pixel type is kept; may be given several times")
    parser.add_argument("--also-labels", metavar="LABELS", action="append", default=[],
                        help="the same for a label map or mask, which stays one; may be given several times")
    parser.add_argument("--threads", metavar="N", type=positive,
                          help="threads to compute with (default: as many as torch takes)")
    add_settings(parser)
    parser.add_argument("--report", action=argparse.BooleanOptionalAction, default=False,
                        help="write report.html, too: pictures to slide and blink through, curves, maps, settings and "
                             "warnings on one page for a browser")
    add_configuration(parser, ("fixed", "moving", "output"))
    add_loudness(parser, "say how long each stage took")
    parser.set_defaults(run=run, parser=parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options on how to register, whatever the images are."""
    parser.add_argument("--features", metavar="DESCRIPTORS", default="masr",
                          help="what the deformation compares: masr (learned descriptors, dsir, beside dns), dsir, "
                               "dns, mind, with parameters such as 'mind(radius=1, dilation=2)', or a weighted sum "
                               "such as 'mind + 0.5 * dns'; or nmi, statistics of the intensities (default: "
                               "%(default)s); the stages before it: --set global_features=DESCRIPTORS")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                          help="where to compute (default: %(default)s)")
    parser.add_argument("--preset", choices=("fast", "default", "accurate"), default="default",
                          help="how long to search (default: %(default)s)")
    parser.add_argument("--transform", choices=("rigid", "similarity", "affine", "deformable"), default="deformable",
                          help="what to look for (default: %(default)s)")
    parser.add_argument("--method", choices=("optimise", "network", "network+optimise"), default="optimise",
                          help="how the deformation is found: by an optimisation of this pair, by a trained network in "
                               "one pass, or by the network and a short optimisation (default: %(default)s)")
    parser.add_argument("--network", metavar="WEIGHTS", default="registration",
                          help="the network: name of packaged weights, or a .safetensors file (default: %(default)s)")
    parser.add_argument("--initial", metavar="START", default="auto",
                          help="where to start: auto (the headers, unless a search finds a clearly better pose), "
                               "headers, centres (of the grids), mass (centres of mass), moments (and principal axes), "
                               "search (turns and shifts), or a file with a transform of ITK, ANTs or elastix, fixed "
                               "to moving points, which a deformation is added to (default: %(default)s)")
    parser.add_argument("--diffeomorphic", action=argparse.BooleanOptionalAction, default=True,
                          help="a deformation that does not fold, and so has an inverse (default: yes)")
    parser.add_argument("--symmetric", action=argparse.BooleanOptionalAction, default=False,
                          help="the same, found from both directions: exchanging the images inverts it, nearly")
    parser.add_argument("--robust", action=argparse.BooleanOptionalAction, default=False,
                          help="let structures that only one of the images shows count less and less")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], type=_setting,
                          help="any other setting of pymasr.registration.Settings, such as regularisation=5 or "
                               "storage=float16; may be given several times")
    parser.add_argument("--seed", metavar="N", type=int, help="seed of what is drawn by chance")


def run(chosen: argparse.Namespace) -> None:
    if chosen.dump_config:
        _dump_config(chosen)
        return
    from pymasr._output import require_writable

    require_writable(chosen.output)

    import torch

    from pymasr.api import register
    from pymasr.registration.companions import Companions

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    companions = Companions(chosen.also, chosen.also_labels)
    with _progress_bar(not chosen.quiet and sys.stderr.isatty()) as progress:
        result = register(chosen.fixed, chosen.moving, fixed_mask=chosen.fixed_mask, moving_mask=chosen.moving_mask,
                          fixed_weights=chosen.fixed_weights, progress=progress, **settings_of(chosen))
    known = result.context["config"]
    known |= config.absolute({name: getattr(chosen, name) for name in configured(chosen.parser) if name not in known})
    files = result.save(chosen.output, companions.warp(result), report=chosen.report)
    if not chosen.quiet:
        _print_result(result, files, stages=chosen.verbose > 0)


def settings_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """The keywords of :func:`pymasr.register` that the options of :func:`add_settings` stand for, and those of a
    configuration.

    Raises InputError for a setting that there is not, or whose value makes no sense.
    """
    from pymasr.registration import Settings

    settings: dict[str, Any] = dict(getattr(chosen, "settings", {}))
    options = {action.dest for action in chosen.parser._actions if action.option_strings}
    for name, value in chosen.set:
        if name in options:
            raise InputError(f"--set {name}: use --{name.replace('_', '-')} for that")
        Settings.from_preset(chosen.preset, **{name: value})  # refuses what register takes but is no setting
        settings[name] = value
    settings.update({name: getattr(chosen, name) for name in (
        "features", "preset", "device", "transform", "method", "network", "initial", "diffeomorphic", "symmetric",
        "robust")})
    return settings if chosen.seed is None else {**settings, "seed": chosen.seed}


def _dump_config(chosen: argparse.Namespace) -> None:
    from pymasr.registration import Settings

    settings = settings_of(chosen)
    initial = settings.pop("initial")
    names = [name for name in configured(chosen.parser) if name not in (*config.OPTIONS, "initial")]
    print(config.dump(config.effective(Settings.from_preset(**settings), initial=initial,
                                       **{name: getattr(chosen, name) for name in names})), end="")


def _setting(text: str) -> tuple[str, Any]:
    """A name and its value: a Python literal where it is one, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name.strip(), literal(value)


@contextlib.contextmanager
def _progress_bar(shown: bool) -> Iterator[Callable[[Any], None] | None]:
    """What the engine calls at every iteration; it draws one bar on stderr, a level at a time."""
    if not shown:
        yield None
        return
    with progress_bar("{task.description}", "loss {task.fields[loss]}") as bar:
        task = bar.add_task("reading", total=None, loss="-")
        level: list[Any] = [None]

        def show(state: Any) -> None:
            name = f"{state.stage} {state.level}/{state.levels}"
            if level[0] != name:
                level[0] = name
                bar.reset(task, total=state.iterations, description=name)
            bar.update(task, completed=state.iteration, loss=f"{state.loss:.4f}")

        yield show


def _print_result(result: Registration, files: Sequence[os.PathLike], *, stages: bool) -> None:
    report = result.report
    rows: list[tuple[str, str]] = []

    def row(name: str, value: str) -> None:
        rows.append((name, value))

    row("similarity", f"{_text(report['similarity_before'])} before, {_text(report['similarity_after'])} after")
    row("folded", f"{100 * report['folded']:.3g} % of voxels, std of log Jacobian "
                  f"{_text(report['std_log_jacobian'])}")
    error = report["inverse_error_mm"]
    row("inverse", f"off by {_text(error['mean'])} mm in the mean, {_text(error['max'])} mm at most")
    if report["working"]:
        row("worked", _working(report["working"]))
    if stages:
        for entry in report["stages"]:
            row(f"  {entry['name']}", f"{entry['seconds']:.2f} s, peak {entry['peak_memory_mib']:.0f} MiB")
    row("seconds", f"{report['seconds']:.1f}")
    for warning in report["warnings"]:
        row("warning", warning)
    for file in files:
        row("wrote", os.fspath(file))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}s}  {value}")


def _working(working: dict[str, Any]) -> str:
    """What the descriptors were computed on, in words."""
    text = f"at {working['spacing_mm']:.3g} mm"
    if working["limited"]:
        text += " (coarser than the images: max_voxels)"
    seen = [name for name in ("fixed", "moving") if working[f"{name}_interpolated"]]
    if seen:
        text += f", {' and '.join(seen)} image interpolated for the descriptors"
    if working["smoothing"]:
        text += f", smoothed by {working['smoothing']:.2f} voxels for their noise"
    return text


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
