"""Walking the syntax tree: each node becomes a scalar, vector or text over the query's steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import promql_parser as pp

from fleet.errors import InvalidInputError, TooLargeError
from fleet.metrics.answers import Windows, runs_of_points
from fleet.metrics.labels import Matcher
from fleet.promql import (
    aggregations,
    functions,
    label_functions,
    matching,
    native_operators,
    operators,
)
from fleet.promql.histograms import histogram_quantile
from fleet.promql.native_cells import refused_histograms
from fleet.promql.native_functions import OF_HISTOGRAM, fractions, quantiles
from fleet.promql.native_windows import LAST, LAST_TIME, NATIVE, NativeFunction
from fleet.promql.parsing import duration_ms, matchers_of, unwrapped
from fleet.promql.plan import Need
from fleet.promql.query_context import Context
from fleet.promql.selectors import last_time, last_value, range_vector, window_times
from fleet.promql.values import Scalar, Steps, Text, Vector, empty_vector, merged, single_row
from fleet.promql.window_context import WindowContext, WindowFunction
from fleet.promql.window_functions import OVER_TIME

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray

Value = Scalar | Vector | Text


class Evaluation:
    """One query: evaluates nodes of its tree at steps."""

    def __init__(self, context: Context) -> None:
        """Keep what it is evaluated with."""
        self._context = context

    def value(self, node: Any, steps: Steps) -> Value:
        """What a node is at each step.

        Raises:
            InvalidInputError: it cannot be evaluated.
            TooLargeError: over a limit.
        """
        kind = type(node)
        if kind in _NODES:
            return _NODES[kind](self, node, steps)
        raise InvalidInputError(
            "query",
            node.prettify(),
            "a range only as the argument of a function such as rate",
            hint="Put a function around it, or leave the range out.",
        )

    def vector(self, node: Any, steps: Steps) -> Vector:
        """A node that is a vector of numbers; that it is a vector the parser has checked.

        Raises:
            InvalidInputError: it has native histograms.
        """
        found = self.mixed(node, steps)
        if found.histograms is not None:
            raise refused_histograms(node.prettify())
        return found

    def mixed(self, node: Any, steps: Steps) -> Vector:
        """A node that is a vector, maybe with native histograms."""
        found = self.value(node, steps)
        assert isinstance(found, Vector)
        return found

    def scalar(self, node: Any, steps: Steps) -> Scalar:
        """A node that is a scalar, which the parser has checked."""
        found = self.value(node, steps)
        assert isinstance(found, Scalar)
        return found

    def _text(self, node: Any) -> str:
        inner = unwrapped(node)
        assert isinstance(inner, pp.StringLiteral)
        return str(inner.val)

    def _number(self, node: Any, steps: Steps) -> Scalar:
        return Scalar(np.full(steps.count, float(node.val)))

    def _selector(self, node: Any, steps: Steps) -> Vector:
        return self._instant_selector(node, steps, last_value, LAST)

    def _instant_selector(
        self, node: Any, steps: Steps, function: WindowFunction, native: NativeFunction
    ) -> Vector:
        lookback = self._context.lookback_ms
        nothing = np.zeros(steps.count)
        return range_vector(
            node, lookback, steps, function, nothing, Need.LAST, self._context, native
        )

    def _negative(self, node: Any, steps: Steps) -> Value:
        found = self.value(node.expr, steps)
        if isinstance(found, Scalar):
            return Scalar(-found.values)
        assert isinstance(found, Vector)
        scaled = native_operators.scaled("*", found, Scalar(np.full(steps.count, -1.0)))
        return found.computed(-found.values) if scaled is None else scaled

    def _binary(self, node: Any, steps: Steps) -> Value:
        op, left, right = str(node.op), self.value(node.lhs, steps), self.value(node.rhs, steps)
        how = _matching(node.modifier)
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            values, _ = operators.combined(op, left.values, right.values, as_bool=how.as_bool)
            return Scalar(values)
        if isinstance(left, Vector) and isinstance(right, Vector):
            if op in operators.SETS:
                return matching.set_operation(op, left, right, how)
            text = node.prettify()
            return matching.with_vector(op, left, right, how, self._context.semantics, text)
        scaled = native_operators.scaled(op, left, right)
        if scaled is not None:
            return scaled
        for side, one in ((left, node.lhs), (right, node.rhs)):
            if isinstance(side, Vector) and side.histograms is not None:
                raise refused_histograms(one.prettify())
        if isinstance(left, Vector) and isinstance(right, Scalar):
            return matching.with_scalar(op, left, right, swapped=False, as_bool=how.as_bool)
        assert isinstance(left, Scalar)
        assert isinstance(right, Vector)
        return matching.with_scalar(op, right, left, swapped=True, as_bool=how.as_bool)

    def _aggregation(self, node: Any, steps: Steps) -> Vector:
        op, grouping = str(node.op), _grouping(node.modifier)
        if op in native_operators.AGGREGATED:
            mixed = self.mixed(node.expr, steps)
            if mixed.histograms is not None:
                semantics = self._context.semantics
                return native_operators.aggregate(op, mixed, grouping, semantics)
            return aggregations.aggregate(op, mixed, grouping, self._context.semantics)
        vector = self.vector(node.expr, steps)
        if op in aggregations.AGGREGATED:
            return aggregations.aggregate(op, vector, grouping, self._context.semantics)
        if op == "count_values":
            return aggregations.count_values(self._text(node.param), vector, grouping)
        parameter = self.scalar(node.param, steps)
        if op == "quantile":
            return aggregations.quantile(parameter, vector, grouping)
        return aggregations.best(op, parameter, vector, grouping)

    def _call(self, node: Any, steps: Steps) -> Value:
        name, arguments = node.func.name, list(node.args)
        if name in OVER_TIME:
            return self._over_time(name, arguments, steps)
        if name in functions.ELEMENTWISE:
            vector = self.vector(arguments[0], steps)
            return vector.computed(functions.ELEMENTWISE[name](vector.values))
        if name in functions.CALENDAR:
            return self._calendar(name, arguments, steps)
        if name in OF_HISTOGRAM:
            compute = OF_HISTOGRAM[name]
            return native_operators.computed(
                self.mixed(arguments[0], steps), lambda cells: compute(cells.histograms)
            )
        return _CALLS[name](self, arguments, steps)

    def _calendar(self, name: str, arguments: list[Any], steps: Steps) -> Vector:
        compute = functions.CALENDAR[name]
        if not arguments:
            return single_row(compute(steps.times_ms() / 1000))
        vector = self.vector(arguments[0], steps)
        return vector.computed(compute(vector.values))

    def _over_time(self, name: str, arguments: list[Any], steps: Steps) -> Vector:
        ranges = [one for one in map(unwrapped, arguments) if _is_range(one)]
        scalars = [one for one in arguments if not _is_range(unwrapped(one))]
        node, function = ranges[0], OVER_TIME[name]
        parameter = self.scalar(scalars[0], steps).values if scalars else np.zeros(steps.count)
        if isinstance(node, pp.SubqueryExpr):
            found = self._subquery(node, steps, function.compute, parameter)
        else:
            found = range_vector(
                node.vector_selector,
                duration_ms(node.range),
                steps,
                function.compute,
                parameter,
                function.need,
                self._context,
                NATIVE.get(name),
            )
        if name == "absent_over_time":
            return functions.absent(found.anywhere(), _asked_for(node))
        return found if function.keeps_name else found.nameless()

    def _subquery(
        self, node: Any, steps: Steps, compute: WindowFunction, parameter: FloatArray
    ) -> Vector:
        """A function of windows over what an inner expression is at its own steps.

        Those steps are multiples of the subquery's step since 1970, whatever the outer ones are.
        """
        context = self._context
        times = window_times(node, duration_ms(node.range), steps, context)
        starts = times.starts_ms - int(context.semantics.left_closed)
        each = duration_ms(node.step) or context.subquery_step_ms
        first = (int(np.min(starts)) // each + 1) * each
        count = max((int(np.max(times.ends_ms)) - first) // each + 1, 0)
        if count > context.points_max:
            raise TooLargeError(
                f"{node.prettify()}: {count} steps; at most {context.points_max}",
                hint="Take a longer step in the subquery, or a shorter range.",
            )
        inner_steps = Steps(first, each, max(count, 1))
        inner = self.vector(node.expr, inner_steps) if count else None
        if inner is None or not len(inner):
            return empty_vector(steps.count)
        rows, places = np.nonzero(inner.present)
        offsets = np.searchsorted(rows, np.arange(len(inner) + 1)).astype(np.int64)
        ts_ms = inner_steps.times_ms()[places]
        windows = Windows(
            runs_of_points(offsets, ts_ms, inner.values[rows, places]), starts, times.ends_ms
        )
        step = windows.step
        known = WindowContext(
            times.starts_ms[step],
            times.ends_ms[step],
            times.at_ms[step],
            parameter[step],
            context.semantics,
        )
        values, present = windows.spread(*compute(windows, known))
        return Vector(inner.labels, values, present).compact()

    # --- functions that are neither of windows nor of single values -------------------------------

    def _absent(self, arguments: list[Any], steps: Steps) -> Vector:
        vector = self.mixed(arguments[0], steps)
        return functions.absent(vector.anywhere(), _asked_for(arguments[0]))

    def _timestamp(self, arguments: list[Any], steps: Steps) -> Vector:
        inner = unwrapped(arguments[0])
        if isinstance(inner, pp.VectorSelector):
            return self._instant_selector(inner, steps, last_time, LAST_TIME).nameless()
        vector = self.vector(inner, steps)
        seconds = np.broadcast_to(steps.times_ms() / 1000, vector.values.shape)
        return vector.computed(seconds)

    def _round(self, arguments: list[Any], steps: Steps) -> Vector:
        nearest = Scalar(np.ones(steps.count))
        if len(arguments) > 1:
            nearest = self.scalar(arguments[1], steps)
        return functions.rounded(self.vector(arguments[0], steps), nearest)

    def _clamp(self, arguments: list[Any], steps: Steps) -> Vector:
        vector, low, high = arguments
        return functions.clamped(
            self.vector(vector, steps), self.scalar(low, steps), self.scalar(high, steps)
        )

    def _clamp_min(self, arguments: list[Any], steps: Steps) -> Vector:
        vector, low = arguments
        return functions.clamped(self.vector(vector, steps), self.scalar(low, steps), None)

    def _clamp_max(self, arguments: list[Any], steps: Steps) -> Vector:
        vector, high = arguments
        return functions.clamped(self.vector(vector, steps), None, self.scalar(high, steps))

    def _histogram_quantile(self, arguments: list[Any], steps: Steps) -> Vector:
        q, buckets = self.scalar(arguments[0], steps), self.mixed(arguments[1], steps)
        semantics = self._context.semantics
        numbers = replace(buckets, present=buckets.numbers(), histograms=None)
        found = histogram_quantile(q, numbers.compact(), semantics)
        if buckets.histograms is None:
            return found
        native = native_operators.computed(
            buckets, lambda cells: quantiles(cells.histograms, q.values[cells.steps], semantics)
        )
        return merged(matching.stacked(found, native))

    def _histogram_fraction(self, arguments: list[Any], steps: Steps) -> Vector:
        lower, upper = (self.scalar(one, steps).values for one in arguments[:2])
        semantics = self._context.semantics
        return native_operators.computed(
            self.mixed(arguments[2], steps),
            lambda cells: fractions(
                cells.histograms, lower[cells.steps], upper[cells.steps], semantics
            ),
        )

    def _label_replace(self, arguments: list[Any], steps: Steps) -> Vector:
        texts = [self._text(argument) for argument in arguments[1:]]
        return label_functions.label_replace(self.mixed(arguments[0], steps), *texts)

    def _label_join(self, arguments: list[Any], steps: Steps) -> Vector:
        target, separator, *sources = (self._text(argument) for argument in arguments[1:])
        vector = self.mixed(arguments[0], steps)
        return label_functions.label_join(vector, target, separator, sources)


def _sorting(*, descending: bool) -> Callable[[Evaluation, list[Any], Steps], Value]:
    def call(evaluation: Evaluation, arguments: list[Any], steps: Steps) -> Value:
        vector = evaluation.vector(arguments[0], steps)
        return functions.sorted_by_value(vector, descending=descending)

    return call


_CALLS: dict[str, Callable[[Evaluation, list[Any], Steps], Value]] = {
    "absent": Evaluation._absent,  # noqa: SLF001 - a table of methods
    "timestamp": Evaluation._timestamp,  # noqa: SLF001
    "round": Evaluation._round,  # noqa: SLF001
    "clamp": Evaluation._clamp,  # noqa: SLF001
    "clamp_min": Evaluation._clamp_min,  # noqa: SLF001
    "clamp_max": Evaluation._clamp_max,  # noqa: SLF001
    "histogram_quantile": Evaluation._histogram_quantile,  # noqa: SLF001
    "histogram_fraction": Evaluation._histogram_fraction,  # noqa: SLF001
    "label_replace": Evaluation._label_replace,  # noqa: SLF001
    "label_join": Evaluation._label_join,  # noqa: SLF001
    "sort": _sorting(descending=False),
    "sort_desc": _sorting(descending=True),
    "scalar": lambda self, args, steps: functions.to_scalar(self.vector(args[0], steps)),
    "vector": lambda self, args, steps: functions.to_vector(self.scalar(args[0], steps)),
    "time": lambda _, __, steps: Scalar(steps.times_ms() / 1000),
    "pi": lambda _, __, steps: Scalar(np.full(steps.count, np.pi)),
}


_NODES: dict[Any, Callable[[Evaluation, Any, Steps], Value]] = {
    pp.ParenExpr: lambda self, node, steps: self.value(node.expr, steps),
    pp.NumberLiteral: Evaluation._number,  # noqa: SLF001
    pp.StringLiteral: lambda _, node, __: Text(node.val),
    pp.VectorSelector: Evaluation._selector,  # noqa: SLF001
    pp.UnaryExpr: Evaluation._negative,  # noqa: SLF001
    pp.BinaryExpr: Evaluation._binary,  # noqa: SLF001
    pp.AggregateExpr: Evaluation._aggregation,  # noqa: SLF001
    pp.Call: Evaluation._call,  # noqa: SLF001
}


def _is_range(node: Any) -> bool:
    return isinstance(node, pp.MatrixSelector | pp.SubqueryExpr)


def _asked_for(node: Any) -> Sequence[Matcher]:
    """The matchers of the selector that an absence is about; none for other expressions."""
    if isinstance(node, pp.MatrixSelector):
        return matchers_of(node.vector_selector)
    return matchers_of(node) if isinstance(node, pp.VectorSelector) else ()


def _grouping(modifier: Any) -> aggregations.Grouping:
    if modifier is None:
        return aggregations.Grouping()
    without = modifier.type == pp.AggModifierType.Without
    return aggregations.Grouping(tuple(modifier.labels), without)


def _matching(modifier: Any) -> matching.Matching:
    if modifier is None:
        return matching.Matching()
    many = ""
    if modifier.card == pp.VectorMatchCardinality.ManyToOne:
        many = "left"
    elif modifier.card == pp.VectorMatchCardinality.OneToMany:
        many = "right"
    names = modifier.matching
    return matching.Matching(
        names=() if names is None else tuple(names.labels),
        on=names is not None and names.type == pp.LabelModifierType.Include,
        many=many,
        include=tuple(modifier.group_labels or ()),
        as_bool=bool(modifier.return_bool),
    )
