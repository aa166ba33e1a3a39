"""Lines over time in a terminal, in braille dots with axes. All pure.

Colour never carries meaning alone: each line's letter stands at its right end.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from platform_defs.command.output import coloured_as

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the dot in (row, column) of a character. Source: Unicode, chapter 21.1 (Braille)."""
COLOURS = ("green", "cyan", "yellow", "magenta", "blue", "red", "white", "bright_black")
LINES_MAX = len(COLOURS)
"""Lines of one plot; more cannot be told apart."""
WIDTH_MIN, WIDTH_MAX = 40, 240
HEIGHT = 16
"""Rows of characters of the plot itself: 64 dots."""
DAY_MS = 86_400_000
TINY, LARGEST = 1e-300, sys.float_info.max


class PlotLine(NamedTuple):
    """One line: values at times, None (or not a finite number) where there is a gap."""

    name: str
    values: Sequence[float | None]


def plot(
    times_ms: Sequence[int],
    lines: Sequence[PlotLine],
    *,
    width: int,
    height: int = HEIGHT,
    colours: bool = False,
) -> str:
    """Draw lines, with a scale at the left, times below, and a legend.

    Args:
        times_ms: of the values, ascending, at least one; milliseconds since 1970.
        lines: at most `LINES_MAX`.
        width: characters of a line of the drawing, from `WIDTH_MIN`; the legend may be wider.
        height: rows of the plot itself.
        colours: whether the terminal shows them.

    Returns:
        Lines of text, or one sentence where no value is finite.
    """
    finite = [value for line in lines for value in _finite(line)]
    if not finite:
        return "nothing to draw: no value is a finite number"
    scale = _scale(min(finite), max(finite), height)
    margin = max(len(label) for label in scale.labels)
    ends = _ends(lines, scale, height)
    letters_max = max(2, *map(len, ends))
    columns = min(max(width, WIDTH_MIN), WIDTH_MAX) - margin - 2 - letters_max
    canvas = _Canvas(columns, height)
    for number, line in enumerate(lines):
        _draw(canvas, times_ms, line, number, scale)
    rows = []
    for row in range(height):
        label = scale.labels[row].rjust(margin)
        letters = "".join(_letter(number, colours=colours) for number in ends[row])
        text = (
            f"{label} {'┤' if label.strip() else '│'}{canvas.text(row, colours=colours)}{letters}"
        )
        rows.append(text.rstrip())
    rows.append(f"{' ' * margin} └{'─' * columns}")
    rows.append(f"{' ' * (margin + 2)}{_time_axis(times_ms, columns)}")
    return "\n".join([*rows, *_legend(lines, colours=colours)])


class _Scale(NamedTuple):
    low: float
    high: float
    labels: list[str]
    """One per row from the top; '' where none stands."""

    def dot(self, value: float, dots: int) -> int:
        """Row of a value, from the top."""
        # Halved, because a span may be more than the largest double.
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return min(max(round((1 - share) * (dots - 1)), 0), dots - 1)


