"""MASR-Net for programs without pymasr: TorchScript, torch.export and ONNX, of standard operators alone."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from pymasr._output import whole_directory
from pymasr.errors import InputError
from pymasr.models import packaged
from pymasr.models.masrnet import MULTIPLE, MASRNet
from pymasr.ops import reference

#: Voxels a side of the volume that the network is traced with: its size is not kept.
EXAMPLE = 2 * MULTIPLE
#: Version of the ONNX operators.
OPSET = 17


class Portable(nn.Module):
    """A MASR-Net with the operators that PyTorch has, the same numbers but for rounding: float32 in and out.

    Image (N, 1, D, H, W), intensities in [0, 1], isotropic voxels -> DSIR (N, channels, D, H, W). The
    relations are those of :mod:`pymasr.ops.reference`, of the whole volume at once: that takes far more memory than
    :func:`pymasr.models.describe` does.

    Args:
        model: the network; its weights are shared.
        whole: the image is padded by repeating its border, as MASRNet does it; False: D, H and W must be multiples of
            8 (which the border is to be repeated to), and the result is of the padded image.
    """

    def __init__(self, model: MASRNet, *, whole: bool = True):
        super().__init__()
        self.config, self.unet, self.head, self.whole = model.config, model.unet, model.head, whole

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        depth, height, width = image.shape[2:]
        padded = image
        if self.whole:
            padding = (0, -width % MULTIPLE, 0, -height % MULTIPLE, 0, -depth % MULTIPLE)
            padded = F.pad(image, padding, mode="replicate")
        features = self.unet(padded)
        if self.whole:
            features = features[:, :, :depth, :height, :width]
        return self.head(torch.cat(self._relations(image, features), 1))

    def _relations(self, image: torch.Tensor, features: torch.Tensor) -> list[torch.Tensor]:
        c = self.config
        parts = [reference.dns(features, c.dilations, c.reduction, c.eps) if c.dns else features]
        parts += [reference.dns(image, c.image_dns, eps=c.noise)] if c.image_dns else []
        return parts + [reference.mind_ssc(image, radius, dilation) for radius, dilation in c.image_mind]


def export(weights: str, file: str | os.PathLike) -> pathlib.Path:
    """Write a network for other programs, in the format that the name of the file says.

    ====== ============ ============================================== ==============================================
    suffix format       read by                                        sizes
    ====== ============ ============================================== ==============================================
    .pt    TorchScript  torch.jit.load, libtorch (C++)                 any
    .pt2   torch.export torch.export.load                              multiples of 8, at least 16
    .onnx  ONNX         ONNX Runtime and others; needs `pymasr[export]` any
    ====== ============ ============================================== ==============================================

    What goes in: "image", float32 (N, 1, D, H, W) with voxels as long as wide as high, intensities mapped to [0, 1] and
    clipped (percentiles 1 and 99 of what is brighter than the background, as :func:`pymasr.features.normalise` does it:
    no part of the graph). What comes out: "dsir", float32 (N, channels, D, H, W). The header of the weights goes along
    as JSON: extra file "pymasr.json" of TorchScript and torch.export, metadata "pymasr" of ONNX.

    Args:
        weights: name of packaged weights, or a .safetensors file.
        file: where to write; replaced whole or not at all.

    Raises:
        InputError: no such weights, another suffix, a place that cannot be written to, or ONNX without its packages.
    """
    file = pathlib.Path(file)
    if file.suffix not in WRITERS:
        raise InputError(f"output {file}: must end with {', '.join(list(WRITERS)[:-1])} or {list(WRITERS)[-1]}")
    model, facts = packaged.load(weights), json.dumps(packaged.details(weights))
    with whole_directory(file.parent, [file.name]) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tracing is deprecated, and takes sizes for constants (it does not)
        WRITERS[file.suffix](model, folder / file.name, facts)
    return file


def _example() -> torch.Tensor:
    """Not constant, and of a size that is no multiple of 8 along any axis: padding must not look superfluous."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand((1, 1, EXAMPLE - 1, EXAMPLE - 2, EXAMPLE - 3), generator=generator)


def _traced(model: MASRNet) -> torch.jit.ScriptModule:
    with torch.no_grad():
        return torch.jit.trace(Portable(model).eval(), _example(), check_trace=False)


def _torchscript(model: MASRNet, file: pathlib.Path, facts: str) -> None:
    torch.jit.save(_traced(model), file, _extra_files={"pymasr.json": facts})


def _exported(model: MASRNet, file: pathlib.Path, facts: str) -> None:
    # sizes that are multiples of 8, so that torch can prove that what is halved and doubled fits together again
    sizes = {0: torch.export.Dim("batch")}
    sizes |= {2 + axis: MULTIPLE * torch.export.Dim(name, min=2) for axis, name in enumerate(("z", "y", "x"))}
    example = torch.rand((2, 1, 2 * MULTIPLE, 3 * MULTIPLE, 4 * MULTIPLE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        program = torch.export.export(Portable(model, whole=False).eval(), (example,), dynamic_shapes=(sizes,))
    torch.export.save(program, file, extra_files={"pymasr.json": facts})


def _onnx(model: MASRNet, file: pathlib.Path, facts: str) -> None:
    try:
        import onnx
    except ImportError as error:
        raise InputError("export to ONNX needs the package onnx: pip install 'pymasr[export]'") from error
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".onnx") as partial:
        axes = {0: "batch", 2: "z", 3: "y", 4: "x"}
        # the exporter over TorchScript: it keeps padding and resampling as one operator each, at any size
        torch.onnx.export(_traced(model), (_example(),), partial.name, input_names=["image"], output_names=["dsir"],
                          dynamic_axes={"image": axes, "dsir": axes}, opset_version=OPSET, dynamo=False)
        program = onnx.load(partial.name)
    onnx.helper.set_model_props(program, {"pymasr": facts})
    onnx.checker.check_model(program)
    onnx.save(program, file)


WRITERS: dict[str, Callable[[MASRNet, pathlib.Path, str], None]] = {
    ".pt": _torchscript, ".pt2": _exported, ".onnx": _onnx}
