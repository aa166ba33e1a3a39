"""A query engine in a few lines, over samples in memory: selectors, comparisons, sums, `absent`.

The twin of the real engine for tests of rules alone; it knows no ranges, and refuses what it does
not know.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import promql_parser as promql

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, Labels, Matcher, MatchKind
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.samples import is_stale
from fleet.metrics.vectors import InstantVector

LOOKBACK_MS = 300_001
"""Prometheus 2.x still sees a sample that is exactly five minutes old; 3.x does not."""
Elements = dict[Labels, float]

_KINDS = {
    "MatchOp.Equal": MatchKind.EQUAL,
    "MatchOp.NotEqual": MatchKind.NOT_EQUAL,
    "MatchOp.Re": MatchKind.REGEX,
    "MatchOp.NotRe": MatchKind.NOT_REGEX,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.copysign(math.inf, a) if a else math.nan,
}
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "count": lambda values: float(len(values)),
}


class SmallEngine:
    """Answers instant queries from `MemorySeries`."""

    def __init__(self, series: MemorySeries) -> None:
        """Read these."""
        self._series = series

    def instant(self, expr: str, at_ms: int) -> InstantVector:
        """See the port."""
        try:
            tree = promql.parse(expr)
        except ValueError as error:
            raise InvalidInputError("expr", expr, str(error)) from error
        found = self._elements(tree, at_ms)
        if isinstance(found, float):
            found = {(): found}
        return InstantVector(list(found), np.array(list(found.values()), np.float64), at_ms)

    def _elements(self, tree: Any, at_ms: int) -> Elements | float:
        if isinstance(tree, promql.NumberLiteral):
            return float(tree.val)
        if isinstance(tree, promql.ParenExpr):
            return self._elements(tree.expr, at_ms)
        if isinstance(tree, promql.VectorSelector):
            return self._selected(tree, at_ms)
        if isinstance(tree, promql.Call) and tree.func.name == "absent":
            return self._absent(tree.args[0], at_ms)
        if isinstance(tree, promql.AggregateExpr):
            return self._aggregated(tree, at_ms)
        if isinstance(tree, promql.BinaryExpr):
            return self._binary(tree, at_ms)
        raise InvalidInputError("expr", str(tree), "what this small engine knows")

    def _selected(self, tree: Any, at_ms: int) -> Elements:
        found = self._series.select(_matchers(tree), at_ms - LOOKBACK_MS, at_ms)
        batch = self._series.samples(found.ids, at_ms - LOOKBACK_MS, at_ms)
        last: Elements = {}
        stale = is_stale(batch.values)
        for identity, value, ended in zip(
            batch.series_ids.tolist(), batch.values.tolist(), stale.tolist(), strict=True
        ):
            labels = batch.series[identity].labels
            last.pop(labels, None)
            if not ended:
                last[labels] = value
        return last

    def _absent(self, tree: Any, at_ms: int) -> Elements:
        if self._elements(tree, at_ms):
            return {}
        equal = {one.name: one.value for one in _matchers(tree) if one.kind == MatchKind.EQUAL}
        equal.pop(METRIC_NAME, None)
        return {tuple(sorted(equal.items())): 1.0}

    def _aggregated(self, tree: Any, at_ms: int) -> Elements:
        inner = self._elements(tree.expr, at_ms)
        assert isinstance(inner, dict)
        by = set(tree.modifier.labels) if tree.modifier else set()
        groups: dict[Labels, list[float]] = {}
        for labels, value in inner.items():
            groups.setdefault(tuple(one for one in labels if one[0] in by), []).append(value)
        return {key: _AGGREGATES[str(tree.op)](values) for key, values in groups.items()}

    def _binary(self, tree: Any, at_ms: int) -> Elements | float:
        left, right = self._elements(tree.lhs, at_ms), self._elements(tree.rhs, at_ms)
        mark = str(tree.op)
        assert isinstance(left, dict), "a vector on the left"
        if mark in {"and", "or", "unless"}:
            assert isinstance(right, dict)
            keys = {_bare(labels) for labels in right}
            wanted = mark == "and"
            kept = {k: v for k, v in left.items() if (_bare(k) in keys) == wanted or mark == "or"}
            mine = {_bare(labels) for labels in left}
            return kept | (
                {k: v for k, v in right.items() if _bare(k) not in mine} if mark == "or" else {}
            )
        others = {} if isinstance(right, float) else {_bare(k): v for k, v in right.items()}
        result: Elements = {}
        for labels, value in left.items():
            other = right if isinstance(right, float) else others.get(_bare(labels))
            if other is None:
                continue
            if mark in _COMPARE:
                if _COMPARE[mark](value, other):
                    result[labels] = value
            else:
                result[_bare(labels)] = _ARITHMETIC[mark](value, other)
        return result


def _bare(labels: Labels) -> Labels:
    return tuple(one for one in labels if one[0] != METRIC_NAME)


def _matchers(tree: Any) -> list[Matcher]:
    found = [Matcher(one.name, _KINDS[str(one.op)], one.value) for one in tree.matchers.matchers]
    if tree.name:
        found.append(Matcher(METRIC_NAME, MatchKind.EQUAL, tree.name))
    return found
