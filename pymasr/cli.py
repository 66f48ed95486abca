"""The command line: ``pymasr register``, ``features``, ``train``, ``export`` and ``info``.

Nothing heavy is imported before a command runs, so that help and usage errors come at once.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pymasr._version import __version__
from pymasr.errors import InputError

if TYPE_CHECKING:
    from pymasr.registration.result import Registration

#: Exit statuses.
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """argparse's parser with our form of errors: one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"pymasr: error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(prog="pymasr", description="Registration of scans of different modalities.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"pymasr {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    register = commands.add_parser(
        "register", allow_abbrev=False, help="align a moving image to a fixed one",
        description="Find the transform that carries points of FIXED to the same anatomy in MOVING, and write it to "
                    "DIR: transform.h5 and displacement.nii.gz (ITK, LPS mm), inverse.h5 (points of MOVING to FIXED), "
                    "warped.nii.gz (MOVING on the grid of FIXED), report.json and overview.png.")
    register.add_argument("fixed", metavar="FIXED", help="image file, or directory with one DICOM series")
    register.add_argument("moving", metavar="MOVING", help="image file, or directory with one DICOM series")
    register.add_argument("-o", "--output", metavar="DIR", required=True, help="where to write; made when missing")
    register.add_argument("--features", metavar="DESCRIPTORS", default="masr",
                          help="what the deformation compares: masr (learned descriptors, dsir, beside dns), dsir, "
                               "dns, mind, with parameters such as 'mind(radius=1, dilation=2)', or a weighted sum "
                               "such as 'mind + 0.5 * dns' (default: %(default)s); the "
                               "stages before it: --set global_features=DESCRIPTORS")
    register.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                          help="where to compute (default: %(default)s)")
    register.add_argument("--preset", choices=("fast", "default", "accurate"), default="default",
                          help="how long to search (default: %(default)s)")
    register.add_argument("--transform", choices=("rigid", "similarity", "affine", "deformable"), default="deformable",
                          help="what to look for (default: %(default)s)")
    register.add_argument("--initial", metavar="START", default="auto",
                          help="where to start: auto (the headers, unless a search finds a clearly better pose), "
                               "headers, centres (of the grids), mass (centres of mass), moments (and principal axes), "
                               "search (turns and shifts), or a file with a linear ITK transform, fixed to moving "
                               "points (default: %(default)s)")
    register.add_argument("--diffeomorphic", action=argparse.BooleanOptionalAction, default=True,
                          help="a deformation that does not fold, and so has an inverse (default: yes)")
    register.add_argument("--symmetric", action="store_true",
                          help="the same, found from both directions: exchanging the images inverts it, nearly")
    register.add_argument("--robust", action="store_true",
                          help="let structures that only one of the images shows count less and less")
    register.add_argument("--fixed-mask", metavar="FILE", help="compare only where this image is not zero")
    register.add_argument("--moving-mask", metavar="FILE", help="the same for the moving image")
    register.add_argument("--fixed-weights", metavar="FILE",
                          help="how much each place of the fixed image counts, numbers of at least 0")
    register.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], type=_setting,
                          help="any other setting of pymasr.registration.Settings, such as regularisation=5 or "
                               "storage=float16; may be given several times")
    register.add_argument("--threads", metavar="N", type=_positive,
                          help="threads to compute with (default: as many as torch takes)")
    register.add_argument("--seed", metavar="N", type=int, help="seed of what is drawn by chance")
    loudness = register.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="count", default=0,
                          help="say how long each stage took; twice: tracebacks of errors, too")
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    register.set_defaults(run=_register, parser=register)

    train = commands.add_parser(
        "train", allow_abbrev=False, help="train a learned descriptor",
        description="Train a MASR-Net as the YAML file CONFIG says, on synthetic anatomies, scans of your own, or "
                    "both. The same command goes on with a training that was interrupted. Under torchrun, several "
                    "processes share the batch: torchrun --nproc-per-node 4 -m pymasr.cli train CONFIG -o FOLDER.")
    train.add_argument("config", metavar="CONFIG", nargs="?", help="YAML file, see docs/training.md")
    train.add_argument("-o", "--output", metavar="FOLDER", required=True,
                       help="where checkpoint.pt, log.csv and validation.csv are; with --export, the file to write")
    train.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                       help="where to compute (default: %(default)s)")
    train.add_argument("--steps", metavar="N", type=_positive,
                       help="stop after N steps in all, to go on later; the learning rate follows CONFIG all the same")
    train.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard, too, FOLDER/tensorboard")
    train.add_argument("--export", metavar="CHECKPOINT",
                       help="train nothing: write the averaged weights of a checkpoint as safetensors to -o")
    loudness = train.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="count", default=0, help="twice: tracebacks of errors")
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    train.set_defaults(run=_train, parser=train)

    features = commands.add_parser(
        "features", allow_abbrev=False, help="write the descriptors of an image",
        description="Write the descriptors of IMAGE as a vector image on its grid, and a picture of their three "
                    "principal components as red, green and blue. They are computed on isotropic voxels along the "
                    "image's axes; the descriptors of an image with other voxels are interpolated there and back.")
    features.add_argument("image", metavar="IMAGE", help="image file, or directory with one DICOM series")
    features.add_argument("-o", "--output", metavar="OUT", required=True,
                          help="a file (.nrrd, .mha, .nii, .nii.gz), beside which the picture is put as ..._pca.png, "
                               "or a directory, made when missing, for features.nrrd and pca.png")
    features.add_argument("--features", metavar="DESCRIPTORS", default="dsir",
                          help="which descriptors: dsir (learned), mind, dns, with parameters such as 'mind(radius=1, "
                               "dilation=2)', or a sum of them (default: %(default)s)")
    features.add_argument("--window", metavar=("LOW", "HIGH"), nargs=2, type=float,
                          help="intensities that become 0 and 1, such as -200 1024 for CT (default: percentiles 1 and "
                               "99 of what is brighter than the background)")
    features.add_argument("--spacing", metavar="MM", type=float,
                          help="edge of the voxels to work on (default: of a cube as large as the image's voxels)")
    features.add_argument("--threads", metavar="N", type=_positive, help="threads to use (default: as torch chooses)")
    features.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    features.set_defaults(run=_features, parser=features)

    export = commands.add_parser(
        "export", allow_abbrev=False, help="write a network for other programs",
        description="Write a MASR-Net, of standard operators alone, in the format that the name of FILE says: .pt "
                    "(TorchScript), .pt2 (torch.export) or .onnx. It takes an image (N, 1, D, H, W), float32, of "
                    "isotropic voxels, whose intensities were mapped to [0, 1] before.")
    export.add_argument("--weights", metavar="WEIGHTS", default="masr",
                        help="name of packaged weights, or a .safetensors file (default: %(default)s)")
    export.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write")
    export.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    export.set_defaults(run=_export, parser=export)

    info = commands.add_parser("info", allow_abbrev=False, help="versions, instruction set, threads, CUDA",
                               description="Print what this installation is and what it can use on this machine.")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info, parser=info)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        chosen = _parse(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    debug = getattr(chosen, "verbose", 0) >= 2 or os.environ.get("PYMASR_DEBUG", "") not in ("", "0")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path that the terminal cannot show is no failure
    try:
        chosen.run(chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt as stop:  # a training says what it has written
        print(f"pymasr: {str(stop) or 'interrupted, nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        print(f"pymasr: error: {_sentence(error)}", file=sys.stderr)
        return WRONG_USE if isinstance(error, InputError) else FAILED
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    top = parser()
    chosen, unknown = top.parse_known_args(arguments)
    if unknown:
        valid = ", ".join(option for action in chosen.parser._actions for option in action.option_strings)
        chosen.parser.error(f"unknown argument {' '.join(unknown)}, expected one of {valid}")
    return chosen


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return value


def _setting(text: str) -> tuple[str, Any]:
    """A name and its value: a Python literal where it is one, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    with contextlib.suppress(ValueError, SyntaxError):
        return name.strip(), ast.literal_eval(value.strip())
    return name.strip(), value.strip()


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, InputError):
        return text
    if isinstance(error, MemoryError):
        return f"out of memory ({text})"
    return f"{type(error).__name__}: {text} (PYMASR_DEBUG=1 shows where)"


def _register(chosen: argparse.Namespace) -> None:
    from pymasr._output import require_writable

    require_writable(chosen.output)

    import torch

    from pymasr.api import register
    from pymasr.registration import Settings

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    settings: dict[str, Any] = {} if chosen.seed is None else {"seed": chosen.seed}
    settings.update({name: getattr(chosen, name) for name in ("diffeomorphic", "symmetric", "robust")})
    options = {action.dest for action in chosen.parser._actions if action.option_strings}
    for name, value in chosen.set:
        if name in options:
            raise InputError(f"--set {name}: use --{name.replace('_', '-')} for that")
        Settings.from_preset(chosen.preset, **{name: value})  # refuses what register takes but is no setting
        settings[name] = value
    with _progress_bar(not chosen.quiet and sys.stderr.isatty()) as progress:
        result = register(chosen.fixed, chosen.moving, features=chosen.features, preset=chosen.preset,
                          device=chosen.device, transform=chosen.transform, initial=chosen.initial,
                          fixed_mask=chosen.fixed_mask, moving_mask=chosen.moving_mask,
                          fixed_weights=chosen.fixed_weights, progress=progress, **settings)
    result.context["command"] = _command(chosen)
    files = result.save(chosen.output)
    if not chosen.quiet:
        _print_result(result, files, stages=chosen.verbose > 0)


def _train(chosen: argparse.Namespace) -> None:
    if (chosen.config is None) == (chosen.export is None):
        raise InputError("train: give either CONFIG, to train, or --export CHECKPOINT, to write its weights")
    if chosen.export is not None:
        from pymasr.training.export import export

        export(chosen.export, chosen.output)
        if not chosen.quiet:
            print(f"wrote  {chosen.output}")
        return
    from pymasr._output import require_writable

    require_writable(chosen.output)

    from pymasr.runtime import choose_device
    from pymasr.training.config import load
    from pymasr.training.loop import train

    config = load(chosen.config)
    device = choose_device(chosen.device)
    first = int(os.environ.get("RANK", 0)) == 0  # of the processes of torchrun: the others are silent
    with _training_bar(first and not chosen.quiet, config.run.steps) as progress:
        train(config, chosen.output, device=device, stop=chosen.steps, tensorboard=chosen.tensorboard,
              progress=progress)


@contextlib.contextmanager
def _training_bar(shown: bool, steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """What the training calls after every step; on a terminal it moves a bar on stderr, and everywhere it prints a
    line for every validation."""
    if not shown:
        yield lambda step, values: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("training"), BarColumn(bar_width=30), MofNCompleteColumn(),
               TextColumn("loss {task.fields[loss]}  rate {task.fields[rate]}"), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
                  redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=steps, loss="-", rate="-")
        mean: list[float] = []

        def show(step: int, values: dict[str, float]) -> None:
            if not mean:
                bar.reset(task, total=steps, completed=step - 1)  # a training that goes on: time left by the new steps
                mean.append(values["loss"])
            mean[0] += 0.05 * (values["loss"] - mean[0])  # of about twenty steps: pairs are easy or hard by chance
            bar.update(task, completed=step, loss=f"{mean[0]:.3f}", rate=f"{values['rate']:.1e}")
            if "gn_error" in values:
                print(f"step {step}: settles within {values['gn_error']:.3f} voxels, SSD {values['half_voxel']:.2f} "
                      f"times as large half a voxel off, {100 * values['found']:.1f} % found", flush=True)

        yield show


def _features(chosen: argparse.Namespace) -> None:
    from pymasr._output import require_writable
    from pymasr.extraction import destination, extract_features

    require_writable(destination(chosen.output)[0])

    import torch

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    window = None if chosen.window is None else tuple(chosen.window)
    result = extract_features(chosen.image, features=chosen.features, window=window, spacing=chosen.spacing)
    files = result.save(chosen.output)
    if not chosen.quiet:
        note = ", the image interpolated for that, the descriptors interpolated back" if result.interpolated else ""
        print(f"{result.features}: {result.array.shape[0]} channels, on voxels of {result.spacing:.3g} mm{note}")
        for file in files:
            print(f"wrote {file}")


def _export(chosen: argparse.Namespace) -> None:
    from pymasr.models.export import export

    file = export(chosen.weights, chosen.output)
    if not chosen.quiet:
        print(f"wrote {file}")


def _command(chosen: argparse.Namespace) -> dict[str, Any]:
    """The command line as it was understood, for the report."""
    return {key: value for key, value in vars(chosen).items() if key not in ("run", "parser", "verbose", "quiet")}


@contextlib.contextmanager
def _progress_bar(shown: bool) -> Iterator[Callable[[Any], None] | None]:
    """What the engine calls at every iteration; it draws one bar on stderr, a level at a time."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
               TextColumn("loss {task.fields[loss]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
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


def _info(chosen: argparse.Namespace) -> None:
    from pymasr.runtime import info

    facts = info()
    if chosen.json:
        print(json.dumps(facts, indent=2))
        return
    for name, version in facts["versions"].items():
        print(f"{name:16s} {version or 'not installed'}")
    print(f"{'platform':16s} {facts['platform']}")
    print(f"{'compiler':16s} {facts['compiler']}")
    used, best = facts["instruction_set"]["used"], facts["instruction_set"]["best"]
    print(f"{'instruction set':16s} {used} (best here: {best}; MASR_ISA=baseline|avx2|avx512 chooses)")
    print(f"{'threads':16s} {facts['threads']}")
    cuda = facts["cuda"]
    print(f"{'CUDA':16s} {'built' if cuda['built'] else 'not built'}, "
          f"{'usable' if cuda['usable'] else 'not usable: ' + cuda['reason']}")


if __name__ == "__main__":
    sys.exit(main())
