"""From a result to the page."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pymasr.features import NMI
from pymasr.page.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, curves
from pymasr.page.volumes import MIDDLE, REACH, volumes
from pymasr.report import PLANES

if TYPE_CHECKING:
    from pymasr.registration.result import Registration

#: Colour maps of matplotlib: of the displacement, and of the Jacobian, whose middle is left transparent.
COLOURS = {"displacement": "viridis", "jacobian": "RdBu_r"}


def build(result: Registration, report: dict[str, Any]) -> str:
    """The page as text.

    Args:
        result: a registration.
        report: its report, as in report.json.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("pymasr.page", "template"), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("page.html")
    settings = report.get("settings", {})
    return page.render(
        report=report, title=f"{_name(report['moving']['path'])} onto {_name(report['fixed']['path'])}",
        figures=_figures(report), curves=curves(result.solution.history), chart={
            "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP},
        settings=_settings(settings), colours=_gradients(), planes=PLANES,
        viewer=_json({**volumes(result), "planes": [vars(plane) for plane in PLANES], "middle": MIDDLE,
                      "reach": REACH, "colours": _tables()}),
        numbers=_json(report))


def _json(value: Any) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _name(path: str | None) -> str:
    return os.path.basename(os.path.normpath(path)) if path else "an image from memory"


def _figures(report: dict[str, Any]) -> list[dict[str, str]]:
    """The numbers that are looked at first: name, value, unit, and a note that says what they are."""
    def number(value: float | None, digits: int) -> str:
        return "undefined" if value is None else f"{value:.{digits}f}"

    error = report["inverse_error_mm"]
    settings = report.get("settings", {})
    # one descriptor decides where nothing is optimised after the affine transform
    globally = settings.get("transform") != "deformable" or settings.get("method") == "network"
    statistical = settings.get("global_features" if globally else "features") == NMI
    compared = "2 - NMI of the intensities" if statistical else "difference of the descriptors"
    return [
        {"name": "Similarity", "value": number(report["similarity_after"], 3), "unit": "",
         "note": f"{compared}; {number(report['similarity_before'], 3)} before, 0 is a perfect "
                 "match, 1 none"},
        {"name": "Folded", "value": f"{report['folded_voxels']}", "unit": "voxels",
         "note": f"{100 * report['folded']:.2g} % of the {report['jacobian_region'].split(',')[0]}"},
        {"name": "Volume change", "value": number(report["std_log_jacobian"], 3), "unit": "",
         "note": f"standard deviation of log det J; least det J {number(report['min_jacobian'], 2)}"},
        {"name": "Largest displacement", "value": number(report["largest_displacement_mm"], 1), "unit": "mm",
         "note": "beyond the affine transform"},
        {"name": "Inverse", "value": number(error["mean"], 3), "unit": "mm",
         "note": f"mean distance of T⁻¹(T(x)) from x; {number(error['max'], 2)} mm at most"},
        {"name": "Overlap", "value": f"{100 * report['overlap']:.0f}", "unit": "%",
         "note": "of the fixed image's contents lies inside the moving image"},
        {"name": "Time", "value": number(report["seconds"], 1), "unit": "s",
         "note": "" if report["peak_memory_mib"] is None else f"at most {report['peak_memory_mib']:.0f} MiB of memory"},
    ]


def _settings(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, value, whether it is not the preset's, and that of the preset."""
    if not settings:
        return []
    from pymasr.registration import Settings

    usual = Settings.from_preset(settings["preset"]).plain()
    rows = [{"name": name, "value": _words(value), "usual": _words(usual[name]), "changed": value != usual[name]}
            for name, value in Settings(**settings).plain().items() if name not in ("preset", "device")]
    return sorted(rows, key=lambda row: not row["changed"])


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(" / ".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)
    return "not given" if value is None else str(value)


def _tables() -> dict[str, str]:
    """256 colours of each map, red, green, blue, base64."""
    return {name: base64.b64encode(np.ascontiguousarray(_colours(name, 256))).decode() for name in COLOURS}


def _gradients() -> dict[str, str]:
    """The maps as CSS."""
    return {name: ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in _colours(name, 9).tolist()) for name in COLOURS}


def _colours(name: str, count: int) -> np.ndarray:
    import matplotlib

    return np.rint(255 * matplotlib.colormaps[COLOURS[name]](np.linspace(0, 1, count))[:, :3]).astype(np.uint8)
