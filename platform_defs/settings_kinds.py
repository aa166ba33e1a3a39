"""What a settings value may be: each kind checks a TOML value and reads the same from text.

A kind never guesses: `"5s"` is not 5 seconds, `true` is not 1, an empty list is not "all".
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from fleet.cron import parse_cron
from fleet.errors import InvalidInputError
from fleet.names import is_name
from fleet.retention import parse_calendar_span

NAME_ALLOWED = "a name: letters, digits, '.', '_', '-', beginning and ending with letter or digit"


class RefusedError(ValueError):
    """The value is not of this kind."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value."""

    type_name: str
    """For the table in docs/settings.md."""
    allowed: str
    """Ends the sentence "allowed: ..."."""
    check: Callable[[object], Any]
    """Takes a TOML value, returns the value for the record; raises `RefusedError`."""
    from_text: Callable[[str], object]
    """Takes an environment variable's text, returns a TOML value; raises `ValueError`."""


def whole(low: int, high: int, unit: str = "") -> Kind:
    """A whole number from `low` to `high`, both allowed."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise RefusedError
        return value

    of_unit = f" of {unit}" if unit else ""
    return Kind("integer", f"a whole number{of_unit} from {low} to {high}", check, int)


def number(low: float, high: float, unit: str) -> Kind:
    """A finite number from `low` to `high`, both allowed; whole numbers become floats."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RefusedError
        if not math.isfinite(value) or not low <= value <= high:
            raise RefusedError
        return float(value)

    allowed = f"a number of {unit} from {low:g} to {high:g}, without quotes or unit"
    return Kind("number", allowed, check, float)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise RefusedError
    return value


def text(allowed: str = "a text that is not empty") -> Kind:
    """Any text that is not blank and holds no NUL."""
    return Kind("text", allowed, _text, str)


def optional_text() -> Kind:
    """Any text, also the empty one."""

    def check(value: object) -> str:
        if not isinstance(value, str) or "\x00" in value:
            raise RefusedError
        return value

    return Kind("text", "a text, which may be empty", check, str)


def calendar_span() -> Kind:
    """A span of the calendar as restic writes it, or the empty text for none."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise RefusedError
        try:
            return value and str(parse_calendar_span("", value))
        except InvalidInputError:
            raise RefusedError from None

    return Kind("span", "empty, or numbers with y, m, d, h: 10d or 1y6m", check, str)


def optional_url() -> Kind:
    """An http or https address with a host, or the empty text for none."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise RefusedError
        if not value:
            return value
        try:
            url = urlsplit(value)
            _ = url.port
        except ValueError:
            raise RefusedError from None
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise RefusedError
        return value

    return Kind("URL", "empty, or an address as http://host:port/path", check, str)


def choice(*options: str) -> Kind:
    """One of a few words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            raise RefusedError
        return value

    return Kind("choice", " or ".join(repr(option) for option in options), check, str)


def name() -> Kind:
    """A name as `fleet.names` allows it."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not is_name(value):
            raise RefusedError
        return value

    return Kind("name", NAME_ALLOWED, check, str)


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.split(",")]


def optional_name() -> Kind:
    """A name, or nothing."""

    def check(value: object) -> str:
        if not isinstance(value, str) or (value and not is_name(value)):
            raise RefusedError
        return value

    return Kind("name", f"{NAME_ALLOWED}; or empty", check, str)


def boolean() -> Kind:
    """True or false."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise RefusedError
        return value

    def from_text(value: str) -> object:
        word = value.strip().lower()
        if word not in {"true", "false"}:
            raise ValueError(value)
        return word == "true"

    return Kind("true or false", "true or false, without quotes", check, from_text)


def day() -> Kind:
    """A day of the calendar."""

    def check(value: object) -> str:
        try:
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            raise RefusedError from None

    return Kind("day", "a day as 2025-01-31", check, str)


def cron() -> Kind:
    """Five fields of numbers, names, ranges, lists and steps (`fleet.cron`)."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise RefusedError
        try:
            return " ".join(parse_cron(value).text.split())
        except InvalidInputError:
            raise RefusedError from None

    allowed = "five fields: minute, hour, day of month, month, day of week, as '30 3 * * *'"
    return Kind("cron", allowed, check, str)


_WINDOW_KEYS = {"name", "start", "end", "timezone", "min_replicas", "max_replicas"}


