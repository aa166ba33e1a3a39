"""Which level answers which steps of a selector, and whether the answer is exact.

A level may answer a window where the window begins and ends on its buckets and the store says that
it is built from all raw samples there. Else the next finer level is asked, then raw samples. Where
raw samples are needed and retention has removed them, the answer says so: nothing is guessed in
silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.metrics.levels import DAY_MS, Level
from fleet.ports.metric_store import MetricReader

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array


class Need(Enum):
    """What a function has to know of a window."""

    RECORD = "record"
    """The record of the window: any level has it."""
    COUNTED = "counted"
    """What a counter has counted: any level has it, but not to the bit where a bucket holds several
    resets with decimals (`Windows.rounded`)."""
    LAST = "last"
    """The last sample and whether the series had ended: only raw samples say so."""
    SAMPLES = "samples"
    """Every sample."""
    SKETCH = "sketch"
    """The quantile of the samples; within 1 % from sketches, where the series has them."""


class Piece(NamedTuple):
    """Steps that one level answers."""

    first: int
    stop: int
    """Behind the last step."""
    level: Level | None
    """None for raw samples."""
    reason: str = ""
    """Why the answer is not exact; '' where it is."""
    aligned: bool = True
    """False where window borders are moved back to those of the level's buckets."""

    @property
    def exact(self) -> bool:
        """Whether raw samples of all time would give the same answer."""
        return not self.reason


REMOVED = "retention has removed raw samples"
SKETCHED = "quantiles of sketches are within 1 % of the value"
ROUNDED = "resets with decimals, several in a bucket, were added up: last bits may differ"
"""What a counter has counted cannot be said to the bit then."""
SKETCHED_LEVEL = Level.M5
"""The finest level that has sketches."""
SKETCHED_FROM_MS = DAY_MS
"""Windows at least as long are answered from sketches where there are some: a day of a series at
15 s is 5,760 samples, or 24 sketches of about 30 bins."""


def plan_windows(
    reader: MetricReader, starts_ms: Int64Array, ends_ms: Int64Array, need: Need
) -> list[Piece]:
    """Divide the steps of a selector among levels.

    Args:
        reader: says what is built and kept.
        starts_ms: start of each window, excluded, ascending.
        ends_ms: end of each window, included.
        need: what is asked of each window.

    Returns:
        Pieces in the order of their steps, without gaps.
    """
    plan = _Plan(reader, starts_ms, ends_ms, need)
    levels = [level for level in sorted(Level, reverse=True) if plan.is_aligned(level)]
    if need is Need.SKETCH:
        long = len(ends_ms) > 0 and int(np.min(ends_ms - starts_ms)) >= SKETCHED_FROM_MS
        levels = [level for level in levels if level >= SKETCHED_LEVEL and long]
    of_levels = need in {Need.RECORD, Need.COUNTED, Need.SKETCH}
    return plan.divided(0, len(ends_ms), levels if of_levels else [])


def plan_finer(
    reader: MetricReader, starts_ms: Int64Array, ends_ms: Int64Array, above: Level
) -> list[Piece]:
    """Divide steps among what is finer than a level, for counters that it does not say to the bit.

    Args:
        reader: says what is built and kept.
        starts_ms: of windows that begin and end on borders of the level's buckets.
        ends_ms: of them.
        above: the level.

    Returns:
        Pieces as of `plan_windows`; where nothing finer is left, of the level itself, not exact.
    """
    plan = _Plan(reader, starts_ms, ends_ms, Need.COUNTED, above)
    finer = [level for level in sorted(Level, reverse=True) if level < above]
    return plan.divided(0, len(ends_ms), finer)


class _Plan:
    """The store's answers about the windows of one selector."""

    def __init__(
        self,
        reader: MetricReader,
        starts_ms: Int64Array,
        ends_ms: Int64Array,
        need: Need,
        above: Level | None = None,
    ) -> None:
        self._reader = reader
        self._starts, self._ends = starts_ms, ends_ms
        self._need = need
        self._above = above

    def is_aligned(self, level: Level) -> bool:
        """Whether every window begins and ends on a bucket's border."""
        return not ((self._starts % level).any() or (self._ends % level).any())

    def divided(self, first: int, stop: int, levels: list[Level]) -> list[Piece]:
        """Pieces of some steps: what the coarsest level covers, and the rest by finer ones."""
        return sorted(self._divided(first, stop, levels))

    def _divided(self, first: int, stop: int, levels: list[Level]) -> Iterator[Piece]:
        waiting = [(first, stop, levels)]
        while waiting:
            first, stop, levels = waiting.pop()
            if first >= stop:
                continue
            if not levels:
                yield from self._raw(first, stop)
                continue
            level, finer = levels[0], levels[1:]
            begin, end = _covered(first, stop, partial(self._covers, level))
            if begin == end:
                waiting.append((first, stop, finer))
                continue
            yield Piece(begin, end, level, SKETCHED if self._need is Need.SKETCH else "")
            waiting.append((first, begin, finer))
            # behind a hole the same level may go on
            waiting.append((end, stop, levels))

    def _raw(self, first: int, stop: int) -> Iterator[Piece]:
        def keeps(first: int, stop: int) -> bool:
            return self._reader.keeps_raw(int(self._starts[first]), int(self._ends[stop - 1]))

        if keeps(first, stop):
            yield Piece(first, stop, None)
            return
        kept = _first_true(first, stop, lambda step: keeps(step, stop))
        yield self._without_raw(first, kept)
        if kept < stop:
            yield Piece(kept, stop, None)

    def _without_raw(self, first: int, stop: int) -> Piece:
        """What answers best where raw samples are gone: never exactly, and never in silence."""
        if self._above is not None:
            return Piece(first, stop, self._above, f"{ROUNDED}; nothing finer is left")
        if self._need is not Need.SAMPLES:
            for level in sorted(Level):
                coarse = self._need is Need.LAST and level > Level.M5
                coarse |= self._need is Need.SKETCH and level < SKETCHED_LEVEL
                if not coarse and self._covers(level, first, stop):
                    return Piece(first, stop, level, self._reason(level), self.is_aligned(level))
        return Piece(first, stop, None, f"{REMOVED}; what is left of them answers")

    def _reason(self, level: Level) -> str:
        moved = f"windows were moved back to the buckets of {level.text}"
        if self._need is Need.SKETCH:
            return SKETCHED if self.is_aligned(level) else f"{REMOVED}; {SKETCHED}, and {moved}"
        if self._need is not Need.LAST:
            return f"{REMOVED}; {moved}"
        ended = f"rollups of {level.text} do not say when a series ended"
        return (
            f"{REMOVED}; {ended}" if self.is_aligned(level) else f"{REMOVED}; {ended}, and {moved}"
        )

    def _covers(self, level: Level, first: int, stop: int) -> bool:
        start, end = int(self._starts[first]), int(self._ends[stop - 1])
        return self._reader.covers(level, start // level * level, end // level * level)


def _covered(first: int, stop: int, covers: Callable[[int, int], bool]) -> tuple[int, int]:
    """Steps at the beginning that are covered together, else those at the end; both may be none."""
    if covers(first, stop):
        return first, stop
    end = _first_true(first + 1, stop, lambda step: not covers(first, step)) - 1
    if end > first:
        return first, end
    begin = _first_true(first + 1, stop, lambda step: covers(step, stop))
    return (begin, stop) if begin < stop else (first, first)


def _first_true(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first number from `low` on from which something holds; `high` where it never does."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
