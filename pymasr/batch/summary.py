"""What came of a batch: a table, as CSV and on the screen."""

from __future__ import annotations

import csv
import io
import pathlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymasr.batch.pairs import Pair
from pymasr.batch.store import DONE, FAILED, Record, write_text

#: Facts of a pair, in the order of the columns.
FACTS = ("similarity_before", "similarity_after", "dice_before", "dice_after", "folded", "std_log_jacobian",
         "largest_displacement_mm", "inverse_error_mm", "seconds", "peak_memory_mib", "device", "worker")
#: Status of a pair that was not tried yet.
WAITING = "waiting"
#: Rows that the screen shows of a batch; of a larger one, those that failed or warn.
SHOWN = 50
#: Characters of a line where the output is no terminal, such as the log of a job.
WIDTH = 160


@dataclass(frozen=True)
class Row:
    """A pair and its record; None where it was not tried yet."""

    pair: Pair
    record: Record | None

    @property
    def status(self) -> str:
        return self.record.status if self.record is not None and self.record.status in (DONE, FAILED) else WAITING

    @property
    def reason(self) -> str:
        return self.record.reason if self.record is not None and self.status == FAILED else ""

    @property
    def facts(self) -> dict[str, Any]:
        return self.record.facts if self.record is not None and self.status == DONE else {}

    @property
    def warnings(self) -> list[str]:
        return self.facts.get("warnings", [])


def write_csv(rows: Sequence[Row], file: pathlib.Path) -> None:
    """One line a pair, numbers in full."""
    notes = list(dict.fromkeys(name for row in rows for name in row.pair.notes))
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["id", "status", *FACTS, "attempts", "warnings", "reason", "fixed", "moving", *notes])
    for row in rows:
        table.writerow([row.pair.id, row.status, *(_cell(row.facts.get(name)) for name in FACTS),
                        row.record.attempts if row.record is not None and row.status != WAITING else "",
                        " ".join(row.warnings), row.reason, row.pair.fixed, row.pair.moving,
                        *(row.pair.notes.get(name, "") for name in notes)])
    write_text(file, stream.getvalue())


def print_table(rows: Sequence[Row]) -> None:
    """The table on stdout: of more than :data:`SHOWN` pairs those that failed or warn, and always the medians."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    shown = rows if len(rows) <= SHOWN else [row for row in rows if row.reason or row.warnings]
    columns = [name for name in ("similarity_before", "similarity_after", "dice_before", "dice_after", "folded",
                                 "largest_displacement_mm", "seconds")
               if any(row.facts.get(name) is not None for row in rows)]
    table = Table(show_edge=False, header_style="bold")
    table.add_column("pair", overflow="fold")
    table.add_column("status")
    for name in columns:
        table.add_column(name.removesuffix("_mm").replace("_", " "), justify="right")
    for row in shown:
        table.add_row(Text(row.pair.id), Text(row.status, "red" if row.status == FAILED else ""),
                      *(_short(row.facts.get(name)) for name in columns))
    done = [row for row in rows if row.status == DONE]
    if len(done) > 1:
        table.add_section()
        table.add_row(f"median of {len(done)}", "", *(_short(_median(done, name)) for name in columns))
    console.print(table)
    for row in shown:
        for note in filter(None, [row.reason, *row.warnings]):
            console.print(Text(f"{row.pair.id}: {note}"), soft_wrap=True)
    if len(shown) < len(rows):
        console.print(f"{len(rows) - len(shown)} pairs without a warning are in summary.csv")


def _median(rows: Sequence[Row], name: str) -> float | None:
    values = [row.facts[name] for row in rows if row.facts.get(name) is not None]
    return statistics.median(values) if values else None


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