def calendar() -> Kind:
    """A list of tables, each a window of wall-clock time with limits of its own."""
    is_cron, is_named = cron().check, name().check

    def window(table: object) -> dict[str, object]:
        needed = _WINDOW_KEYS - {"max_replicas"}
        if not isinstance(table, dict) or not needed <= table.keys() <= _WINDOW_KEYS:
            raise RefusedError
        is_named(table["name"])
        for one in ("min_replicas", "max_replicas"):
            whole(0, 1_000_000).check(table.get(one, 0))
        return {
            **table,
            "start": is_cron(table["start"]),
            "end": is_cron(table["end"]),
            "timezone": _zone(table["timezone"]),
        }

    def check(value: object) -> tuple[dict[str, object], ...]:
        if not isinstance(value, list | tuple):
            raise RefusedError
        windows = tuple(window(one) for one in value)
        if len({one["name"] for one in windows}) < len(windows):
            raise RefusedError
        return windows

    def from_text(value: str) -> object:
        import json

        return json.loads(value)

    allowed = (
        "a list of tables with name, start and end (cron of five fields), timezone (as "
        "Europe/Berlin), min_replicas and, where it is another, max_replicas; no name twice"
    )
    return Kind("list of tables", allowed, check, from_text)


def _zone(value: object) -> str:
    from zoneinfo import ZoneInfo

    if not isinstance(value, str) or not value:
        raise RefusedError
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):  # a path outside, a folder, a zone that nobody knows
        raise RefusedError from None
    return value


def names() -> Kind:
    """One or more names, none twice."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
            raise RefusedError
        if not all(isinstance(item, str) and is_name(item) for item in value):
            raise RefusedError
        return tuple(value)

    return Kind("list of names", "a list of one or more names, none twice", check, _split)


def models() -> Kind:
    """Names of GPU models as drivers tell them, which have blanks; none twice."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(set(map(str, value))) < len(value):
            raise RefusedError
        return tuple(_text(item) for item in value)

    return Kind("list of texts", "a list of GPU models, none twice; may be empty", check, _split)


def nodes(count_max: int) -> Kind:
    """A number of nodes (they get names), or a list of their names."""

    def check(value: object) -> int | tuple[str, ...]:
        if isinstance(value, list):
            return _named(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= count_max:
            raise RefusedError
        return value

    _named: Callable[[object], tuple[str, ...]] = names().check
    allowed = f"a whole number from 0 to {count_max}, or a list of node names, none twice"

    def from_text(value: str) -> object:
        return int(value) if value.strip().lstrip("-").isdigit() else _split(value)

    return Kind("integer or list of names", allowed, check, from_text)


def words() -> Kind:
    """A program and its arguments; empty means that there is none."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RefusedError
        if any("\x00" in item for item in value) or (value and not value[0].strip()):
            raise RefusedError
        return tuple(value)

    allowed = 'a list of texts: the program and its arguments, such as ["my-agent", "--fast"]'

    def from_text(value: str) -> object:
        import shlex

        return shlex.split(value)

    return Kind("list of texts", allowed, check, from_text)


def text_map() -> Kind:
    """A table of texts."""

    def check(value: object) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise RefusedError
        return dict(value)

    def from_text(value: str) -> object:
        import json

        return json.loads(value)

    return Kind("table of texts", "a table whose values are texts", check, from_text)


_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def function() -> Kind:
    """`package.module:callable`, or nothing."""

    def check(value: object) -> str:
        if not isinstance(value, str) or (value and not _FUNCTION.fullmatch(value)):
            raise RefusedError
        return value

    return Kind("text", "'package.module:callable'", check, str)


def host() -> Kind:
    """An IP address or a host name."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise RefusedError
        try:
            ipaddress.ip_address(value)
        except ValueError:
            labels = value.rstrip(".").split(".")
            if not all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels):
                raise RefusedError from None
            if all(label.isdigit() for label in labels):
                raise RefusedError from None
        return value

    return Kind("text", "an IP address or a host name", check, str)


def store_url() -> Kind:
    """A SQLAlchemy URL of SQLite or PostgreSQL, complete enough to connect."""
    allowed = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"

    def check(value: object) -> str:
        if not isinstance(value, str) or any(c.isspace() for c in value):
            raise RefusedError
        try:
            url = urlsplit(value)
            _ = url.port
        except ValueError:
            raise RefusedError from None
        if url.scheme == "sqlite":
            if not value.startswith("sqlite:///") or len(url.path) < 2 or ":memory:" in value:
                raise RefusedError
        elif url.scheme in {"postgresql", "postgresql+psycopg2"}:
            if not url.hostname or not url.path.strip("/"):
                raise RefusedError
        else:
            raise RefusedError
        return value

    return Kind("URL", allowed, check, str)
