"""The engine: an expression and moments in, an answer out that says how it came about."""

from __future__ import annotations

from typing import Any

import numpy as np

from fleet.errors import InvalidInputError, TooLargeError
from fleet.metrics.levels import MINUTE_MS
from fleet.metrics.vectors import InstantVector
from fleet.ports.metric_store import MetricReader
from fleet.promql.answer import Answer, AnswerKind
from fleet.promql.evaluation import Evaluation, Value
from fleet.promql.parsing import parse
from fleet.promql.query_context import Context
from fleet.promql.semantics import PROMETHEUS_3, Semantics
from fleet.promql.values import Scalar, Steps, Text

LOOKBACK_MS = 5 * MINUTE_MS
"""How old a sample an instant selector takes. Source: Prometheus, --query.lookback-delta."""
SUBQUERY_STEP_MS = MINUTE_MS
"""Step of subqueries without one. Source: Prometheus, its default evaluation interval."""
STEPS_MAX = 11_000
"""Steps of a range query. Source: Prometheus' HTTP API."""
POINTS_MAX = 20_000_000
"""Rows x steps of one intermediate result: 180 MB of values and presence."""

ROWS_MAX = 1_000_000
"""Elements of an answer, each with its labels: 1 KB. What is computed within may be more."""


class PromqlEngine:
    """Answers PromQL from a store of raw samples and rollups; satisfies the port `QueryEngine`."""

    def __init__(
        self,
        reader: MetricReader,
        *,
        semantics: Semantics = PROMETHEUS_3,
        lookback_ms: int = LOOKBACK_MS,
        subquery_step_ms: int = SUBQUERY_STEP_MS,
        points_max: int = POINTS_MAX,
        rows_max: int = ROWS_MAX,
    ) -> None:
        """Keep what queries read and the rules they follow.

        Args:
            reader: the store.
            semantics: in what versions of Prometheus differ.
            lookback_ms: how old a sample an instant selector takes.
            subquery_step_ms: step of subqueries that name none.
            points_max: rows x steps of one intermediate result; more is refused.
            rows_max: elements of an answer; more is refused.
        """
        self._reader = reader
        self._semantics = semantics
        self._lookback_ms = lookback_ms
        self._subquery_step_ms = subquery_step_ms
        self._points_max = points_max
        self._rows_max = rows_max

    def instant(self, expr: str, at_ms: int) -> InstantVector:
        """The value of an expression at a moment; a scalar is one element without labels.

        Raises:
            InvalidInputError: the expression does not parse, cannot be evaluated, or is a text.
            TooLargeError: over a limit on series or samples.
            TransientError: the samples cannot be read now.
        """
        answer = self.answer(expr, at_ms)
        if answer.kind is AnswerKind.STRING:
            raise InvalidInputError("query", expr, "an expression that is a vector or a scalar")
        return InstantVector(answer.labels, answer.values[:, 0], at_ms)

    def answer(self, expr: str, at_ms: int) -> Answer:
        """The value of an expression at a moment, with the levels that answered.

        Raises:
            InvalidInputError, TooLargeError, TransientError: as `instant`.
        """
        return self._evaluated(expr, Steps(at_ms, 1, 1))

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> Answer:
        """The values of an expression at start, start + step, ... up to and with end.

        Raises:
            InvalidInputError: the times make no range; or as `instant`.
            TooLargeError: more than `STEPS_MAX` steps; or as `instant`.
            TransientError: the samples cannot be read now.
        """
        if step_ms < 1:
            raise InvalidInputError("step", f"{step_ms} ms", "at least 1 ms")
        if end_ms < start_ms:
            raise InvalidInputError("end", end_ms, f"a time not before start ({start_ms})")
        count = (end_ms - start_ms) // step_ms + 1
        if count > STEPS_MAX:
            raise TooLargeError(
                f"{count} steps; at most {STEPS_MAX}", hint="Take a longer step or a shorter time."
            )
        return self._evaluated(expr, Steps(start_ms, step_ms, count), end_ms)

    def _evaluated(self, expr: str, steps: Steps, end_ms: int | None = None) -> Answer:
        tree = parse(expr)
        context = Context(
            self._reader,
            self._semantics,
            self._lookback_ms,
            self._subquery_step_ms,
            self._points_max,
            steps.start_ms,
            steps.start_ms if end_ms is None else end_ms,
            [],
        )
        # infinities and NaN are values of PromQL, not accidents
        with np.errstate(all="ignore"):
            value = Evaluation(context).value(tree, steps)
        return _answer(expr, steps, value, context, self._rows_max)


def _answer(expr: str, steps: Steps, value: Value, context: Context, rows_max: int) -> Answer:
    times, uses = steps.times_ms(), tuple(context.uses)
    if isinstance(value, Text):
        nothing: Any = np.empty((0, steps.count))
        present = nothing.astype(np.bool_)
        return Answer(expr, AnswerKind.STRING, times, (), nothing, present, uses, value.value)
    if isinstance(value, Scalar):
        row = value.values[None, :]
        there = np.ones(row.shape, np.bool_)
        return Answer(expr, AnswerKind.SCALAR, times, ((),), row, there, uses)
    found = value.compact()
    if found.histograms is not None:
        raise InvalidInputError(
            "query",
            expr,
            "an expression that is numbers; this one is native histograms",
            hint="Put histogram_quantile, histogram_count, histogram_sum, histogram_avg or "
            "histogram_fraction around it.",
        )
    if len(found) > rows_max:
        raise TooLargeError(
            f"the answer has {len(found)} elements; at most {rows_max}",
            hint="Aggregate (sum by, max by, topk), or add matchers that leave fewer series.",
        )
    labels = found.labels.all_labels()
    return Answer(expr, AnswerKind.VECTOR, times, labels, found.values, found.present, uses)
