"""Series and values as promtool's rule tests write them: `up{job="api"}` and `0+10x5 _ stale 3x2`.

Source: Prometheus, promql/parser/generated_parser.y (`series_description`).
"""

from __future__ import annotations

import re

from fleet.errors import InvalidInputError
from fleet.metrics.labels import METRIC_NAME, Labels, labels_of
from fleet.metrics.samples import stale_marker

ALLOWED = "values as 1, 1x5, 0+10x5, 9-3x2, _, _x3, stale, NaN, Inf, with spaces between them"
_NUMBER = r"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[iI]nf|[nN]a[nN])"
_ITEM = re.compile(rf"([+-]?{_NUMBER})(?:([+-])({_NUMBER}))?(?:x(\d+))?", re.ASCII)
_BLANK = re.compile(r"_(?:x(\d+))?", re.ASCII)
_VALUES_MAX = 1_000_000
_LABEL = re.compile(
    r"""\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)\s*(,|$)""",
    re.ASCII,
)
_SERIES = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(.*)\})?\s*", re.ASCII | re.DOTALL)


def parse_values(text: str) -> list[float | None]:
    """The values of a series, one per interval; None where there is no sample.

    `AxN` is A and then N times A again, `A+BxN` counts up N times; `_xN` is N gaps.

    Raises:
        InvalidInputError: an item that means nothing, or more values than a test may have.
    """
    values: list[float | None] = []
    for item in text.split():
        blank, found = _BLANK.fullmatch(item), _ITEM.fullmatch(item)
        if item == "stale":
            values.append(stale_marker())
        elif blank is not None:
            values += [None] * _bounded(item, int(blank.group(1) or 1))
        elif found is not None and (found.group(3) is None or found.group(4) is not None):
            first, sign, step, times = found.groups()
            values += _counted(item, first, f"{sign or '+'}{step or 0}", int(times or 0))
        else:
            raise InvalidInputError("values", item, ALLOWED)
        _bounded(item, len(values))
    return values


def _counted(item: str, first: str, step: str, times: int) -> list[float | None]:
    start, rise = _float(first), _float(step)
    found: list[float | None] = [start]
    for _ in range(_bounded(item, times)):
        start += rise
        found.append(start)
    return found


def _float(text: str) -> float:
    """A number; never hexadecimal, since `0x5` is five times nought again."""
    return float(text)


def _bounded(item: str, count: int) -> int:
    if count > _VALUES_MAX:
        raise InvalidInputError("values", item, f"at most {_VALUES_MAX} values of a series")
    return count


def parse_series(text: str) -> Labels:
    """The labels of a series as PromQL writes one: `name{label="value"}`; `{}` has none.

    Raises:
        InvalidInputError: it does not parse.
    """
    found = _SERIES.fullmatch(text)
    if found is None:
        raise InvalidInputError("series", text, 'a series such as up{job="api"}')
    metric, inner = found.group(1) or "", found.group(2) or ""
    pairs: list[tuple[str, str]] = []
    at = 0
    while inner[at:].strip():
        label = _LABEL.match(inner, at)
        if label is None:
            raise InvalidInputError("series", text, 'labels as name="value", with commas')
        pairs.append((label.group(1), _unquoted(label.group(2))))
        at = label.end()
    named = [value for name, value in pairs if name == METRIC_NAME]
    rest = [(name, value) for name, value in pairs if name != METRIC_NAME]
    metric = metric or (named[0] if named else "")
    if metric:
        return labels_of(metric, rest)
    if len({name for name, _ in rest}) != len(rest):
        raise InvalidInputError("series", text, "each label once")
    return tuple(sorted((name, value) for name, value in rest if value))


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    inner = text[1:-1]
    return re.sub(r"\\(.)", lambda found: escapes.get(found.group(1), found.group(1)), inner)
