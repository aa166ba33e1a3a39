"""The grammar of one line: a series, its value, and what may stand behind it.

Source: Prometheus, model/textparse/promlex.l and openmetricslex.l. Two of Prometheus' slips in
text are not followed: labels without a comma between them, and raw line feeds inside of a value
are refused. White space before a line and times before 1970 are taken, as the format's own page
says; Prometheus 2.42 refuses them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.metrics.exposition.numbers import (
    ExpositionFormat,
    parse_number,
    parse_timestamp_ms,
)

Pairs = tuple[tuple[str, str], ...]
"""Names and values of labels as they stand in the line, without the metric's name."""

NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
SHOWN_BYTES = 80
"""How much of a wrong line an error quotes."""

LINE_MAX_BYTES = 64 * 1024
"""Of a whole line: four times what labels may have, for escapes, an exemplar, or a HELP."""
REMEMBERED_MAX_BYTES = 512
"""Longer series are not remembered, so that what is remembered stays below 40 MB."""

_LABEL = rb"[a-zA-Z_][a-zA-Z0-9_]*"
_CANONICAL = re.compile(
    rb'(%s)(?:\{((?:%s="[^"\\\n]*"(?:,%s="[^"\\\n]*")*)?)\})?' % (NAME, _LABEL, _LABEL)
)
_PAIR = re.compile(rb'(%s)="([^"\\\n]*)"' % _LABEL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"\\": b"\\", b'"': b'"'}


class SampleLine(NamedTuple):
    """One sample as its line says it."""

    series: bytes
    """The line up to the end of the series: a key for the same series in the next scrape."""
    name: str
    pairs: Pairs
    value: float
    ts_ms: int | None
    exemplar: bool


class _Rules(NamedTuple):
    """Where the formats differ."""

    start: re.Pattern[bytes]
    label: re.Pattern[bytes]
    close: re.Pattern[bytes]
    rest: re.Pattern[bytes]
    """Value, timestamp and exemplar behind the series."""
    trailing_comma: bool


_VALUE = rb'"((?:[^"\\\n]|\\.)*)"'
_RULES = {
    ExpositionFormat.TEXT: _Rules(
        start=re.compile(rb"[ \t]*(%s)[ \t]*(\{)?" % NAME),
        label=re.compile(rb"[ \t]*(%s)[ \t]*=[ \t]*%s[ \t]*(,?)" % (_LABEL, _VALUE)),
        close=re.compile(rb"[ \t]*\}"),
        rest=re.compile(rb"[ \t]*([^{ \t]+)(?:[ \t]+(-?[0-9]+))?[ \t]*()"),
        trailing_comma=True,
    ),
    ExpositionFormat.OPENMETRICS: _Rules(
        start=re.compile(rb"(%s)(\{)?" % NAME),
        label=re.compile(rb"(%s)=%s(,?)" % (_LABEL, _VALUE)),
        close=re.compile(rb"\}"),
        rest=re.compile(rb" ([^ ]+)(?: ([^ #][^ ]*))?( # \{.*)?"),
        trailing_comma=False,
    ),
}
_EXEMPLAR_REST = re.compile(rb" ([^ ]+)(?: ([^ ]+))?")


def parse_series(series: bytes) -> tuple[str, Pairs] | None:
    """Name and labels of a series spelt the usual way; None where it must be read with care.

    Raises:
        UnicodeDecodeError: a label's value is not UTF-8.
    """
    if len(series) <= REMEMBERED_MAX_BYTES:
        return remembered_series(series)
    return remembered_series.__wrapped__(series)


@lru_cache(maxsize=32_768)
def remembered_series(series: bytes) -> tuple[str, Pairs] | None:
    """What `parse_series` says, remembered: targets of one kind have the same series."""
    found = _CANONICAL.fullmatch(series)
    if found is None:
        return None
    inner = found[2]
    pairs = _PAIR.findall(inner) if inner else ()
    return found[1].decode(), tuple([(name.decode(), value.decode()) for name, value in pairs])


