"""Reading what selectors choose: the windows of series, from the level that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet.errors import TooLargeError
from fleet.metrics.answers import Runs, Windows, runs_of_records, runs_of_samples
from fleet.metrics.labels import MatchKind
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.samples import is_stale
from fleet.ports.metric_store import CodedLabels, MetricReader, SelectedSeries
from fleet.promql.answer import SelectorUse
from fleet.promql.label_table import LabelTable, table_of
from fleet.promql.parsing import duration_ms, fixed_ms, matchers_of
from fleet.promql.plan import Need, Piece, plan_windows
from fleet.promql.semantics import Semantics
from fleet.promql.values import Steps, Vector

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

SAMPLES_AT_ONCE = 20_000_000
"""Raw samples read in one call, about 500 MB; more series are read in groups."""
RECORDS_AT_ONCE = 2_000_000
"""Records of rollups read in one call, about 300 MB."""
INTERVAL_GUESS_MS = 15_000
"""Time between samples of a series that does not say it; only sizes of reads depend on it."""
GAP_MS = HOUR_MS
"""Windows further apart are read one by one. Raw parts hold an hour: nearer ones share a part."""


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


class WindowTimes(NamedTuple):
    """The windows of a selector, one per step (or one for all steps, where `@` pins it)."""

    starts_ms: Int64Array
    """Nominal start of each window."""
    ends_ms: Int64Array
    at_ms: Int64Array
    """The step itself, which `offset` and `@` do not move."""


class WindowContext(NamedTuple):
    """What functions of windows know beside the windows; arrays of one value per window."""

    start_ms: Int64Array
    end_ms: Int64Array
    at_ms: Int64Array
    parameter: FloatArray
    """The scalar argument of the function; 0 where it has none."""
    semantics: Semantics


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

    Raises:
        TooLargeError: more points than the query may have.
    """
    times = window_times(selector, range_ms, steps, context)
    closed = np.int64(1 if context.semantics.left_closed else 0)
    starts = times.starts_ms - closed
    series = select(selector, int(np.min(starts)), int(np.max(times.ends_ms)), steps, context)
    values = np.zeros((len(series.ids), steps.count))
    present = np.zeros(values.shape, np.bool_)
    for piece in plan_windows(context.reader, starts, times.ends_ms, need):
        part = slice(piece.first, piece.stop)
        _note(context, selector, piece, times, len(series.ids))
        some = WindowTimes(starts[part], times.ends_ms[part], times.at_ms[part])
        for rows, columns, windows in _read(context.reader, series, piece, some, need):
            into = slice(part.start + columns.start, part.start + columns.stop)
            step = windows.step + into.start
            known = WindowContext(
                _moved(times.starts_ms, piece)[step],
                _moved(times.ends_ms, piece)[step],
                times.at_ms[step],
                parameter[step],
                context.semantics,
            )
            found, kept = function(windows, known)
            values[rows, into], present[rows, into] = windows.spread(found, kept)
    return Vector(_labels(selector, series), values, present).compact()


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


def _moved(bounds_ms: Int64Array, piece: Piece) -> Int64Array:
    if piece.aligned or piece.level is None:
        return bounds_ms
    return bounds_ms // piece.level * piece.level


def _read(
    reader: MetricReader, series: SelectedSeries, piece: Piece, times: WindowTimes, need: Need
) -> Iterator[tuple[slice, slice, Windows]]:
    """Windows of a piece, as (rows, steps within the piece, windows); bounded in memory."""
    starts, ends = _moved(times.starts_ms, piece), _moved(times.ends_ms, piece)
    for columns in _spans(starts, ends):
        start, end = int(starts[columns.start]), int(ends[columns.stop - 1])
        if start >= end:
            continue
        size = _series_at_once(series, piece.level, end - start)
        for first in range(0, len(series.ids), size):
            rows = slice(first, min(first + size, len(series.ids)))
            runs = _runs(reader, series.ids[rows], piece.level, start, end, need)
            yield rows, columns, Windows(runs, starts[columns], ends[columns])


def _spans(starts: Int64Array, ends: Int64Array) -> Iterator[slice]:
    """Steps whose windows are read together: neighbours that are not far apart."""
    apart = np.flatnonzero(starts[1:] - ends[:-1] > GAP_MS) + 1
    borders = [0, *apart.tolist(), len(ends)]
    for first, stop in pairwise(borders):
        yield slice(first, stop)


def _series_at_once(series: SelectedSeries, level: Level | None, length_ms: int) -> int:
    if level is not None:
        return max(1, RECORDS_AT_ONCE // max(length_ms // level, 1))
    known = [info.interval_ms for info in series.infos[:100] if info.interval_ms]
    each = length_ms // min(known, default=INTERVAL_GUESS_MS) + 1
    return max(1, SAMPLES_AT_ONCE // each)


def _runs(
    reader: MetricReader, ids: Int64Array, level: Level | None, start: int, end: int, need: Need
) -> Runs:
    if level is not None:
        return runs_of_records(ids, reader.records(ids, level, start, end))
    return runs_of_samples(ids, reader.samples(ids, start, end), stale=need is Need.LAST)


def last_value(windows: Windows, _: WindowContext) -> tuple[FloatArray, BoolArray | None]:
    """The value of an instant selector: the last sample, unless it says that the series ended."""
    found = windows.last
    return found, ~is_stale(found)


def last_time(windows: Windows, _: WindowContext) -> tuple[FloatArray, BoolArray | None]:
    """The time of that sample, in seconds."""
    return windows.last_ms / 1000, ~is_stale(windows.last)
