"""Reading what selectors choose: the windows of series, from the level that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError, TooLargeError
from fleet.metrics.answers import Windows
from fleet.metrics.labels import MatchKind
from fleet.metrics.samples import is_stale
from fleet.ports.metric_store import CodedLabels, MetricReader, SelectedSeries
from fleet.promql.answer import SelectorUse
from fleet.promql.label_table import LabelTable, table_of
from fleet.promql.native_cells import HistogramCells, NativeCollector, refused_histograms
from fleet.promql.native_windows import HistogramWindows, NativeFunction
from fleet.promql.parsing import duration_ms, fixed_ms, matchers_of
from fleet.promql.plan import Need, Piece, plan_windows
from fleet.promql.semantics import Semantics
from fleet.promql.values import Steps, Vector
from fleet.promql.window_context import WindowContext
from fleet.promql.window_reading import (
    WindowTimes,
    moved,
    read_native_windows,
    read_sketch_windows,
    read_windows,
)

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array


class Context(NamedTuple):
    """What a query is evaluated with."""

    reader: MetricReader
    semantics: Semantics
    lookback_ms: int
    """How old the sample of an instant selector may be."""
    subquery_step_ms: int
    """Step of subqueries that name none."""
    points_max: int
    """Rows x steps of one intermediate result."""
    start_ms: int
    """Start of the whole query, for `@ start()`."""
    end_ms: int
    uses: list[SelectorUse]
    """Which level answered which selector; grows."""


WindowFunction = Callable[[Windows, WindowContext], "tuple[FloatArray, BoolArray | None]"]
"""Value of each window, and which have one (None for all)."""


def window_times(node: Any, range_ms: int, steps: Steps, context: Context) -> WindowTimes:
    """The windows that a selector or subquery asks for.

    Args:
        node: has `offset` and `at`.
        range_ms: length of each window.
        steps: of the evaluation.
        context: start and end of the query.
    """
    at_ms = steps.times_ms()
    pinned = fixed_ms(node, context.start_ms, context.end_ms)
    base = at_ms if pinned is None else np.full(len(at_ms), pinned, np.int64)
    ends = base - duration_ms(node.offset)
    return WindowTimes(ends - range_ms, ends, at_ms)


def range_vector(
    selector: Any,
    range_ms: int,
    steps: Steps,
    function: WindowFunction,
    parameter: FloatArray,
    need: Need,
    context: Context,
    native: NativeFunction | None = None,
) -> Vector:
    """A function of the windows of a selector, for every series and step.

    Args:
        selector: the vector selector.
        range_ms: length of the windows.
        steps: of the evaluation.
        function: what to compute of each window.
        parameter: its scalar argument, one per step.
        need: what it has to know of a window.
        context: of the query.
        native: what to compute of windows of native histograms; None where they are refused.

    Raises:
        InvalidInputError: there are native histograms, and the function takes none.
        TooLargeError: more points than the query may have.
    """
    times = window_times(selector, range_ms, steps, context)
    closed = np.int64(1 if context.semantics.left_closed else 0)
    starts = times.starts_ms - closed
    series = select(selector, int(np.min(starts)), int(np.max(times.ends_ms)), steps, context)
    asked = _Asked(selector, times._replace(starts_ms=starts), times, function, parameter, native)
    if need is Need.SKETCH:
        values, present, cells = _with_sketches(asked, series, context)
    else:
        values, present, cells = _computed(asked, series, need, context)
    return Vector(_labels(selector, series), values, present, histograms=cells).compact()


class _Asked(NamedTuple):
    """What a selector is asked for."""

    selector: Any
    read: WindowTimes
    """The windows as they are read ..."""
    nominal: WindowTimes
    """... and as functions know them."""
    function: WindowFunction
    parameter: FloatArray
    native: NativeFunction | None


_Computed = tuple["FloatArray", "BoolArray", HistogramCells | None]


def _with_sketches(asked: _Asked, series: SelectedSeries, context: Context) -> _Computed:
    """Series that have sketches, and apart from them those that have none."""
    sketched = np.array([info.sketched for info in series.infos], np.bool_)
    if not sketched.any():
        return _computed(asked, series, Need.SAMPLES, context)
    shape = (len(series.ids), len(asked.read.ends_ms))
    values, present = np.zeros(shape), np.zeros(shape, np.bool_)
    for rows, need in ((sketched, Need.SKETCH), (~sketched, Need.SAMPLES)):
        at = np.flatnonzero(rows)
        if len(at):
            some = SelectedSeries(series.ids[at], [series.infos[row] for row in at.tolist()])
            values[at], present[at], _ = _computed(asked, some, need, context)
    return values, present, None


def _computed(asked: _Asked, series: SelectedSeries, need: Need, context: Context) -> _Computed:
    """The function of the windows of some series, as (series, steps)."""
    read, nominal = asked.read, asked.nominal
    values = np.zeros((len(series.ids), len(read.ends_ms)))
    present = np.zeros(values.shape, np.bool_)
    natives: NativeCollector | None = None
    for piece in plan_windows(context.reader, read.starts_ms, read.ends_ms, need):
        part = slice(piece.first, piece.stop)
        _note(context, asked.selector, piece, nominal, len(series.ids))
        some = WindowTimes(read.starts_ms[part], read.ends_ms[part], read.at_ms[part])
        for rows, columns, native in _native_windows(asked, series, piece, some, need, context):
            assert asked.native is not None
            natives = natives or NativeCollector(asked.native, values.shape)
            first = part.start + columns.start
            known = _known(asked, piece, native.at % native.steps + first, context)
            natives.add(native, rows.start, first, known)
        if need is Need.SKETCH and piece.level is not None:
            for rows, columns, sketches in read_sketch_windows(context.reader, series, piece, some):
                into = slice(part.start + columns.start, part.start + columns.stop)
                found = sketches.quantiles(asked.parameter[into])
                values[rows, into], present[rows, into] = found
            continue
        for rows, columns, windows in read_windows(context.reader, series, piece, some, need):
            into = slice(part.start + columns.start, part.start + columns.stop)
            known = _known(asked, piece, windows.step + into.start, context)
            values[rows, into], present[rows, into] = windows.spread(
                *asked.function(windows, known)
            )
            if natives is not None:
                natives.saw_numbers(rows, into, windows)
            del windows  # so that two groups of samples are never held at once
    cells = None if natives is None else natives.laid_over(values, present)
    return values, present, cells


def _native_windows(
    asked: _Asked,
    series: SelectedSeries,
    piece: Piece,
    times: WindowTimes,
    need: Need,
    context: Context,
) -> Iterator[tuple[slice, slice, HistogramWindows]]:
    """Windows of native histograms of a piece: of records, or of samples for what needs them."""
    reader, text = context.reader, asked.selector.prettify()
    for rows, columns, windows in read_native_windows(reader, series, piece, times, need):
        if asked.native is None:
            raise refused_histograms(text)
        if piece.level is None or not asked.native.needs_samples:
            yield rows, columns, windows
            continue
        starts, ends = times.starts_ms[columns], times.ends_ms[columns]
        if not reader.keeps_raw(int(np.min(starts)), int(np.max(ends))):
            raise InvalidInputError(
                "query",
                text,
                "native histograms that retention has kept; rollups do not say this of them",
                hint="Ask rate, increase or delta, or a later time.",
            )
        raw = Piece(0, len(ends), None)
        some = WindowTimes(starts, ends, times.at_ms[columns])
        chosen = SelectedSeries(series.ids[rows], [])
        _note(context, asked.selector, raw, some, len(chosen.ids))
        for inner, steps, found in read_native_windows(reader, chosen, raw, some, Need.SAMPLES):
            yield _within(rows, inner), _within(columns, steps), found


def _within(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _known(asked: _Asked, piece: Piece, step: Int64Array, context: Context) -> WindowContext:
    return WindowContext(
        moved(asked.nominal.starts_ms, piece)[step],
        moved(asked.nominal.ends_ms, piece)[step],
        asked.nominal.at_ms[step],
        asked.parameter[step],
        context.semantics,
    )


def select(
    selector: Any, start_ms: int, end_ms: int, steps: Steps, context: Context
) -> SelectedSeries:
    """The series of a selector with a sample in (start_ms, end_ms].

    Raises:
        TooLargeError: series x steps is over the limit.
    """
    series = context.reader.select(matchers_of(selector), start_ms, end_ms)
    points = len(series.ids) * steps.count
    if points > context.points_max:
        raise TooLargeError(
            f"{selector.prettify()}: {len(series.ids)} series at {steps.count} steps are {points} "
            f"points; at most {context.points_max}",
            hint="Take a longer --step, a shorter time, or name more labels.",
        )
    return series


def _labels(selector: Any, series: SelectedSeries) -> LabelTable:
    """Labels of the series; those that the selector demands are known without looking."""
    demanded = {
        matcher.name: matcher.value
        for matcher in matchers_of(selector)
        if matcher.kind is MatchKind.EQUAL and matcher.value
    }
    infos = series.infos
    coded = infos if isinstance(infos, CodedLabels) else None
    return table_of(len(series.ids), lambda: [info.labels for info in infos], demanded, coded)


def _note(context: Context, selector: Any, piece: Piece, times: WindowTimes, series: int) -> None:
    start, end = int(times.starts_ms[piece.first]), int(times.ends_ms[piece.stop - 1])
    text = selector.prettify()
    context.uses.append(SelectorUse(text, piece.level, start, end, series, piece.reason))


def last_value(windows: Windows, _: WindowContext) -> tuple[FloatArray, BoolArray | None]:
    """The value of an instant selector: the last sample, unless it says that the series ended."""
    found = windows.last
    return found, ~is_stale(found)


def last_time(windows: Windows, _: WindowContext) -> tuple[FloatArray, BoolArray | None]:
    """The time of that sample, in seconds."""
    return windows.last_ms / 1000, ~is_stale(windows.last)
