"""Small scans for batches and templates, and a registration that can be told to die."""

import os
import signal

import numpy as np
import SimpleITK as sitk
import torch

from pymasr.batch.store import Store
from pymasr.batch.work import register_pair
from pymasr.geometry import Geometry
from pymasr.registration.inversion import invert
from pymasr.sitk import to_sitk
from pymasr.training.synthetic import anatomy, random_deformation, render

SPACING = 4.0
#: Settings that register such scans in a tenth of a second.
QUICK = {"features": "dns", "preset": "fast", "initial": "headers", "device": "cpu"}


def write(array, path, spacing=SPACING):
    sitk.WriteImage(to_sitk(array, Geometry(array.shape, (spacing,) * 3)), str(path))
    return str(path)


def scans(folder, fixed=2, moving=1, size=24):
    """Files of one anatomy: `fixed` deformed ones and `moving` ones of other contrasts, as two lists."""
    folder.mkdir(exist_ok=True)
    shape, spacings = (size, size - 2, size + 2), (SPACING,) * 3
    labels = anatomy(shape, spacings, 5)
    write(labels, folder / "labels.nii.gz")
    return ([write(render(labels, 100, spacings, displacement=random_deformation(shape, SPACING, seed, spacings)),
                   folder / f"fixed{seed}.nii.gz") for seed in range(fixed)],
            [write(render(labels, seed, spacings), folder / f"moving{seed}.nii.gz") for seed in range(moving)])


def group(folder, subjects=4, size=26, contrasts=(1,)):
    """Subjects whose mean shape is that of one anatomy, and the truth.

    The maps x + w(x) from the anatomy to the subjects add up to `subjects` times the identity.

    Returns:
        Files; the inverses of the maps, (3, D, H, W) voxels each; the anatomy's image in the first contrast.
    """
    folder.mkdir()
    shape, spacings = (size, size - 2, size + 2), (SPACING,) * 3
    labels = anatomy(shape, spacings, 3)
    maps = np.stack([random_deformation(shape, 2 * SPACING, seed, spacings) for seed in range(10, 10 + subjects)])
    inverses, files = [], []
    for number, displacement in enumerate(maps - maps.mean(0)):
        inverse = invert(torch.from_numpy(displacement))
        inside = tuple(slice(before, before + n) for (before, _), n in zip(inverse.padding, shape, strict=True))
        inverses.append(inverse.displacement[(slice(None), *inside)].contiguous().numpy())
        image = render(labels, contrasts[number % len(contrasts)], spacings, displacement=inverses[-1], bias=0.05)
        files.append(write(image, folder / f"s{number}.nii.gz"))
    return files, inverses, render(labels, contrasts[0], spacings, bias=0.0, noise=0.0)


def register_or_die(task):
    """In place of register_pair: kills its process where the pair's id says so."""
    if "deadly" in task["pair"].id:
        Store(task["store"]).attempt(task["pair"].id)
        os.kill(os.getpid(), signal.SIGKILL)
    return register_pair(task)
