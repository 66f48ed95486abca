"""Promise: the page holds what the files of results hold, failures too, and is the same each time; the committed page
and README are those of the committed results."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import accuracy as accuracy_benchmark
from benchmarks import curves
from benchmarks.report import __main__ as report
from benchmarks.report import accuracy, collect, markdown, page

HEAD = {"commit": "0123456789ab", "machine": {"cpu": "A processor", "cores": 2, "memory_gib": 8.0, "system": "Linux-1"}}
METHODS = {"pymasr": 1.0, "pymasr-fast": 1.2, "pymasr-nmi": 2.0, "ants": 1.5, "elastix": 3.0}


def row(method, level, number, **more):
    """A registration of a case, better or worse as the method is, and worse for higher numbers."""
    tre = METHODS[method] * (1 + 0.1 * number)
    return {"method": method, "name": f"procedural ct-mr {level} {number}", "group": f"procedural ct-mr {level}",
            "level": level, "versions": {"itk": "5.4"}, "seconds": 2.0, "cpu_seconds": 3.0, "peak_memory_mib": 300.0,
            "tre": tre, "tre_start": 4.0, "dice": {"mean": 0.7 - 0.1 * tre}, "dice_start": 0.2, "folded": 0.001,
            "std_log_jacobian": 0.2, "commit": "fedcba987654", **more}


def comparison(date="2026-01-02T00:00:00+00:00", **changes):
    rows = [row(method, level, number) for method in METHODS for level in ("small", "large") for number in range(4)]
    crashed = rows.pop()
    rows.append({k: crashed[k] for k in ("method", "name", "group", "level", "versions")}
                | {"failure": "the process | ended with status -9"})
    rows.append({"method": "convexadam", "name": rows[0]["name"], "group": rows[0]["group"], "level": "small",
                 "versions": {"convexAdam": None}, "failure": f"{accuracy_benchmark.NOT_INSTALLED}: convexAdam"})
    return {"date": date, **HEAD, "benchmark": "accuracy", "rows": rows, "interleaved": [],
            "settings": {method: {"preset": "default"} for method in METHODS}, **changes}


def others():
    """A file of each other benchmark that has a form of its own, by name."""
    kinds = {kind: {"curves": [[1.0] * len(positions)] * 3, "minimum": 1.0, "capture": 7.0, "false_minima": 0.5,
                    "width": 3.0, "curvature": 0.1} for kind, (positions, _) in curves.KINDS.items()}
    views = [{"pair": "a pair", "loss": loss, **kinds, "plane": [[0.0, 1.0], [1.0, 2.0]],
              "rays": {"capture": capture, "from": {"8": 75.0, "16": 25.0}, "curve": [0.0, 1.0, 1.5]},
              "agreement": {"1": 0.9, "2": 0.8}} for loss, capture in (("nmi", 10.5), ("dsir", 9.5))]
    kernel = {"op": "dns", "variant": "planar", "shape": [8, 8, 8], "threads": 1, "speedup": 20.0,
              "speedup_fresh": 10.0,
              "seconds": {"preallocated": 0.001, "fresh": 0.002, "plain": 0.02}, "copy_share": 0.5}
    return {
        "landscapes": {"rows": views},
        "discriminability": {"rows": [{"pair": "a pair", "descriptor": "dsir", "queries": 9, "rank_median": 1.0,
                                       "within_1": 81.0, "within_2": 92.0, "contrast": 3.5}]},
        "scaling": {"rows": [{"what": "dns", "size": n, "voxels": n**3, "threads": 1, "seconds": 1e-9 * n**3,
                              "extra_mib": 1.0} for n in (8, 16)]
                    + [{"what": "warp", "size": 16, "voxels": 16**3, "threads": 1, "failure": "killed"}],
                    "fits": [{"what": "dns", "threads": 1, "quantity": "seconds", "exponent": 1.02}]},
        "kernels": {"rows": [kernel, {**kernel, "op": "warp", "threads": None, "error": "AssertionError: differs"}],
                    "versions": {"torch": "2.9"}, "instruction_set": "avx2"},
        "voxelmorph": {"rows": [{"loss": "dsir", "steps": 9, "seconds": 70.0, "start": 2.0, "error": 1.5, "left": 0.75,
                                 "folded": 0.0}]},
        "batch": {"pairs": 6, "size": 80, "features": "dns", "preset": "default", "load_before": [0.1, 0.2],
                  "pairs_per_minute": {"1": [10.0], "2": [19.0]}, "ratio": 1.9},
    }


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    (folder / "figures").mkdir(parents=True)
    for name, content in {"comparison": comparison(), **others()}.items():
        told = content if name == "comparison" else {"date": "2026-01-03T00:00:00+00:00", **HEAD, "benchmark": name,
                                                     **content}
        (folder / f"{name}.json").write_text(json.dumps(told))
    colours = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(colours).save(folder / "figures" / "discriminability-ct-mr.png")
    (folder / "figures" / "unknown.png").write_bytes(b"of no benchmark")
    (folder / "broken.json").write_text("{")
    (folder / "old.json").write_text(json.dumps({"date": "2025", "rows": []}))
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "kernels.json").write_text("{")
    (tmp_path / "README.md").write_text(f"# Name\n\nBefore.\n\n{page.START}\nold\n{page.END}\n\nAfter.\n")
    return folder


def make(results, *options):
    return report.main([str(results), "-o", str(results.parent / "docs" / "page.md"), "--readme",
                        str(results.parent / "README.md"), *options])


def test_a_page_of_all_that_was_measured(results, capsys):
    (results.parent / "docs").mkdir()
    assert make(results, "--check") == 1
    assert make(results) == 0 and make(results, "--check") == 0
    text = (results.parent / "docs" / "page.md").read_text()
    sections = [line[3:] for line in text.split("\n") if line.startswith("## ")]
    assert sections == ["Accuracy", "Landscapes", "Discriminability", "Networks of MONAI", "Kernels", "Scaling",
                        "Many pairs", "Not on this page"]
    assert text.startswith(page.NOTICE)
    head = text[:text.index("![")]
    assert "`pymasr` ends 1.150 [1.075, 1.225] mm from the truth, mean of 8 cases that start 4.00 mm off" in head
    assert "of 2 methods of other tools `ants` comes nearest, 0.575 [" in head and "farther off on the 8 cases" in head
    assert "its mean TRE is 0.500 [0.500, 0.500] times that of NMI (`pymasr-nmi`)" in head
    assert ": 9.5 with the learned descriptor alone (`dsir`), 10.5 with `nmi`; means over 1 pairs" in head
    assert "| 10.5 (75 25) | 0.90 0.80 |" in text and "| a pair | `nmi` | 0.1 | 0.1 | 0.1 | 0.1 |" in text
    assert head.count("\n- ") == page.HEADLINES
    assert text.count("python -m benchmarks.kernels -o FILE` on A processor, 2 cores") == 1
    assert "2026-01-02, commit `0123456789ab` (`comparison.json`)" in text
    assert "1 of 40 registrations failed, 0 of them by `pymasr`" in head
    # failures of every benchmark, what was not installed, and what was not read
    assert "- `elastix`, procedural ct-mr large 3: the process | ended with status -9" in text
    assert "1 of 40 registrations failed" in text and "in the tables: `convexadam`" in text
    assert "Not measured: warp planar, 8x8x8: AssertionError: differs" in text
    assert "| `voxelmorph-dsir` | 9 | 2.000 | 1.500 | 0.750 |" in text
    assert "in percent of the points: 81 by `dsir`" not in head
    assert "| dns | 1 | 5.12e-07 | 4.1e-06 | 1 | 1.02 | - |" in text
    assert "1 of 3 not measured" in text and "- warp, 4096 voxels, threads 1: killed" in text
    assert "- `broken.json`: cannot be read" in text and "`old.json`: of an earlier form" in text
    assert "report: broken.json is left out: cannot be read" in capsys.readouterr().err
    # figures are there, and the page links no other
    figures = {file.name for file in (results.parent / "docs" / "figures").iterdir()}
    assert figures == {"accuracy.png", "landscapes-a-pair.png", "discriminability-ct-mr.png"}
    assert all(text.count(f"](figures/{name})") == 1 for name in figures) and text.count("](figures/") == len(figures)
    readme = (results.parent / "README.md").read_text()
    assert readme.startswith("# Name\n\nBefore.\n") and readme.endswith("\nAfter.\n") and "old" not in readme
    assert "](docs/figures/accuracy.png)" in readme and readme.count("\n- ") == page.HEADLINES


def test_the_same_results_make_the_same_bytes(results):
    (results.parent / "docs").mkdir()
    found = []
    for _ in range(2):
        assert make(results) == 0
        found.append({file.name: file.read_bytes() for file in results.parent.rglob("docs/**/*.*") if file.is_file()})
    assert found[0] == found[1] and len(found[0]) == 4


def test_every_method_has_a_line_in_each_table_of_its_group(results):
    result, = (r for r in collect.collect([results], page.FORMS)[0] if r.benchmark == "accuracy")
    text = "\n\n".join(accuracy.section(result, "").blocks)
    rows = [line for line in text.split("\n") if line.startswith("| `elastix`")]
    # overview, two groups, settings
    assert len(rows) == 4 and rows[0].endswith("(7 of 8) | 1 |") and "| 3 |" not in rows[1]
    assert rows[2].startswith("| `elastix` | 4 | 1 |") and "2.200 [" in rows[2]  # less pymasr's, over three cases
    assert [m for m in accuracy.ordered(result.rows) if m in METHODS] == ["pymasr", "pymasr-fast", "ants",
                                                                          "pymasr-nmi", "elastix"]
    assert rows[3].startswith("| `elastix` | fedcba987654 (7), unknown (1) | itk 5.4 |")
    assert "| procedural ct-mr | 8 | 0.500" in text


def test_later_rows_take_the_place_of_earlier_ones_and_machines_stay_apart(results):
    better = row("ants", "small", 0, tre=0.25)
    (results / "later.json").write_text(json.dumps(comparison("2026-02-01T00:00:00+00:00", rows=[better])))
    elsewhere = {**HEAD["machine"], "cpu": "Another"}
    (results / "other.json").write_text(json.dumps(comparison("2025-01-01T00:00:00+00:00", machine=elsewhere)))
    found = [r for r in collect.collect([results], page.FORMS)[0] if r.benchmark == "accuracy"]
    assert [r.machine for r in found] == ["A processor, 2 cores", "Another, 2 cores"]
    assert len(found[0].rows) == len(found[1].rows)
    assert [r["tre"] for r in found[0].rows if (r["method"], r["name"]) == ("ants", better["name"])] == [0.25]
    assert [name for name, *_ in found[0].files] == ["comparison.json", "later.json"]
    text = page.make(found, {}, ["accuracy-3.png"]).text
    assert "accuracy-3.png" not in text  # left from other results
    assert "## Accuracy, Another, 2 cores" in text and "figures/accuracy-2.png" in text


def test_a_method_nearer_than_ours_is_called_so():
    rows = [row(method, "small", k, tre=tre + k) for method, tre in (("pymasr", 2.0), ("ants", 1.5)) for k in range(3)]
    sentence = accuracy.headlines(rows, ["ants", "pymasr"])[0]
    assert "`ants` comes nearest, 0.500 [0.500, 0.500] mm nearer on the 3 cases" in sentence


def test_another_network_in_our_engine_is_no_other_tool():
    rows = [{**row("ants", "small", n), "method": method, "tre": tre} for n in range(4)
            for method, tre in (("pymasr", 1.0), ("voxelmorph-nmi", 1.5), ("voxelmorph-dsir", 1.2), ("ants", 2.0))]
    sentence = accuracy.headlines(rows, accuracy.ordered(rows))[0]
    assert "of 1 methods of other tools `ants` comes nearest" in sentence
    untrained = {**rows[0], "method": "voxelmorph-mind", "failure": "not trained: COMMAND"}
    assert accuracy.absent([*rows, untrained], accuracy.ordered(rows)) == [
        "Not trained where this was measured, and so not in the tables: `voxelmorph-mind`."]


def test_a_missing_folder_and_a_readme_without_its_place_are_told(results, capsys):
    assert report.main([str(results / "nowhere")]) == 1
    assert "no folder" in capsys.readouterr().err
    (results.parent / "README.md").write_text("nothing")
    assert make(results) == 1
    assert f"expected {page.START}" in capsys.readouterr().err


def test_cells_do_not_end_at_a_bar():
    assert markdown.table(("a", "b"), [("x | y", "1")]).split("\n")[-1] == "| x &#124; y | 1 |"


def test_the_committed_page_is_what_the_committed_results_make(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().err
    root = pathlib.Path(report.ROOT)
    assert all(file.stat().st_size < 300_000 for file in (root / "docs" / "figures").glob("*.png"))