def _scale(low: float, high: float, height: int) -> _Scale:
    """From the lowest to the highest value, a little apart where they are the same."""
    if low / 2 == high / 2:
        apart = abs(low) * 0.1 if abs(low) > TINY else 1.0
        low, high = max(low - apart, -LARGEST), min(high + apart, LARGEST)
    marked = range(0, height, max((height - 1) // 5, 1))
    labels = [""] * height
    for row in marked:
        share = row / (height - 1)
        labels[row] = number_text(high * (1 - share) + low * share, high / height - low / height)
    return _Scale(low, high, labels)


def number_text(value: float, resolution: float = 0.0) -> str:
    """A number for an axis, with k, M, G or T, and no more digits than the resolution shows."""
    for limit, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= abs(value) < 1000 * limit:
            return number_text(value / limit, resolution / limit) + mark
    if resolution <= 0 or not 1e-6 < resolution < 1e6:
        return f"{value:.4g}"
    digits = min(max(0, -math.floor(math.log10(resolution))), 6)
    return f"{value:.{digits}f}"


class _Canvas:
    """Characters of braille dots; the line drawn last gives a character its colour."""

    def __init__(self, columns: int, rows: int) -> None:
        self.width, self.height = 2 * columns, 4 * rows
        self._dots = [[0] * columns for _ in range(rows)]
        self._owners = [[0] * columns for _ in range(rows)]

    def set(self, x: int, y: int, owner: int) -> None:
        """Set one dot."""
        self._dots[y // 4][x // 2] |= DOTS[y % 4][x % 2]
        self._owners[y // 4][x // 2] = owner

    def segment(self, start: tuple[int, int], end: tuple[int, int], owner: int) -> None:
        """Set the dots between two."""
        (x0, y0), (x1, y1) = start, end
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            share = step / steps
            self.set(round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share), owner)

    def text(self, row: int, *, colours: bool) -> str:
        """One row of characters."""
        cells = zip(self._dots[row], self._owners[row], strict=True)
        return "".join(
            coloured_as(chr(BRAILLE + dots), COLOURS[owner], colours=colours) if dots else " "
            for dots, owner in cells
        )


def _ends(lines: Sequence[PlotLine], scale: _Scale, height: int) -> list[list[int]]:
    """Which lines end in each row of characters: their letters stand there."""
    ends: list[list[int]] = [[] for _ in range(height)]
    for number, line in enumerate(lines):
        values = _finite(line)
        if values:
            ends[scale.dot(values[-1], 4 * height) // 4].append(number)
    return ends


def _draw(
    canvas: _Canvas, times_ms: Sequence[int], line: PlotLine, number: int, scale: _Scale
) -> None:
    """Draw one line; a value that is missing or not finite leaves a gap."""
    start, length = times_ms[0], max(times_ms[-1] - times_ms[0], 1)
    before: tuple[int, int] | None = None
    for time, value in zip(times_ms, line.values, strict=True):
        if value is None or not math.isfinite(value):
            before = None
            continue
        x = round((time - start) / length * (canvas.width - 1))
        here = (x, scale.dot(value, canvas.height))
        canvas.segment(before or here, here, number)
        before = here


def _finite(line: PlotLine) -> list[float]:
    return [value for value in line.values if value is not None and math.isfinite(value)]


def letter(number: int) -> str:
    """The name of a line: a, b, ... z, aa, ab, ..."""
    found = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        found = chr(ord("a") + rest) + found
    return found


def _letter(number: int, *, colours: bool) -> str:
    return coloured_as(letter(number), COLOURS[number], colours=colours)


def _time_axis(times_ms: Sequence[int], columns: int) -> str:
    """The first, middle and last time, in UTC."""
    span = times_ms[-1] - times_ms[0]
    middle = times_ms[0] + span // 2
    shape = "%m-%d %H:%M" if span >= DAY_MS else "%H:%M:%S" if span < 600_000 else "%H:%M"
    first, mid, last = (
        datetime.fromtimestamp(ms / 1000, UTC).strftime(shape)
        for ms in (times_ms[0], middle, times_ms[-1])
    )
    last += " UTC"
    if columns < len(first) + len(mid) + len(last) + 4:
        return f"{first}{last.rjust(max(columns - len(first), len(last) + 1))}"
    left = first + mid.rjust(columns // 2 + len(mid) // 2 - len(first))
    return left + last.rjust(columns - len(left))


def _legend(lines: Sequence[PlotLine], *, colours: bool) -> list[str]:
    found = []
    for number, line in enumerate(lines):
        values = _finite(line)
        if values:
            low, high, last = (f"{value:.4g}" for value in (min(values), max(values), values[-1]))
            said = f"min {low}, max {high}, last {last}"
        else:
            said = "no finite value"
        found.append(f"{_letter(number, colours=colours)}  {line.name}  {said}")
    return found
