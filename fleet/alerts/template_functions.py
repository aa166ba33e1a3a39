"""Functions that templates of rules may call: Prometheus' own, and those of Go's text/template.

What needs a query of its own (`query`, `first`, `value`, ...) is refused by name: an alert that
cannot be told from its labels and its value is two alerts.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from fleet.alerts.durations import parse_duration_ms
from fleet.alerts.go_format import go_float, go_print, go_printf, go_value
from fleet.errors import InvalidInputError

Function = Callable[..., Any]

UNSUPPORTED = frozenset(
    [
        *("query", "first", "value", "strvalue", "label", "sortByLabel", "args", "tmpl"),
        *("template", "define", "block", "range", "break", "continue", "graphLink", "tableLink"),
        *("safeHtml", "pathPrefix", "toTime", "now", "js", "call"),
    ]
)
"""Known to Prometheus or Go, and refused here."""

_LARGE = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_SMALL = ("m", "u", "n", "p", "f", "a", "z", "y")
_LARGE_1024 = ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_NANOSECONDS_MAX = 2.0**63


class TemplateFailedError(Exception):
    """A template cannot be expanded for these values; the text says so in its place."""


def to_float(value: Any) -> float:
    """A number, or the text of one.

    Source: Prometheus, template/template.go (`convertToFloat`).
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TemplateFailedError(f"can't convert {go_value(value)} to float")
    try:
        return float(value)
    except ValueError as error:
        raise TemplateFailedError(f"can't convert {value!r} to float") from error


def humanize(value: Any) -> str:
    """Four digits and a prefix of the SI: `1.234M`."""
    number = to_float(value)
    if number == 0 or not math.isfinite(number):
        return _four(number)
    prefixes, up = (_LARGE, True) if abs(number) >= 1 else (_SMALL, False)
    return _prefixed(number, prefixes, 1000.0, up=up)


def humanize_1024(value: Any) -> str:
    """Four digits and a binary prefix: `1.5Gi`."""
    number = to_float(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return _four(number)
    return _prefixed(number, _LARGE_1024, 1024.0, up=True)


def humanize_duration(value: Any) -> str:
    """Seconds as days, hours, minutes and seconds: `1d 2h 3m 4s`."""
    number = to_float(value)
    if not math.isfinite(number):
        return _four(number)
    if number == 0:
        return "0s"
    if abs(number) < 1:
        return _prefixed(number, _SMALL, 1000.0, up=False) + "s"
    sign, number = ("-", -number) if number < 0 else ("", number)
    total = int(number)
    seconds, minutes, hours = total % 60, total // 60 % 60, total // 3600 % 24
    days = total // 86_400
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_four(number)}s"


def humanize_percentage(value: Any) -> str:
    """A ratio as a percentage: `12.34%`."""
    return f"{_four(to_float(value) * 100)}%"


def humanize_timestamp(value: Any) -> str:
    """Seconds since 1970 as Go prints a time: `2015-10-12 14:41:06.56 +0000 UTC`."""
    number = to_float(value)
    if not math.isfinite(number):
        return _four(number)
    if abs(number * 1e9) >= _NANOSECONDS_MAX:
        raise TemplateFailedError(f"{go_value(number)} cannot be represented as a time")
    ms = int(number * 1e9) // 1_000_000 if number >= 0 else -(-int(number * 1e9) // 1_000_000)
    seconds, rest_ms = divmod(ms, 1000)
    at = datetime.fromtimestamp(seconds, UTC)
    part = f".{rest_ms:03d}".rstrip("0") if rest_ms else ""
    return f"{at:%Y-%m-%d %H:%M:%S}{part} +0000 UTC"


def _prefixed(number: float, prefixes: tuple[str, ...], step: float, *, up: bool) -> str:
    used = ""
    for prefix in prefixes:
        if abs(number) < step if up else abs(number) >= 1:
            break
        used = prefix
        number = number / step if up else number * step
    return _four(number) + used


def _four(number: float) -> str:
    return go_float(number, "g", 4)


def is_true(value: Any) -> bool:
    """What Go's `if` takes for true: not zero, not empty."""
    return bool(value)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateFailedError("missing argument for comparison")
    return any(_comparable(first, other) and first == other for other in others)