def parse_line(line: bytes, number: int, form: ExpositionFormat) -> SampleLine:
    """Read the line of a sample, whatever its spelling.

    Args:
        line: without its line feed.
        number: counted from 1, for the error.
        form: whose rules hold.

    Raises:
        InvalidInputError: the line breaks the grammar.
    """
    rules = _RULES[form]
    start = rules.start.match(line)
    if start is None:
        raise wrong_line(number, line, _unreadable_start(line))
    try:
        pairs, end = _labels(line, start.end(), rules) if start[2] else ((), start.end(1))
    except UnicodeDecodeError as error:
        raise wrong_line(number, line, "UTF-8 in the values of labels") from error
    if end is None:
        raise wrong_line(number, line, 'labels as name="value", between them one comma, then "}"')
    rest = rules.rest.fullmatch(line, end)
    if rest is None or (not start[2] and rest.start(1) == end):
        raise wrong_line(number, line, "one value behind the series, then at most a timestamp")
    value = _number(rest[1], number, line)
    ts_ms = None if rest[2] is None else _timestamp_ms(rest[2], number, line, form)
    if rest[3]:
        check_exemplar(rest[3], number)
    return SampleLine(line[:end], start[1].decode(), pairs, value, ts_ms, bool(rest[3]))


def check_exemplar(text: bytes, number: int) -> None:
    """Check an exemplar, which is not kept: ` # {trace_id="x"} 0.5 1600000000.1`.

    Raises:
        InvalidInputError: it breaks the grammar.
    """
    rules = _RULES[ExpositionFormat.OPENMETRICS]
    try:
        _, end = _labels(text, len(b" # {"), rules)
    except UnicodeDecodeError as error:
        raise wrong_line(number, text, "UTF-8 in the exemplar") from error
    rest = None if end is None else _EXEMPLAR_REST.fullmatch(text, end)
    if rest is None:
        raise wrong_line(number, text, 'an exemplar as # {name="value"} value timestamp')
    for one in filter(None, rest.groups()):
        _number(one, number, text)


def wrong_line(number: int, line: bytes, allowed: str) -> InvalidInputError:
    """The error about one line; it quotes the beginning."""
    shown = line[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return InvalidInputError(f"line {number}", shown, allowed)


def unescape(text: bytes, *, quotes: bool = True) -> bytes:
    r"""Resolve `\\`, `\n` and, with `quotes`, `\"`; any other backslash stands for itself."""
    if b"\\" not in text:
        return text
    known = _ESCAPED if quotes else {b"n": b"\n", b"\\": b"\\"}
    return _ESCAPE.sub(lambda found: known.get(found[1], found[0]), text)


def _labels(line: bytes, position: int, rules: _Rules) -> tuple[Pairs, int | None]:
    """Labels from behind the brace, and where their closing brace ends; None: it is not there."""
    pairs: list[tuple[str, str]] = []
    open_comma = False
    while (found := rules.label.match(line, position)) is not None:
        if pairs and not open_comma:
            return (), None
        pairs.append((found[1].decode(), unescape(found[2]).decode()))
        open_comma = bool(found[3])
        position = found.end()
    close = rules.close.match(line, position)
    if close is None or (open_comma and not rules.trailing_comma):
        return (), None
    return tuple(pairs), close.end()


def _number(text: bytes, number: int, line: bytes) -> float:
    try:
        return parse_number(text)
    except ValueError as error:
        shown = text[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        allowed = f"a number, +Inf, -Inf or NaN; {shown!r} is {error}"
        raise wrong_line(number, line, allowed) from error


def _timestamp_ms(text: bytes, number: int, line: bytes, form: ExpositionFormat) -> int:
    try:
        return parse_timestamp_ms(text, form)
    except ValueError as error:
        unit = "milliseconds" if form is ExpositionFormat.TEXT else "seconds"
        raise wrong_line(number, line, f"a timestamp in {unit} behind the value") from error


def _unreadable_start(line: bytes) -> str:
    if line.lstrip(b" \t").startswith((b"{", b'"')):
        return "a metric's name first; UTF-8 names in quotes are not supported"
    if not line.strip():
        return "no empty line before '# EOF'"
    return "a metric's name of letters, digits, '_' and ':' first"
