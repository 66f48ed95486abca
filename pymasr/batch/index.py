"""The page of a batch: one HTML file with every pair's numbers, picture and the way to its results."""

from __future__ import annotations

import base64
import html
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import Any

from pymasr._version import __version__
from pymasr.batch.store import DONE, FAILED, Store, write_text
from pymasr.batch.summary import WAITING, Row

COLUMNS = {"similarity_before": "similarity before", "similarity_after": "after", "dice_before": "Dice before",
           "dice_after": "after", "folded": "folded", "largest_displacement_mm": "largest displacement, mm",
           "inverse_error_mm": "inverse off by, mm", "seconds": "seconds"}
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; background: Canvas; color: CanvasText;
  color-scheme: light dark }
table { border-collapse: collapse } th, td { padding: .3em .6em; border-bottom: 1px solid #8884; text-align: right }
th { cursor: pointer; position: sticky; top: 0; background: Canvas } th.text, td.text { text-align: left }
td.text { min-width: 9em; max-width: 28em; overflow-wrap: break-word } img { display: block; width: 420px }
.failed { color: #c33 } .warning { color: #b70 } label { margin-right: 1em }
"""
SCRIPT = """
const body = document.querySelector("tbody"), rows = [...body.rows];
document.querySelectorAll("th").forEach((head, column) => { let order = 1; head.onclick = () => {
  const value = row => { const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
    return text.trim() === "" || isNaN(text) ? text : Number(text); };
  rows.sort((a, b) => { const [x, y] = [value(a), value(b)];
    return order * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y))); });
  order = -order; body.append(...rows); }; });
const boxes = [...document.querySelectorAll("input")];
boxes.forEach(box => box.onchange = () => rows.forEach(row =>
  row.hidden = boxes.some(b => b.name === row.dataset.kind && !b.checked)));
"""


def write_index(store: Store, rows: Sequence[Row], title: str) -> None:
    """Write index.html. Pictures are small and inside the page; the large ones and the reports are linked, relative to
    it, so that the directory can be moved as a whole."""
    columns = [name for name in COLUMNS if any(row.facts.get(name) is not None for row in rows)]
    counts = {kind: sum(_kind(row) == kind for row in rows) for kind in (DONE, "warning", FAILED, WAITING)}
    boxes = "".join(f'<label><input type="checkbox" name="{kind}" checked> {count} {kind}</label>'
                    for kind, count in counts.items() if count)
    heads = "".join(f"<th>{COLUMNS[name]}</th>" for name in columns)
    write_text(store.directory / "index.html", f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1><p>{len(rows)} pairs, pymasr {__version__}; <a href="summary.csv">summary.csv</a></p>
<p>{boxes}</p><table><thead><tr><th class="text">pair</th><th class="text">status</th>{heads}
<th class="text">picture</th></tr></thead><tbody>
{"".join(_row(store, row, columns) for row in rows)}</tbody></table><script>{SCRIPT}</script></body></html>
""")


def _kind(row: Row) -> str:
    return "warning" if row.warnings else row.status


def _row(store: Store, row: Row, columns: Sequence[str]) -> str:
    links = [("folder", _folder(row))] if row.status == DONE else []
    links += [("report", place) for place in _places(row, "report.html")]
    names = f"<b>{html.escape(row.pair.id)}</b><br>" + " ".join(
        f'<a href="{_url(place)}">{name}</a>' for name, place in links)
    note = html.escape(row.reason or " ".join(row.warnings))
    numbers = "".join(_number(row.facts.get(name)) for name in columns)
    return (f'<tr data-kind="{_kind(row)}"><td class="text" data-value="{html.escape(row.pair.id)}">{names}</td>'
            f'<td class="text {_kind(row)}" data-value="{_kind(row)}">{row.status}<br>{note}</td>{numbers}'
            f'<td class="text">{_picture(store, row)}</td></tr>\n')


def _number(value: Any) -> str:
    return "<td></td>" if value is None else f'<td data-value="{value}">{value:.4g}</td>'


def _places(row: Row, name: str) -> list[str]:
    """Where the result of a name is, if there is one."""
    place = row.pair.destination(name)
    return [place] if row.status == DONE and place in row.record.outputs else []


def _folder(row: Row) -> str:
    return pathlib.PurePosixPath(row.pair.destination("transform.h5")).parent.as_posix() + "/"


def _picture(store: Store, row: Row) -> str:
    file = store.thumbnail(row.pair.id)
    if row.status != DONE or not file.exists():
        return ""
    data = base64.b64encode(file.read_bytes()).decode()
    image = f'<img alt="overview of {html.escape(row.pair.id)}" src="data:image/jpeg;base64,{data}">'
    return "".join(f'<a href="{_url(place)}">{image}</a>' for place in _places(row, "overview.png"))


def _url(place: str) -> str:
    return urllib.parse.quote(place)
