"""The learned descriptor: the DSIR of a MASR-Net."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pymasr.models import inference, packaged


@dataclass(frozen=True)
class Masr:
    """DSIR of an image (arXiv 2402.18933): learned, the same for the same anatomy whatever the modality.

    Attributes:
        weights: name of packaged weights ("masr" settles on the place, "masr-find" finds it), or a .safetensors file of
            one's own training.
        precision: of the convolutions: "auto" (bfloat16 where the processor multiplies in it, else float32),
            "float32", "bfloat16" or "float16".
    """

    weights: str = "masr"
    precision: str = "auto"

    def __post_init__(self):
        packaged.load(self.weights)  # a wrong name or a damaged file is told at once
        inference.chosen_precision(self.precision, torch.device("cpu"))

    @property
    def channels(self) -> int:
        return packaged.load(self.weights).config.channels

    @property
    def reach(self) -> int:
        return packaged.load(self.weights).config.reach

    @property
    def smoothed(self) -> bool:
        return False

    def __call__(self, image: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        model = packaged.load(self.weights, image.device)
        return inference.describe(model, image, out, precision=self.precision)
