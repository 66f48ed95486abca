"""What a benchmark adds to the page."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Section:
    """Attributes:
        title: of the section.
        blocks: of Markdown, in their order.
        headlines: sentences on what came out, the most important first.
        figures: file names, and what draws each.
        main: the figure that the page and README show first, with its description.
    """

    title: str
    blocks: list[str]
    headlines: list[str] = field(default_factory=list)
    figures: dict[str, Callable[[pathlib.Path], None]] = field(default_factory=dict)
    main: tuple[str, str] | None = None