def _comparable(first: Any, second: Any) -> bool:
    kinds = {type(first), type(second)}
    if len(kinds) > 1:
        raise TemplateFailedError(
            f"incompatible types for comparison: {go_value(first)} and {go_value(second)}"
        )
    if not kinds <= {bool, int, float, str}:
        raise TemplateFailedError(f"invalid type for comparison: {go_value(first)}")
    return True


def _less(first: Any, second: Any) -> bool:
    _comparable(first, second)
    if isinstance(first, bool):
        raise TemplateFailedError("invalid type for comparison: a boolean has no order")
    return bool(first < second)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if not isinstance(value, Mapping) or not isinstance(key, str):
            raise TemplateFailedError(f"can't index {go_value(value)} with {go_value(key)}")
        value = value.get(key, "")
    return value


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return len(value)
    raise TemplateFailedError(f"len of {go_value(value)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateFailedError(f"wrong type for value; expected string; got {go_value(value)}")
    return value


def _match(pattern: Any, text: Any) -> bool:
    try:
        return re.search(_text(pattern), _text(text)) is not None
    except re.error as error:
        raise TemplateFailedError(f"error parsing regexp {pattern!r}: {error}") from error


def _replace_all(pattern: Any, replacement: Any, text: Any) -> str:
    """Go writes a group as `$1` or `${name}`."""
    form = re.sub(r"\\", r"\\\\", _text(replacement))
    form = re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: f"\\g<{m.group(1) or m.group(2)}>", form)
    try:
        return re.sub(_text(pattern), form.replace("$$", "$"), _text(text))
    except (re.error, IndexError) as error:
        raise TemplateFailedError(f"error in regexp {pattern!r}: {error}") from error


def _title(text: Any) -> str:
    return re.sub(r"(?:^|(?<=[^\w']))\w", lambda found: found.group().upper(), _text(text))


def _strip_port(address: Any) -> str:
    text = _text(address)
    if text.startswith("[") and "]:" in text:
        return text[1:].partition("]")[0]
    host, colon, _ = text.rpartition(":")
    return host if colon and ":" not in host else text


def _strip_domain(address: Any) -> str:
    text = _text(address)
    host, colon, port = text.rpartition(":")
    bare = host if colon else text
    if re.fullmatch(r"[\d.]+|[0-9a-fA-F:\[\]]*:[0-9a-fA-F:\[\]]*", bare):
        return text
    return bare.split(".")[0] + (f":{port}" if colon else "")


def _parse_duration(text: Any) -> float:
    try:
        return parse_duration_ms("duration", _text(text)) / 1000
    except InvalidInputError as error:
        raise TemplateFailedError(str(error)) from error


def _println(*values: Any) -> str:
    return " ".join(go_value(value) for value in values) + "\n"


FUNCTIONS: dict[str, Function] = {
    "humanize": humanize,
    "humanize1024": humanize_1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "title": _title,
    "toUpper": lambda text: _text(text).upper(),
    "toLower": lambda text: _text(text).lower(),
    "match": _match,
    "reReplaceAll": _replace_all,
    "stripPort": _strip_port,
    "stripDomain": _strip_domain,
    "parseDuration": _parse_duration,
    "printf": lambda form, *values: go_printf(_text(form), values),
    "print": lambda *values: go_print(values),
    "println": _println,
    "html": lambda *values: (
        html.escape(go_print(values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    ),
    "urlquery": lambda *values: quote_plus(go_print(values)),
    "len": _length,
    "index": _index,
    "not": lambda value: not is_true(value),
    "eq": _equal,
    "ne": lambda first, second: _comparable(first, second) and first != second,
    "lt": _less,
    "le": lambda first, second: _less(first, second) or first == second,
    "gt": lambda first, second: not _less(first, second) and first != second,
    "ge": lambda first, second: not _less(first, second),
}
"""By name; `and`, `or` and `externalURL` are the evaluator's own."""

ARITY = {
    **dict.fromkeys(
        [
            *("humanize", "humanize1024", "humanizeDuration", "humanizePercentage"),
            *("humanizeTimestamp", "title", "toUpper", "toLower", "stripPort", "stripDomain"),
            *("parseDuration", "len", "not"),
        ],
        1,
    ),
    **dict.fromkeys(["match", "ne", "lt", "le", "gt", "ge"], 2),
    "reReplaceAll": 3,
}
"""How many values each takes, for those that take a fixed number."""
