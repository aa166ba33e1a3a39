"""How results are written: aligned tables, JSON, colours where a terminal shows them. All pure.

Colour never carries meaning alone: the word is there too, so that logs and screen readers have it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from platform_defs.settings import read_switches

GOOD = {"running", "live", "ok", "done", "completed"}
BAD = {"failed", "lost", "terminated", "wrong", "silent"}
DOUBTFUL = {"late", "pending", "backing_off", "unknown", "stopped", "started", "warn"}


def colours_wanted() -> bool:
    """Whether standard output is a terminal and NO_COLOR is unset."""
    return sys.stdout.isatty() and not read_switches().no_color


def coloured(word: str, *, colours: bool) -> str:
    """A word of the fleet's vocabulary in the colour of what it means."""
    if not colours:
        return word
    bare = word.strip()
    colour = "green" if bare in GOOD else "red" if bare in BAD else None
    colour = colour or ("yellow" if bare in DOUBTFUL else None)
    return click.style(word, fg=colour) if colour else word


def coloured_as(text: str, colour: str, *, colours: bool) -> str:
    """A text in a colour that only tells lines apart, where the terminal shows colours."""
    return click.style(text, fg=colour) if colours else text


def table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], *, colours: bool = False
) -> str:
    """Rows aligned under headings; numbers to the right, None as `-`.

    Args:
        headings: one per column.
        rows: as many cells each as there are headings.
        colours: whether to colour words of the fleet's vocabulary.
    """
    cells = [[cell_text(value) for value in row] for row in rows]
    columns = range(len(headings))
    widths = [max(len(row[column]) for row in (headings, *cells)) for column in columns]
    right = [bool(rows) and all(_is_number(row[c]) for row in rows) for c in columns]
    lines = [_line(headings, widths, right, colours=False)]
    lines += [_line(row, widths, right, colours=colours) for row in cells]
    return "\n".join(lines)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _line(cells: Sequence[str], widths: list[int], right: list[bool], *, colours: bool) -> str:
    parts = []
    for cell, width, to_right in zip(cells, widths, right, strict=True):
        padding = " " * (width - len(cell))
        word = coloured(cell, colours=colours)
        parts.append(padding + word if to_right else word + padding)
    return "  ".join(parts).rstrip()


def cell_text(value: object) -> str:
    """One cell as text: `-` for None, four digits of a number, no control marks."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "".join(
        mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in str(value)
    )


def age(then: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that keeps it readable; `never` for None."""
    if then is None:
        return "never"
    seconds = max((now - then) / timedelta(seconds=1), 0.0)
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if unit == "s" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size_text(value_bytes: int | None) -> str:
    """Bytes in the largest binary unit below them; `-` for None."""
    if value_bytes is None:
        return "-"
    amount = float(value_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(unit)


def to_json(value: Any) -> str:
    """JSON with a stable layout; times in ISO 8601."""
    return json.dumps(value, indent=2, default=_json_value)


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
