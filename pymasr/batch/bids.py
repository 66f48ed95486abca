"""Pairs in a BIDS dataset, and the names of results in a BIDS derivative.

Names follow BIDS 1.10 and its extension proposal 14 on transforms: ``from-T2w_to-T1w_mode-image_xfm`` resamples an
image in the space of the T2w to that of the T1w. Only file names are read; that needs no index of the dataset.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pymasr._output import whole_file
from pymasr._version import __version__
from pymasr.batch.pairs import Pair
from pymasr.errors import InputError

_NAME = re.compile(r"sub-[A-Za-z0-9+]+(_[A-Za-z0-9+]+-[A-Za-z0-9+]+)*_[A-Za-z0-9+]+\.nii(\.gz)?")


@dataclass(frozen=True)
class Found:
    """What :func:`find_pairs` found: the pairs, and the sessions (such as ``sub-01/ses-2``) that have no fixed or no
    moving image."""

    pairs: list[Pair]
    incomplete: list[str]


def find_pairs(dataset: str | os.PathLike, fixed: str = "T1w", moving: Sequence[str] = ("T2w", "FLAIR"), *,
               derivative: bool = False) -> Found:
    """Pairs of images of one subject (and session, where there are sessions), in the order of their names.

    Args:
        dataset: folder with ``sub-*``.
        fixed: end of the name of the fixed image: its suffix, or with entities before it, such as ``run-1_T1w``.
        moving: the same of the moving images; each gives a pair.
        derivative: whether results get the names of a BIDS derivative, else those of folders by id.

    Returns:
        A session with several images that could be the fixed one gives pairs that cannot be registered, and say why.

    Raises:
        InputError: where there is no dataset, or no pair in it.
    """
    dataset = pathlib.Path(dataset)
    subjects = sorted(path for path in dataset.glob("sub-*") if path.is_dir())
    if not subjects:
        raise InputError(f"{dataset}: is no BIDS dataset, there is no folder sub-* in it; give one, or a manifest "
                         "(CSV) with the columns fixed and moving")
    pairs, incomplete = [], []
    for subject in subjects:
        for session in sorted(path for path in subject.glob("ses-*") if path.is_dir()) or [subject]:
            images = sorted(path for path in session.glob("*/*.nii*") if _NAME.fullmatch(path.name))
            targets = [path for path in images if _ends(path, fixed)]
            sources = [path for path in images if any(_ends(path, end) for end in moving) and path not in targets]
            if not (targets and sources):
                incomplete.append(session.relative_to(dataset).as_posix())
            obstacle = None
            if len(targets) > 1:
                obstacle = (f"{session.relative_to(dataset)} has {len(targets)} images that end in {fixed} "
                            f"({', '.join(path.name for path in targets)}); say more of the end, such as "
                            f"--fixed-suffix {_more(targets[0])}, or write a manifest")
            pairs += [_pair(dataset, targets[0], source, derivative, obstacle) for source in sources if targets]
    if not pairs:
        raise InputError(f"{dataset}: no subject has an image that ends in _{fixed} and another that ends in "
                         f"{' or '.join('_' + end for end in moving)} (.nii or .nii.gz); see --fixed-suffix and "
                         "--moving-suffix")
    return Found(pairs, incomplete)


def write_description(directory: str | os.PathLike, dataset: str | os.PathLike) -> None:
    """dataset_description.json of the derivative in `directory`, where it has none yet."""
    file = pathlib.Path(directory) / "dataset_description.json"
    if file.exists():
        return
    text = json.dumps({
        "Name": "Registrations by pymasr", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "pymasr", "Version": __version__}],
        "SourceDatasets": [{"URL": pathlib.Path(dataset).absolute().as_uri()}]}, indent=2)
    with whole_file(file) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _ends(path: pathlib.Path, suffix: str) -> bool:
    return _stem(path).endswith(f"_{suffix}")


def _stem(path: pathlib.Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _more(path: pathlib.Path) -> str:
    """The suffix of a name and the last of its entities."""
    return "_".join(_stem(path).split("_")[-2:])


def _pair(dataset: pathlib.Path, fixed: pathlib.Path, moving: pathlib.Path, derivative: bool,
          obstacle: str | None) -> Pair:
    *entities, source = _stem(moving).split("_")
    target = _stem(fixed).rpartition("_")[2]
    start = "_".join(entities)
    base = f"{start}_from-{source}_to-{target}_mode-image"
    names = {}
    if derivative:
        back = f"{start}_from-{target}_to-{source}_mode-image"
        figures = f"{entities[0]}/figures/{base}"
        folder = moving.parent.relative_to(dataset).as_posix()
        names = {"transform.h5": f"{folder}/{base}_xfm.h5",
                 "report.json": f"{folder}/{base}_xfm.json",
                 "inverse.h5": f"{folder}/{back}_xfm.h5",
                 "displacement.nii.gz": f"{folder}/{base}_desc-displacement_xfm.nii.gz",
                 "warped.nii.gz": f"{folder}/{start}_space-{target}_{source}.nii.gz",
                 "warped_labels.nii.gz": f"{folder}/{start}_space-{target}_dseg.nii.gz",
                 "overview.png": f"{figures}_overview.png",
                 "report.html": f"{figures}_report.html"}
    return Pair(f"{start}_from-{source}_to-{target}", os.path.abspath(fixed), os.path.abspath(moving), names=names,
                obstacle=obstacle)
