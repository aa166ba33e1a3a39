"""A function of the windows of some series: read from the levels that the plan names, laid out.

Counters that a level does not say to the bit (`Windows.rounded`) are read again from a finer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.metrics.levels import Level
from fleet.ports.metric_store import SelectedSeries
from fleet.promql.answer import SelectorUse
from fleet.promql.native_cells import HistogramCells, NativeCollector, refused_histograms
from fleet.promql.native_windows import HistogramWindows, NativeFunction
from fleet.promql.plan import ROUNDED, Need, Piece, plan_finer, plan_windows
from fleet.promql.query_context import Context
from fleet.promql.window_context import WindowContext, WindowFunction
from fleet.promql.window_reading import (
    HISTOGRAMS_SMALLER,
    INFOS_LOOKED_AT,
    WindowTimes,
    moved,
    read_native_windows,
    read_sketch_windows,
    read_windows,
    series_at_once,
)

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

TOO_MANY = f"{ROUNDED}; too many series to read them anew from finer ones"
READS_AGAIN = 4
"""So many reads of what is finer at most: of a day, the hours of 333,000 counters; 4 s or so."""


class Asked(NamedTuple):
    """What a selector is asked for."""

    selector: Any
    read: WindowTimes
    """The windows as they are read ..."""
    nominal: WindowTimes
    """... and as functions know them."""
    function: WindowFunction
    parameter: FloatArray
    """The scalar argument of the function, one per step."""
    native: NativeFunction | None
    """What is computed of windows of native histograms; None where they are refused."""

    def of_steps(self, steps: slice) -> Asked:
        """The same for some steps."""
        return self._replace(
            read=_part(self.read, steps),
            nominal=_part(self.nominal, steps),
            parameter=self.parameter[steps],
        )


Found = tuple["FloatArray", "BoolArray", HistogramCells | None]
"""Values and whether there is one, (series, steps), and the native histograms among them."""


def answer_windows(asked: Asked, series: SelectedSeries, need: Need, context: Context) -> Found:
    """The function of every window of some series.

    Args:
        asked: the function and the windows.
        series: that are read.
        need: what the function has to know of a window.
        context: of the query; which level answered is noted in it.

    Raises:
        InvalidInputError: there are native histograms, and the function takes none, or rollups do
            not hold what it needs of them and retention has removed the samples.
    """
    if need is Need.SKETCH:
        return _with_sketches(asked, series, context)
    read = asked.read
    pieces = plan_windows(context.reader, read.starts_ms, read.ends_ms, need)
    return _Laying(asked, series, need, context).over(pieces)


def _with_sketches(asked: Asked, series: SelectedSeries, context: Context) -> Found:
    """Series that have sketches, and apart from them those that have none."""
    sketched = np.array([info.sketched for info in series.infos], np.bool_)
    if not sketched.any():
        return answer_windows(asked, series, Need.SAMPLES, context)
    values, present = _nothing(asked, series)
    read = asked.read
    for rows, need in ((sketched, Need.SKETCH), (~sketched, Need.SAMPLES)):
        at = np.flatnonzero(rows)
        if len(at):
            pieces = plan_windows(context.reader, read.starts_ms, read.ends_ms, need)
            found = _Laying(asked, _some(series, at), need, context).over(pieces)
            values[at], present[at], _ = found
    return values, present, None


def _nothing(asked: Asked, series: SelectedSeries) -> tuple[FloatArray, BoolArray]:
    shape = (len(series.ids), len(asked.read.ends_ms))
    return np.zeros(shape), np.zeros(shape, np.bool_)


def _some(series: SelectedSeries, at: Int64Array) -> SelectedSeries:
    """Some of the series; of the facts, which a store builds one by one, only a few others'.

    Reading looks at those for the interval between samples alone.
    """
    return SelectedSeries(series.ids[at], series.infos[:INFOS_LOOKED_AT])


def _part(times: WindowTimes, steps: slice) -> WindowTimes:
    return WindowTimes(times.starts_ms[steps], times.ends_ms[steps], times.at_ms[steps])


class _Laying:
    """Values of some series, laid out piece by piece."""

    def __init__(self, asked: Asked, series: SelectedSeries, need: Need, context: Context) -> None:
        self._asked, self._series, self._need, self._context = asked, series, need, context
        self._values, self._present = _nothing(asked, series)
        self._natives: NativeCollector | None = None

    def over(self, pieces: list[Piece]) -> Found:
        """All steps, histograms among them."""
        for piece in pieces:
            self._note(piece)
            self._lay_natives(piece)
            if self._need is Need.SKETCH and piece.level is not None:
                self._lay_sketches(piece)
            else:
                self._lay_numbers(piece)
        natives, values, present = self._natives, self._values, self._present
        return values, present, None if natives is None else natives.laid_over(values, present)

    def numbers_over(self, pieces: list[Piece]) -> tuple[FloatArray, BoolArray]:
        """All steps of series whose histograms are known."""
        for piece in pieces:
            self._note(piece)
            self._lay_numbers(piece)
        return self._values, self._present

    def _note(self, piece: Piece) -> None:
        _note_use(self._context, self._asked, piece, self._asked.nominal, len(self._series.ids))

    def _lay_numbers(self, piece: Piece) -> None:
        context, times = self._context, _part(self._asked.read, slice(piece.first, piece.stop))
        rounded: BoolArray | None = None
        for rows, columns, windows in read_windows(
            context.reader, self._series, piece, times, self._need
        ):
            into = slice(piece.first + columns.start, piece.first + columns.stop)
            known = _known(self._asked, piece, windows.step + into.start, context)
            found = windows.spread(*self._asked.function(windows, known))
            self._values[rows, into], self._present[rows, into] = found
            if self._natives is not None:
                self._natives.saw_numbers(rows, into, windows)
            if self._need is Need.COUNTED and piece.exact and windows.rounded.any():
                if rounded is None:
                    rounded = np.zeros((len(self._series.ids), len(times.ends_ms)), np.bool_)
                rounded[rows, columns] = windows.spread(windows.risen, windows.rounded)[1]
            del windows  # so that two groups of samples are never held at once
        if rounded is not None:
            self._lay_finer(piece, rounded)

    def _lay_finer(self, piece: Piece, rounded: BoolArray) -> None:
        """Read the counters again that a level does not say to the bit, where that can be.

        Args:
            piece: the level and its steps.
            rounded: which windows it does not say to the bit, (series, steps of the piece).
        """
        assert piece.level is not None
        at = np.flatnonzero(rounded.any(axis=1))
        steps = np.flatnonzero(rounded.any(axis=0)) + piece.first
        into = slice(int(steps[0]), int(steps[-1]) + 1)
        again, some = self._asked.of_steps(into), _some(self._series, at)
        finer = _finer_pieces(again, some, piece.level, self._context)
        found = _Laying(again, some, self._need, self._context).numbers_over(finer)
        self._values[at, into], self._present[at, into] = found

    def _lay_sketches(self, piece: Piece) -> None:
        times = _part(self._asked.read, slice(piece.first, piece.stop))
        for rows, columns, sketches in read_sketch_windows(
            self._context.reader, self._series, piece, times
        ):
            into = slice(piece.first + columns.start, piece.first + columns.stop)
            found = sketches.quantiles(self._asked.parameter[into])
            self._values[rows, into], self._present[rows, into] = found

    def _lay_natives(self, piece: Piece) -> None:
        for rows, columns, windows in _native_windows(
            self._asked, self._series, piece, self._need, self._context
        ):
            assert self._asked.native is not None
            if self._natives is None:
                self._natives = NativeCollector(self._asked.native, self._values.shape)
            first = piece.first + columns.start
            step = windows.at % windows.steps + first
            known = _known(self._asked, piece, step, self._context)
            self._natives.add(windows, rows, first, known)


def _finer_pieces(
    asked: Asked, series: SelectedSeries, above: Level, context: Context, smaller: int = 1
) -> list[Piece]:
    """What is read instead of a level, in a few reads; were it more, the level itself again."""
    starts, ends = asked.read.starts_ms, asked.read.ends_ms
    found = []
    for piece in plan_finer(context.reader, starts, ends, above):
        length_ms = int(ends[piece.stop - 1] - starts[piece.first])
        at_once = READS_AGAIN * series_at_once(series, piece.level, length_ms)
        fits = len(series.ids) * smaller <= at_once
        found.append(piece if fits else piece._replace(level=above, reason=TOO_MANY))
    return found


def _native_windows(
    asked: Asked, series: SelectedSeries, piece: Piece, need: Need, context: Context
) -> Iterator[tuple[Int64Array, slice, HistogramWindows]]:
    """Windows of native histograms of a piece, as (rows, steps within the piece, windows).

    Those that its level does not say, or not to the bit, come from a finer one.
    """
    times = _part(asked.read, slice(piece.first, piece.stop))
    for rows, columns, windows in read_native_windows(context.reader, series, piece, times, need):
        if asked.native is None:
            raise refused_histograms(asked.selector.prettify())
        at = np.arange(rows.start, rows.stop)
        again = np.zeros(len(at), np.bool_)
        if piece.level is not None and asked.native.needs_samples:
            again[:] = True
        elif need is Need.COUNTED and piece.level is not None and piece.exact:
            again[windows.at[windows.rounded] // windows.steps] = True
        if not again.any():
            yield at, columns, windows
            continue
        if not again.all():
            yield at[~again], columns, windows.of_series(series.ids[at[~again]])
        steps = slice(piece.first + columns.start, piece.first + columns.stop)
        part, some = asked.of_steps(steps), _some(series, at[again])
        for inner, within, found in _finer_natives(part, some, piece, need, context):
            behind = slice(columns.start + within.start, columns.start + within.stop)
            yield at[again][inner], behind, found


def _finer_natives(
    asked: Asked, series: SelectedSeries, above: Piece, need: Need, context: Context
) -> Iterator[tuple[Int64Array, slice, HistogramWindows]]:
    """Windows of what a level does not say of histograms: as `_native_windows`, of all steps."""
    assert asked.native is not None
    assert above.level is not None
    if asked.native.needs_samples:
        pieces = [_raw_piece(asked, context)]
    else:
        pieces = _finer_pieces(asked, series, above.level, context, HISTOGRAMS_SMALLER)
    for piece in pieces:
        _note_use(context, asked, piece, asked.nominal, len(series.ids))
        for rows, columns, windows in _native_windows(asked, series, piece, need, context):
            yield rows, slice(piece.first + columns.start, piece.first + columns.stop), windows


def _raw_piece(asked: Asked, context: Context) -> Piece:
    """Raw samples of all steps.

    Raises:
        InvalidInputError: retention has removed them.
    """
    starts, ends = asked.read.starts_ms, asked.read.ends_ms
    if not context.reader.keeps_raw(int(np.min(starts)), int(np.max(ends))):
        raise InvalidInputError(
            "query",
            asked.selector.prettify(),
            "native histograms that retention has kept; rollups do not say this of them",
            hint="Ask rate, increase or delta, or a later time.",
        )
    return Piece(0, len(ends), None)


def _known(asked: Asked, piece: Piece, step: Int64Array, context: Context) -> WindowContext:
    return WindowContext(
        moved(asked.nominal.starts_ms, piece)[step],
        moved(asked.nominal.ends_ms, piece)[step],
        asked.nominal.at_ms[step],
        asked.parameter[step],
        context.semantics,
    )


def _note_use(
    context: Context, asked: Asked, piece: Piece, times: WindowTimes, series: int
) -> None:
    """Note which level answers some steps of a selector, for how many series."""
    start, end = int(times.starts_ms[piece.first]), int(times.ends_ms[piece.stop - 1])
    text = asked.selector.prettify()
    context.uses.append(SelectorUse(text, piece.level, start, end, series, piece.reason))
