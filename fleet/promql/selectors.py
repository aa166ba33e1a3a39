"""What selectors choose: the windows they ask for, the series, and a function of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.errors import TooLargeError
from fleet.metrics.answers import Windows
from fleet.metrics.labels import MatchKind
from fleet.metrics.samples import is_stale
from fleet.ports.metric_store import CodedLabels, SelectedSeries
from fleet.promql.label_table import LabelTable, table_of
from fleet.promql.native_windows import NativeFunction
from fleet.promql.parsing import duration_ms, fixed_ms, matchers_of
from fleet.promql.plan import Need
from fleet.promql.query_context import Context
from fleet.promql.values import Steps, Vector
from fleet.promql.window_answers import Asked, answer_windows
from fleet.promql.window_context import WindowContext, WindowFunction
from fleet.promql.window_reading import WindowTimes

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray


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
    asked = Asked(selector, times._replace(starts_ms=starts), times, function, parameter, native)
    values, present, cells = answer_windows(asked, series, need, context)
    return Vector(_labels(selector, series), values, present, histograms=cells).compact()


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


def last_value(windows: Windows, _: WindowContext) -> tuple[FloatArray, BoolArray | None]:
    """The value of an instant selector: the last sample, unless it says that the series ended."""
    found = windows.last
    return found, ~is_stale(found)


def last_time(windows: Windows, _: WindowContext) -> tuple[FloatArray, BoolArray | None]:
    """The time of that sample, in seconds."""
    return windows.last_ms / 1000, ~is_stale(windows.last)
