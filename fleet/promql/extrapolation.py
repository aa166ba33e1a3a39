"""How far a step between samples is extended to the borders of its window.

Samples up to 1.1 average intervals from a border count as reaching it, others half an interval
beyond themselves; a counter never reaches back beyond its zero. The order of operations is
Prometheus', so that results are equal bit by bit.

Source: Prometheus, promql/functions.go (`extrapolatedRate`) of v3.9.1, and v2.42.0 where
`Semantics` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array
    from fleet.promql.window_context import WindowContext


def factors(
    n: Int64Array,
    first_ms: Int64Array,
    last_ms: Int64Array,
    context: WindowContext,
    *,
    is_rate: bool,
    zero: tuple[FloatArray, FloatArray] | None,
) -> FloatArray:
    """What the step from the first to the last sample of each window is multiplied by.

    Args:
        n: samples of each window; with one there is no step, and the factor is not a number.
        first_ms: time of the first sample.
        last_ms: time of the last.
        context: the windows' borders.
        is_rate: whether the result is per second.
        zero: first value and step of counters, which do not reach back beyond their zero; None
            where there is no such bound.
    """
    sampled = (last_ms - first_ms) / 1000
    average = sampled / (n - 1)
    to_start = (first_ms - context.start_ms) / 1000
    to_end = (context.end_ms - last_ms) / 1000
    threshold = average * 1.1
    before, reach = context.semantics.zero_before_threshold, np.full(len(n), np.inf)
    if zero is not None:
        first, step = zero
        reach = np.where((step > 0) & (first >= 0), sampled * (first / step), np.inf)
    if before:
        to_start = np.where(reach < to_start, reach, to_start)
    to_start = np.where(to_start < threshold, to_start, average / 2)
    if not before:
        to_start = np.where(reach < to_start, reach, to_start)
    to_end = np.where(to_end < threshold, to_end, average / 2)
    factor = (sampled + to_start + to_end) / sampled
    if is_rate:
        factor = factor / ((context.end_ms - context.start_ms) / 1000)
    return factor
