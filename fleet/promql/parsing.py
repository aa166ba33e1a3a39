"""From text to syntax tree, and the refusal of everything that is not answered.

The parser is Prometheus' grammar; its tree carries no positions, so that those named in errors are
looked up in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import promql_parser as pp

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind, compiled

QUERY_MAX_BYTES = 16 * 1024
"""Length of an expression: far above what people and generators write."""
NESTING_MAX = 64
"""Parentheses, calls and operators within one another; the parser recurses over them."""
PARSED_MAX = 256
"""Expressions whose trees are kept: those of all shipped rules and dashboards, and as many more."""

PREFIXES_TRIED = 100
"""Beginnings of a text that does not parse, of which the longest that does is looked for."""

AGGREGATIONS = frozenset(
    {"sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk"}
    | {"quantile", "count_values"}
)
FUNCTIONS = frozenset(
    [
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "resets",
        "changes",
        "deriv",
        "predict_linear",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "sum_over_time",
        "count_over_time",
        "last_over_time",
        "first_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "quantile_over_time",
        "present_over_time",
        "absent_over_time",
        "histogram_quantile",
        "histogram_fraction",
        "histogram_count",
        "histogram_sum",
        "histogram_avg",
        "absent",
        "scalar",
        "vector",
        "time",
        "timestamp",
        "sort",
        "sort_desc",
        "label_replace",
        "label_join",
        "abs",
        "ceil",
        "floor",
        "round",
        "clamp",
        "clamp_min",
        "clamp_max",
        "exp",
        "ln",
        "log2",
        "log10",
        "sqrt",
        "sgn",
        "pi",
        "deg",
        "rad",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "minute",
        "hour",
        "day_of_week",
        "day_of_month",
        "day_of_year",
        "days_in_month",
        "month",
        "year",
    ]
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|#[^\n]*', re.DOTALL)
_TOKEN = re.compile(r"[a-zA-Z0-9_:.]+|\S")
_NAMED = re.compile(r"'([a-zA-Z_:][a-zA-Z0-9_:]*)'")
_SECONDS = re.compile(
    r"(@|\[|\boffset\b)\s*([+-]?)\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![a-zA-Z0-9_.])"
)
"""A moment or a length of time without a unit."""
_SECONDS_MAX = 2.0**64
_TIMES = "times from 1970 on, and lengths of time that can be counted"
_KINDS = (
    (pp.MatchOp.Equal, MatchKind.EQUAL),
    (pp.MatchOp.NotEqual, MatchKind.NOT_EQUAL),
    (pp.MatchOp.Re, MatchKind.REGEX),
    (pp.MatchOp.NotRe, MatchKind.NOT_REGEX),
)


@lru_cache(maxsize=PARSED_MAX)
def parse(text: str) -> Any:
    """The syntax tree of an expression, all of which is supported.

    Returns:
        A node of `promql_parser`, which nobody can change: rules and dashboards ask the same again
        and again, so trees are kept.

    Raises:
        InvalidInputError: the text does not parse, or uses what is not answered here; the message
            names it and its position.
    """
    if len(text.encode(errors="replace")) > QUERY_MAX_BYTES:
        raise InvalidInputError("query", f"{text[:60]}...", f"at most {QUERY_MAX_BYTES} bytes")
    masked = _masked(text)
    _check_nesting(text, masked)
    _check_seconds(text, masked)
    try:
        with _panics_refused(text):
            tree = pp.parse(text)
    except ValueError as error:
        raise _unparsable(text, masked, str(error)) from error
    for node in walked(tree):
        _check(node, text, masked)
        with _panics_refused(text):
            _check_times(node, text)
    return tree


@contextmanager
def _panics_refused(text: str) -> Iterator[None]:
    """Refuse what the parser panics at: numbers that are no length of time.

    Its panic is no `Exception`, and its class cannot be imported.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidInputError("query", text, _TIMES) from error


def _check_seconds(text: str, masked: str) -> None:
    """Refuse plain seconds that the parser would panic at, and print so where people read."""
    for word, sign, number in _SECONDS.findall(masked):
        seconds = float(number)
        if seconds >= _SECONDS_MAX or (word == "@" and sign == "-" and seconds > 0):
            raise InvalidInputError("query", text, _TIMES)


def _check_times(node: Any, text: str) -> None:
    """Refuse lengths and moments that neither the parser nor a date can hold."""
    try:
        for name in ("offset", "range", "step"):
            duration_ms(getattr(node, name, None))
        if getattr(node, "at", None) is not None:
            fixed_ms(node, 0, 0)
    except (ValueError, OverflowError) as error:
        allowed = "moments between 1970 and 9999, and lengths of time that can be counted"
        raise InvalidInputError("query", text, allowed) from error


def _masked(text: str) -> str:
    """The text with quoted parts and comments blanked, so that names are found in code only."""
    return _QUOTED.sub(lambda found: " " * len(found[0]), text)


def _check_nesting(text: str, masked: str) -> None:
    depth = signs = 0
    for at, mark in enumerate(masked):
        depth += (mark in "([{") - (mark in ")]}")
        signs = signs + 1 if mark in "+-" else signs if mark.isspace() else 0
        if depth > NESTING_MAX or signs > NESTING_MAX:
            raise InvalidInputError(
                "query",
                text[max(at - 20, 0) : at + 1],
                f"at most {NESTING_MAX} levels of nesting; position {at} is deeper",
            )


