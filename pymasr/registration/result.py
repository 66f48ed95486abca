"""What a registration gives back: the transform, the warped image, the total displacement and the report."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pymasr import kinds
from pymasr._output import whole_directory
from pymasr._stages import stage
from pymasr.evaluation import foreground, jacobian_statistics
from pymasr.io import Image
from pymasr.registration.doubts import Findings, cut, doubts, overlap
from pymasr.registration.inversion import Inverse, invert, residual
from pymasr.resampling import resample

if TYPE_CHECKING:
    import SimpleITK as sitk

FILES = ("transform.h5", "inverse.h5", "displacement.nii.gz", "warped.nii.gz", "overview.png", "report.json")
#: What `save` writes on request.
PAGE = "report.html"


class Registration:
    """The result of :func:`pymasr.register`. Everything is computed when it is first asked for, then kept.

    Attributes:
        fixed, moving: the images, :class:`pymasr.io.Image`.
        fixed_mask: on the grid of the fixed image, not 0 where images were compared; or None.
        solution: what the engine found: affine, displacement in voxels, similarity, history.
        outside: value of ``warped`` where the moving image has none: its minimum.
        context: what the report holds besides the result, plain JSON values: versions, settings, paths.
    """

    def __init__(self, fixed: Image, moving: Image, solution: Any, *, fixed_mask: Image | None = None,
                 context: dict | None = None, stages: list[dict] | None = None, source: Any = ""):
        """`stages` are those before the engine's, `source` what the moving image came from (a path by default)."""
        self.fixed, self.moving, self.solution, self.fixed_mask = fixed, moving, solution, fixed_mask
        self._field = solution.displacement.detach()  # everything is computed where it is, and then brought to the CPU
        self.outside = float(moving.array.min())
        self.context = context or {}
        self._source = source
        self._stages = [*(stages or []), *solution.stages]
        self._saving: list[dict] = []

    @functools.cached_property
    def transform(self) -> sitk.CompositeTransform:
        """T(x) = A(x + d(x)) from points of the fixed image to points of the moving image, LPS mm.

        A SimpleITK CompositeTransform of the affine A and a displacement field d on the fixed grid; as ITK does, a
        point outside the fixed grid is moved by A alone.
        """
        import SimpleITK as sitk

        from pymasr.sitk import affine_transform, vectors_to_sitk

        composite = sitk.CompositeTransform(3)
        composite.AddTransform(affine_transform(self.solution.affine))
        # the transform added last is the first to be applied; it takes the image over, so it gets one of its own
        composite.AddTransform(sitk.DisplacementFieldTransform(
            vectors_to_sitk(self.deformation.numpy(), self.fixed.geometry)))
        return composite

    @functools.cached_property
    def inverse_transform(self) -> sitk.CompositeTransform:
        """T^-1(y), from points of the moving image to points of the fixed image, LPS mm.

        A SimpleITK CompositeTransform: the inverse of the affine first, then a displacement field on the fixed grid
        made larger, so that it holds x + d(x) of every fixed voxel x. As T does with points outside the fixed grid, it
        moves what lies outside of its own by the inverse of the affine alone. Where T folds there is no inverse;
        ``report["inverse_error_mm"]`` says how well the two fit together.
        """
        import SimpleITK as sitk

        from pymasr.sitk import affine_transform
        from pymasr.transforms.inverse import inverse_field

        inverse = self._inversion[0]
        composite = sitk.CompositeTransform(3)
        composite.AddTransform(inverse_field(inverse.displacement, inverse.padding, self.fixed.geometry))
        composite.AddTransform(affine_transform(np.linalg.inv(np.asarray(self.solution.affine, float))))
        return composite

    @functools.cached_property
    def warped(self) -> Any:
        """The moving image on the fixed grid, float32, sampled once; its minimum where it has no value.

        Of the kind that the moving image was given as (:func:`pymasr.kinds.like`); a SimpleITK image where that was a
        path.
        """
        return kinds.like(Image(self.warped_array, self.fixed.geometry), self._source)

    @functools.cached_property
    def warped_array(self) -> torch.Tensor:
        """``warped`` as a tensor (D, H, W), on the CPU."""
        moving = dataclasses.replace(self.moving, array=self.moving.array.to(self._field.device))
        return resample(moving, self.fixed.geometry, self.solution.affine, self._field, outside=self.outside).cpu()

    @functools.cached_property
    def displacement(self) -> sitk.Image:
        """The total map T(x) - x in LPS mm, affine included: a float32 vector image on the fixed grid."""
        from pymasr.sitk import vectors_to_sitk

        return vectors_to_sitk(self.total_displacement.cpu(), self.fixed.geometry)

    def html(self) -> str:
        """The report for people, one HTML page that needs nothing else: see docs/report.md."""
        from pymasr.page import build

        return build(self, self.report)

    def warp(self, image: Any, *, inverse: bool = False, **options: Any) -> Any:
        """Another image of the moving space on the fixed grid; or with `inverse` one of the fixed space on the moving
        grid. A path or an image of any kind and pixel type; the result is of its kind, for a path a SimpleITK image. An
        array is taken to lie on the grid of the moving (fixed) image. `options` are those of
        :func:`pymasr.transforms.apply`: interpolation, labels, components, outside."""
        from pymasr.kinds.warping import apply_like

        source, target = (self.fixed, self.moving) if inverse else (self.moving, self.fixed)
        return apply_like(image, target.geometry, self.inverse_transform if inverse else self.transform,
                          array_grid=source.geometry, **options)

    def map_points(self, points: Any, *, inverse: bool = False, allow_outside: bool = False) -> np.ndarray:
        """Where points (N, 3) of the fixed image, LPS mm, lie in the moving one; with `inverse` the other way. As
        :func:`pymasr.transforms.apply_to_points`, which refuses points outside the grid unless `allow_outside`."""
        from pymasr.transforms import apply_to_points

        return apply_to_points(points, self.inverse_transform if inverse else self.transform,
                               allow_outside=allow_outside)

    def jacobian(self, mask: Any = None) -> tuple[sitk.Image, dict[str, float]]:
        """The determinant of the Jacobian of T on the fixed grid, float32, and its statistics where `mask` is not 0
        (everywhere by default): :func:`pymasr.transforms.jacobian`."""
        from pymasr.transforms import jacobian, mask_on

        grid = self.fixed.geometry
        return jacobian(self.transform, grid, None if mask is None else mask_on(mask, grid))

    @property
    def report(self) -> dict:
        """Versions, settings, grids, similarity, folding, inverse, warnings, seconds, memory: plain JSON values."""
        return self._report([*self._stages, *self._saving])

    def _report(self, stages: list[dict]) -> dict:
        inverse, error, length = self._inversion
        return {
            **self.context,
            "fixed": _describe(self.fixed),
            "moving": _describe(self.moving),
            "affine": np.asarray(self.solution.affine, float).tolist(),
            "working": dict(self.solution.working),
            "similarity_before": _number(self.solution.similarity_before),
            "similarity_after": _number(self.solution.similarity_after),
            **{name: _number(value) for name, value in self._folding.items()},
            "folded_voxels": self._folded_voxels,
            "largest_displacement_mm": float(length.max()),
            "inverse_error_mm": {"mean": float(np.mean(error.double().numpy())),
                                 "p95": float(np.percentile(error.numpy(), 95)), "max": float(error.max())},
            "inverse_unconverged": int(inverse.unconverged.sum()),
            "jacobian_region": "fixed mask" if self.fixed_mask is not None else
                               "foreground of the fixed image, voxels above Otsu's threshold",
            "outside_value": self.outside,
            "overlap": self._findings.overlap,
            "moving_contents_cut": self._findings.cut,
            "warnings": [*self.solution.warnings, *doubts(self._findings)],
            "seconds": round(sum(s["seconds"] for s in stages), 3),
            "peak_memory_mib": max((s["peak_memory_mib"] for s in stages), default=None),
            "stages": [dict(s) for s in stages],
            "history": summarise(self.solution.history),
        }

    def save(self, directory: str | os.PathLike, also: dict[str, sitk.Image] | None = None, *,
             report: bool = False) -> list[pathlib.Path]:
        """Write transform.h5, inverse.h5, displacement.nii.gz, warped.nii.gz, overview.png and report.json.

        `directory` is made when it does not exist. Files of these names in it are replaced, but only once all
        are written: after an error or an interruption it is as it was before.

        Args:
            also: further images to write, by their file names: see :class:`pymasr.registration.companions.Companions`.
            report: whether to write report.html, too: see :meth:`html`.

        Returns:
            The files' paths. Raises :class:`pymasr.errors.InputError` where the directory cannot be written.
        """
        import SimpleITK as sitk

        from pymasr.page import build
        from pymasr.report import draw_overview
        from pymasr.sitk import to_sitk

        saving: list[dict] = []
        names = (*FILES, *([PAGE] if report else []), *(also or {}))
        with whole_directory(directory, names) as temporary:
            with stage("inversion", saving):
                _ = self._inversion
            with stage("evaluation", saving):
                _ = self._folding, self._findings, self.warped_array, self.displacement
                _ = self.transform, self.inverse_transform
            with stage("writing", saving):
                sitk.WriteTransform(self.transform, str(temporary / "transform.h5"))
                sitk.WriteTransform(self.inverse_transform, str(temporary / "inverse.h5"))
                for name, image in (("displacement", self.displacement),
                                    ("warped", to_sitk(self.warped_array, self.fixed.geometry))):
                    sitk.WriteImage(image, str(temporary / f"{name}.nii.gz"), useCompression=True)
                for name, image in (also or {}).items():
                    sitk.WriteImage(image, str(temporary / name), useCompression=True)
            with stage("overview", saving):
                draw_overview(self, temporary / "overview.png")
            if report:
                with stage("page", saving):
                    page = build(self, self._report([*self._stages, *saving]))
                    (temporary / PAGE).write_text(page, encoding="utf-8")
            text = json.dumps(self._report([*self._stages, *saving]), indent=2, allow_nan=False)
            (temporary / "report.json").write_text(text + "\n", encoding="utf-8")
        self._saving = saving
        return [pathlib.Path(directory) / name for name in names]

    @functools.cached_property
    def deformation(self) -> torch.Tensor:
        """d of T(x) = A(x + d(x)): float64 (D, H, W, 3), vectors (X, Y, Z) in LPS mm, on the CPU."""
        linear = np.asarray(self.solution.affine, float)[:3, :3]
        to_mm = np.linalg.solve(linear, self.moving.geometry.voxel_to_physical[:3, :3])
        return _apply(to_mm, self._field).cpu()

    @functools.cached_property
    def _region(self) -> torch.Tensor:
        """bool (D, H, W): the voxels that the report's statistics are over."""
        region = foreground(self.fixed.array) if self.fixed_mask is None else self.fixed_mask.array != 0
        return region.to(self._field.device)

    @functools.cached_property
    def _folding(self) -> dict[str, float]:
        return jacobian_statistics(self.total_displacement, self.fixed.geometry, self._region)

    @property
    def _folded_voxels(self) -> int:
        return round(self._folding["folded"] * int(self._region.sum()))

    @functools.cached_property
    def _inversion(self) -> tuple[Inverse, torch.Tensor, torch.Tensor]:
        """The inverse of x + d(x), and at the voxels of the region |T^-1(T(x)) - x| and |d(x)|, mm: (N,), on the
        CPU."""
        to_mm = np.linalg.solve(np.asarray(self.solution.affine, float)[:3, :3],
                                self.moving.geometry.voxel_to_physical[:3, :3])
        matrix = np.linalg.solve(self.fixed.geometry.voxel_to_physical[:3, :3], to_mm)
        voxels = torch.stack([sum(float(matrix[i, k]) * self._field[k] for k in range(3)) for i in range(3)])
        inverse = invert(voxels)
        return inverse, self._mm(residual(voxels, inverse)).cpu(), self._mm(voxels).cpu()

    def _mm(self, vectors: torch.Tensor) -> torch.Tensor:
        """Lengths in mm (N,) of vectors (3, D, H, W) in voxels of the fixed image, at the voxels of the region."""
        spacing = self.fixed.geometry.spacing[::-1]
        return sum((s * v[self._region]).square() for s, v in zip(spacing, vectors, strict=True)).sqrt()

    @functools.cached_property
    def _findings(self) -> Findings:
        """What the deformation itself may give reason to warn of."""
        inverse, error, length = self._inversion
        fixed, affine = self.fixed.geometry, self.solution.affine
        return Findings(fixed, self._region.cpu(), self._folded_voxels, error, length,
                        overlap(fixed, self.moving.geometry, affine, self._field, self._region),
                        cut(fixed, self.moving, affine, inverse),
                        self.context.get("settings", {}).get("diffeomorphic", False))

    @functools.cached_property
    def total_displacement(self) -> torch.Tensor:
        """T(x) - x: float32 (D, H, W, 3), LPS mm."""
        to_point = self.fixed.geometry.voxel_to_physical
        affine = (np.asarray(self.solution.affine, float) - np.eye(4)) @ to_point
        total = _apply(self.moving.geometry.voxel_to_physical[:3, :3], self._field)
        for axis, length in enumerate(self.fixed.geometry.shape):
            index = torch.arange(length, dtype=torch.float64)[:, None] * torch.from_numpy(affine[:3, axis])
            total += index.reshape([length if k == axis else 1 for k in range(3)] + [3]).to(total.device)
        total += torch.from_numpy(affine[:3, 3]).to(total.device)
        return total.float()


def summarise(history: list[dict]) -> list[dict]:
    """First and last loss of every level of a history of iterations."""
    levels: dict[tuple, dict] = {}
    for entry in history:
        key = (entry.get("stage"), entry.get("level"))
        level = levels.setdefault(key, {"stage": key[0], "level": key[1], "iterations": 0, "first": entry})
        level["iterations"] += 1
        level["last"] = entry
    return [{"stage": level["stage"], "level": level["level"], "iterations": level["iterations"],
             "loss_first": _number(level["first"].get("loss")), "loss_last": _number(level["last"].get("loss"))}
            for level in levels.values()]


def _apply(matrix: np.ndarray, field: torch.Tensor) -> torch.Tensor:
    """`matrix` (3 x 3) on the components of `field` (3, D, H, W): float64 (D, H, W, 3), contiguous."""
    return torch.einsum("ij,jdhw->dhwi", torch.from_numpy(matrix).to(field.device), field.double()).contiguous()


def _number(value: Any) -> float | None:
    """JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def _describe(image: Image) -> dict:
    return {"path": image.path, **{key: list(value) for key, value in dataclasses.asdict(image.geometry).items()}}
