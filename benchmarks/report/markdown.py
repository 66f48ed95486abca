"""Pieces of Markdown, as GitHub and the site read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """The first `texts` columns to the left, the others, numbers, to the right."""
    lines = [columns, [*["---"] * texts, *["---:"] * (len(columns) - texts)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def folded(summary: str, *blocks: str) -> str:
    """Blocks that a click on `summary` shows."""
    return "\n\n".join([f'<details markdown="1"><summary>{summary}</summary>', *blocks, "</details>"])


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def code(names: Iterable[str]) -> str:
    """Names, listed."""
    return ", ".join(f"`{name}`" for name in names)