def _unparsable(text: str, masked: str, message: str) -> InvalidInputError:
    """The parser's message, with the position of what it names where the text shows it."""
    named = _NAMED.search(message)
    at = _position(masked, named[1], is_call="function" in message) if named else None
    if at is not None:
        where = f" (position {at})"
    else:
        until = _parsed_until(text, masked)
        where = f"; it makes sense up to position {until}" if until else ""
    return InvalidInputError(
        "query",
        text,
        f"PromQL; {message}{where}",
        hint="docs/promql.md lists the functions, aggregations and operators that are answered.",
    )


def _parsed_until(text: str, masked: str) -> int:
    """Length of the longest beginning that parses by itself; 0 for none."""
    ends = [found.end() for found in _TOKEN.finditer(masked)]
    for end in reversed(ends[-PREFIXES_TRIED:]):
        try:
            with _panics_refused(text):
                pp.parse(text[:end])
        except (ValueError, InvalidInputError):
            continue
        return end
    return 0


def _position(masked: str, name: str, *, is_call: bool = False) -> int | None:
    behind = r"\s*\(" if is_call else ""
    pattern = rf"(?<![a-zA-Z0-9_:]){re.escape(name)}(?![a-zA-Z0-9_:]){behind}"
    found = re.search(pattern, masked)
    return None if found is None else found.start()


def walked(tree: Any) -> Iterator[Any]:
    """Every node of a tree, outer ones first.

    Raises:
        InvalidInputError: it is nested deeper than `NESTING_MAX` operators.
    """
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > 4 * NESTING_MAX:
            raise InvalidInputError(
                "query", node.prettify()[:60], f"at most {4 * NESTING_MAX} operators in one another"
            )
        yield node
        waiting.extend((child, depth + 1) for child in reversed(children(node)))


def children(node: Any) -> list[Any]:
    """The expressions directly inside a node, in the order they are written."""
    if isinstance(node, pp.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, pp.AggregateExpr):
        return [node.expr] if node.param is None else [node.param, node.expr]
    if isinstance(node, pp.Call):
        return list(node.args)
    if isinstance(node, pp.UnaryExpr | pp.ParenExpr | pp.SubqueryExpr):
        return [node.expr]
    if isinstance(node, pp.MatrixSelector):
        return [node.vector_selector]
    return []


def _check(node: Any, text: str, masked: str) -> None:
    if isinstance(node, pp.Call) and node.func.name not in FUNCTIONS:
        raise _unsupported(text, masked, node.func.name, "function", FUNCTIONS)
    if isinstance(node, pp.AggregateExpr) and str(node.op) not in AGGREGATIONS:
        raise _unsupported(text, masked, str(node.op), "aggregation", AGGREGATIONS)
    if isinstance(node, pp.BinaryExpr) and node.modifier is not None:
        fill = node.modifier.fill_values
        if fill.lhs is not None or fill.rhs is not None:
            raise _unsupported(text, masked, "fill", "modifier", {"on", "ignoring", "bool"})
    if isinstance(node, pp.VectorSelector):
        if node.matchers.or_matchers:
            raise _unsupported(text, masked, "or", "alternative among matchers", {","})
        for matcher in matchers_of(node):
            if matcher.kind in {MatchKind.REGEX, MatchKind.NOT_REGEX}:
                compiled(matcher.name, matcher.value)


def _unsupported(
    text: str, masked: str, name: str, kind: str, allowed: frozenset[str] | set[str]
) -> InvalidInputError:
    from difflib import get_close_matches

    at = _position(masked, name, is_call=kind == "function")
    near = get_close_matches(name, sorted(allowed), n=1)
    meant = f"; the nearest is {near[0]}" if near else ""
    return InvalidInputError(
        "query",
        text,
        f"PromQL without the {kind} {name!r} at position {at}, which is not supported{meant}",
        hint="docs/promql.md lists the functions, aggregations and operators that are answered.",
    )


def matchers_of(selector: Any) -> tuple[Matcher, ...]:
    """The conditions of a selector, that on the metric's name among them."""
    found = [Matcher(one.name, _kind(one.op), one.value) for one in selector.matchers.matchers]
    if selector.name is not None:
        found.insert(0, Matcher(METRIC_NAME, MatchKind.EQUAL, selector.name))
    return tuple(found)


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """The matchers of a selector such as `up{job="node"}`.

    Raises:
        InvalidInputError: it does not parse, or is another expression.
    """
    tree = parse(text)
    if not isinstance(tree, pp.VectorSelector) or tree.offset is not None or tree.at is not None:
        raise InvalidInputError("selector", text, 'a selector, such as up{job="node"}')
    return matchers_of(tree)


def _kind(op: Any) -> MatchKind:
    """The kind of a matcher; the parser's are not hashable."""
    return next(kind for known, kind in _KINDS if known == op)


def duration_ms(length: timedelta | None) -> int:
    """A duration of the parser in milliseconds; 0 for None."""
    return 0 if length is None else length // _MS


def fixed_ms(node: Any, start_ms: int, end_ms: int) -> int | None:
    """The moment that `@` pins a selector or subquery to; None without `@`.

    Args:
        node: the selector or subquery.
        start_ms: start of the whole query, for `@ start()`.
        end_ms: its end.
    """
    if node.at is None:
        return None
    if node.at.type == pp.AtModifierType.Start:
        return start_ms
    if node.at.type == pp.AtModifierType.End:
        return end_ms
    at: datetime = node.at.at
    return round((at - _EPOCH) / _MS)


def unwrapped(node: Any) -> Any:
    """What parentheses hold."""
    while isinstance(node, pp.ParenExpr):
        node = node.expr
    return node
