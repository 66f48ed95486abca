"""What the commands on transforms share: how transforms are given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

#: For --help.
TRANSFORM_HELP = ("ITK or ANTs transform (.h5, .tfm, .txt, .mat), displacement image, or elastix's parameters (.txt, "
                  ".toml); several in the order of antsApplyTransforms -t; '[FILE,1]' is the inverse of FILE")
REFERENCE_HELP = "image whose grid counts: the fixed image, as a rule"


def files_of(transforms: Sequence[str]) -> list[str]:
    """The files among arguments, out of ANTs' brackets."""
    return [text if os.path.exists(text) else text.strip("[]").rpartition(",")[0] or text for text in transforms]


def error_text(error: dict[str, float]) -> str:
    """How far an inverse misses, in words."""
    return (f"off by {error['mean']:.4f} mm in the mean, {error['p95']:.4f} mm at the 95th percentile, "
            f"{error['max']:.4f} mm at most")


def inverse_lines(inversion: Any) -> list[str]:
    """What is to be said of an inverse."""
    lines = [f"inverse  {error_text(inversion.error)}"]
    if inversion.unconverged:
        lines.append(f"warning  no inverse at {inversion.unconverged} voxels of the deformation's grid, where it folds "
                     "or nearly so")
    return lines
