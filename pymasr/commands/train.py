"""``pymasr train``: train a learned descriptor, or a registration network."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from pymasr.commands.common import add_loudness, positive, progress_bar
from pymasr.errors import InputError


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "train", allow_abbrev=False, help="train a learned descriptor or a registration network",
        description="Train a MASR-Net, or with 'task: registration' a registration network, as the YAML file CONFIG "
                    "says, on synthetic anatomies, scans of your own, or both. The same command goes on with a "
                    "training that was interrupted. Under torchrun, several processes share the batch: "
                    "torchrun --nproc-per-node 4 -m pymasr.cli train CONFIG -o FOLDER.")
    parser.add_argument("config", metavar="CONFIG", nargs="?",
                        help="YAML file, see docs/training.md and docs/network.md")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True,
                        help="where checkpoint.pt, log.csv and validation.csv are; with --export, the file to write")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where to compute (default: %(default)s)")
    parser.add_argument("--steps", metavar="N", type=positive,
                        help="stop after N steps in all, to go on later; the learning rate follows CONFIG all the "
                             "same")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write logs for TensorBoard, too, FOLDER/tensorboard")
    parser.add_argument("--export", metavar="CHECKPOINT",
                        help="train nothing: write the averaged weights of a checkpoint as safetensors to -o")
    add_loudness(parser)
    parser.set_defaults(run=run, parser=parser)


def run(chosen: argparse.Namespace) -> None:
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
    with progress_bar("training", "loss {task.fields[loss]}  rate {task.fields[rate]}") as bar:
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
            if "left" in values:
                print(f"step {step}: {values['error']:.2f} voxels from the truth, {values['start']:.2f} before, "
                      f"{100 * values['left']:.0f} % left in the mean", flush=True)

        yield show
