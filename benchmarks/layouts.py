"""Where public sets keep their scans: the pairs in a folder that was downloaded, by the name of its layout."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.datasets import Scan, ScanPair
from pymasr.errors import InputError

#: Spacing (mm) and size (voxels) of abdominal scans in the paper, x, y, z.
ABDOMEN = {"spacing": (2.0, 2.0, 2.0), "size": (192, 160, 192)}
#: Of which number on AMOS's scans are MR; those before are CT.
AMOS_MR = 501
#: Phases of a liver's CT, and words in file names that say so.
PHASES = {"native": ("native", "noncontrast", "non", "plain", "unenhanced"),
          "arterial": ("arterial", "art"), "venous": ("venous", "portal", "pv", "ven"),
          "delayed": ("delayed", "delay", "late", "equilibrium")}
#: The phase that the others are registered to.
FIXED_PHASE = "venous"
#: Endings of what lies beside an image PHASE.nii.gz.
LABEL_ENDINGS, LANDMARK_ENDINGS = ("_seg", "_label", "_labels", "_mask"), ("_landmarks",)


def learn2reg(folder: pathlib.Path, split: str = "val") -> list[ScanPair]:
    """A Learn2Reg task, such as AbdomenMRCT: NAME_dataset.json, imagesTr/NAME_0001_0000.nii.gz and so on.

    Args:
        split: "val" and "test" are the pairs in registration_val and registration_test; "train" those in
            training_paired_images, of which modality 0 is fixed.

    Labels and landmarks (voxel indices x,y,z) are those of the same name in labelsTr and landmarksTr, where they exist.
    The images have been brought to one grid by the organisers: only CT is clipped.
    """
    data = _description(folder)
    key = {"train": "training_paired_images"}.get(split, f"registration_{split}")
    entries = data.get(key)
    if not entries:
        known = [k for k in data if k.startswith("registration_") or k.endswith("paired_images")]
        raise InputError(f"{folder}: has no pairs for the split {split!r}, expected some in {key}; its description has "
                         f"{', '.join(known) or 'no pairs at all'}")
    found = []
    for entry in entries:
        fixed, moving = (entry["0"], entry["1"]) if split == "train" else (entry["fixed"], entry["moving"])
        scans = [_learn2reg_scan(folder, file, data.get("modality", {})) for file in (fixed, moving)]
        found.append(ScanPair("learn2reg", *scans, title=" <- ".join(_stem(s.image) for s in scans)))
    return found


def _learn2reg_scan(folder: pathlib.Path, file: str, modalities: dict[str, str]) -> Scan:
    image = _required(folder / file)
    number = re.search(r"_(\d{4})_(\d{4})\.nii\.gz$", image.name)
    if number is None:
        raise InputError(f"{image}: expected a name like NAME_0001_0000.nii.gz, case and modality")
    kind = modalities.get(str(int(number[2])), "unknown")
    beside = {what: image.parent.parent / image.parent.name.replace("images", what)
              for what in ("labels", "landmarks")}
    return Scan(image, "CT" if kind.upper().startswith("CT") else kind, _existing(beside["labels"] / image.name),
                _existing(beside["landmarks"] / f"{_stem(image)}.csv"), voxels=True)


def amos(folder: pathlib.Path) -> list[ScanPair]:
    """AMOS 2022: dataset.json, imagesTr/amos_0001.nii.gz, labelsTr/amos_0001.nii.gz. Scans with labels only.

    CT and MR are of different patients: every MR scan, fixed, gets a CT scan, dealt out at random but always the same.
    """
    data = _description(folder)
    scans: dict[str, list[Scan]] = {"CT": [], "MR": []}
    for entry in [*data.get("training", []), *data.get("validation", [])]:
        if not isinstance(entry, dict) or "label" not in entry:
            continue
        image = _required(folder / entry["image"])
        number = re.search(r"amos_(\d+)\.nii\.gz$", image.name)
        if number is None:
            raise InputError(f"{image}: expected a name like amos_0001.nii.gz")
        modality = "MR" if int(number[1]) >= AMOS_MR else "CT"
        scans[modality].append(Scan(image, modality, _required(folder / entry["label"])))
    if not (scans["CT"] and scans["MR"]):
        raise InputError(f"{folder}: expected labelled CT and MR scans (numbers from {AMOS_MR} on) in dataset.json, "
                         f"got {len(scans['CT'])} and {len(scans['MR'])}")
    order = np.random.default_rng(0).permutation(len(scans["CT"]))
    return [ScanPair("amos", fixed, scans["CT"][order[k % len(order)]], **ABDOMEN,
                     title=f"{_stem(fixed.image)} <- {_stem(scans['CT'][order[k % len(order)]].image)}")
            for k, fixed in enumerate(scans["MR"])]


def liver(folder: pathlib.Path) -> list[ScanPair]:
    """Multi-phase CT: a folder a patient with a file for each phase, FOLDER/PATIENT/arterial.nii.gz, ...

    A file's phase is in its name (:data:`PHASES`); the venous one is fixed, each other one moving. A label map is
    beside it under the same name with _seg, _label, _labels or _mask appended, landmarks (x,y,z in LPS mm) with
    _landmarks.csv.
    """
    found = []
    for patient in sorted(path for path in folder.iterdir() if path.is_dir()):
        scans: dict[str, Scan] = {}
        for image in sorted(patient.glob("*.nii.gz")):
            stem = _stem(image)
            phase = _phase(stem)
            if stem.endswith(LABEL_ENDINGS) or phase is None:
                continue
            if phase in scans:
                raise InputError(f"{patient}: two files of the {phase} phase, {scans[phase].image.name} and "
                                 f"{image.name}; keep one")
            labels = [_existing(patient / f"{stem}{ending}.nii.gz") for ending in LABEL_ENDINGS]
            points = [_existing(patient / f"{stem}{ending}.csv") for ending in LANDMARK_ENDINGS]
            scans[phase] = Scan(image, "CT", next(filter(None, labels), None), next(filter(None, points), None))
        found += [ScanPair("liver", scans[FIXED_PHASE], scan, f"{patient.name} {FIXED_PHASE} <- {phase}", **ABDOMEN)
                  for phase, scan in scans.items() if phase != FIXED_PHASE and FIXED_PHASE in scans]
    return found


def _phase(stem: str) -> str | None:
    words = re.split(r"[^a-z]+", stem.lower())
    found = [phase for phase, names in PHASES.items() if any(name in words for name in names)]
    return found[0] if len(found) == 1 else None


def ixi(folder: pathlib.Path) -> list[ScanPair]:
    """IXI: IXI-T1/IXI002-Guys-0828-T1.nii.gz and IXI-T2/IXI002-Guys-0828-T2.nii.gz; T2 is fixed.

    No labels: the fixed image is seen through a known deformation.
    """
    found = []
    for number, t1 in enumerate(sorted(folder.glob("IXI-T1/*-T1.nii.gz"))):
        t2 = folder / "IXI-T2" / t1.name.replace("-T1.nii.gz", "-T2.nii.gz")
        if t2.is_file():
            found.append(ScanPair("ixi", Scan(t2, "T2"), Scan(t1, "T1"), t1.name.removesuffix("-T1.nii.gz"),
                                  deformation=number))
    return found


def hcp(folder: pathlib.Path) -> list[ScanPair]:
    """HCP's structural scans: FOLDER/SUBJECT/T1w/T1w_acpc_dc_restore.nii.gz and T2w_acpc_dc_restore.nii.gz, or those
    with _brain; T2w is fixed and seen through a known deformation."""
    found = []
    for number, subject in enumerate(sorted(path for path in folder.iterdir() if (path / "T1w").is_dir())):
        for ending in ("acpc_dc_restore.nii.gz", "acpc_dc_restore_brain.nii.gz"):
            t1, t2 = (subject / "T1w" / f"{contrast}_{ending}" for contrast in ("T1w", "T2w"))
            if t1.is_file() and t2.is_file():
                found.append(ScanPair("hcp", Scan(t2, "T2"), Scan(t1, "T1"), subject.name, deformation=number))
                break
    return found


def bids(folder: pathlib.Path) -> list[ScanPair]:
    """BIDS: sub-01/anat/sub-01_T1w.nii.gz and sub-01_T2w.nii.gz, or with a session, sub-01/ses-1/anat/...; of several
    the first. T2w is fixed and seen through a known deformation."""
    found = []
    for anat in sorted([*folder.glob("sub-*/anat"), *folder.glob("sub-*/ses-*/anat")]):
        images = [sorted(anat.glob(f"sub-*_{contrast}.nii.gz")) for contrast in ("T2w", "T1w")]
        if all(images):
            title = " ".join(part for part in anat.relative_to(folder).parts if part.startswith(("sub-", "ses-")))
            found.append(ScanPair("bids", Scan(images[0][0], "T2"), Scan(images[1][0], "T1"), title,
                                  deformation=len(found)))
    return found


#: Layouts by name.
ADAPTERS: dict[str, Callable[..., list[ScanPair]]] = {
    "learn2reg": learn2reg, "amos": amos, "liver": liver, "ixi": ixi, "hcp": hcp, "bids": bids}


def find(name: str, folder: pathlib.Path, *, most: int | None = None, seed: int = 0,
         spacing: Sequence[float] | None = None, size: Sequence[int] | None = None, **options) -> list[ScanPair]:
    """The pairs of a set.

    Args:
        name: of its layout, one of :data:`ADAPTERS`.
        folder: where it was unpacked.
        most: so many pairs at most, drawn with `seed`, in their order.
        spacing, size: in place of those that the layout has.
        options: of the layout's function.

    Raises:
        InputError: another name, no folder, no pairs, a file that its description names and that is not there.
    """
    if name not in ADAPTERS:
        raise InputError(f"dataset {name!r}: expected one of {', '.join(ADAPTERS)}")
    if not folder.is_dir():
        raise InputError(f"dataset {name}: {folder} is no folder")
    if options and name != "learn2reg":
        raise InputError(f"dataset {name}: has no {', '.join(options)}, only learn2reg does")
    found = ADAPTERS[name](folder, **options)
    if not found:
        layout = " ".join(ADAPTERS[name].__doc__.split("\n\n")[0].split())
        raise InputError(f"dataset {name}: no pairs in {folder}, expected {layout}")
    if most is not None and most < len(found):
        chosen = np.random.default_rng(seed).permutation(len(found))[:most]
        found = [found[k] for k in sorted(chosen)]
    changes = {key: tuple(value) for key, value in (("spacing", spacing), ("size", size)) if value is not None}
    return [dataclasses.replace(pair, **changes) for pair in found]


def _description(folder: pathlib.Path) -> dict:
    files = sorted([*folder.glob("*_dataset.json"), *folder.glob("dataset.json")])
    if len(files) != 1:
        raise InputError(f"{folder}: expected one description, NAME_dataset.json or dataset.json, got "
                         f"{', '.join(f.name for f in files) or 'none'}")
    try:
        return json.loads(files[0].read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{files[0]}: is not JSON, {error}") from error


def _required(file: pathlib.Path) -> pathlib.Path:
    if not file.is_file():
        raise InputError(f"{file}: named by the set's description, but not there; unpack the whole set")
    return file


def _existing(file: pathlib.Path) -> pathlib.Path | None:
    return file if file.is_file() else None


def _stem(file: pathlib.Path) -> str:
    return file.name.removesuffix(".nii.gz")
