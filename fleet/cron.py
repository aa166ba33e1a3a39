"""Five-field cron: which minutes of which days, with names, ranges, steps and lists.

Days of the month and of the week are alternatives where both are given, as in every cron since
Vixie's: `0 8 1 * MON` is each Monday and each first of a month. Sunday is 0 and 7.

Source: crontab(5) of Vixie cron 3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

from fleet.errors import InvalidInputError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_HINT = "Five fields: minute hour day-of-month month day-of-week, as in `30 8 * * MON-FRI`."


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Of the values from `low` on."""


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day-of-month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day-of-week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """The wall-clock times of one cron text."""

    text: str
    times: tuple[time, ...]
    """Of a day that counts, ascending."""
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either: bool
    """Both kinds of days are given: one of them is enough."""

    def has_day(self, day: date) -> bool:
        """Whether it occurs on a day."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month or by_week if self.either else by_month and by_week

    def latest(self, at: datetime, not_before: datetime) -> datetime | None:
        """The last moment at or before `at` when it came due, read in UTC.

        Args:
            at: aware.
            not_before: how far back to look, included.

        Returns:
            In UTC; None when that is too long ago.
        """
        at, not_before = at.astimezone(UTC), not_before.astimezone(UTC)
        day = at.date()
        while day >= not_before.date():
            moments = (datetime.combine(day, one, UTC) for one in reversed(self.times))
            found = next((one for one in moments if one <= at), None)
            if found is not None and self.has_day(day):
                return found if found >= not_before else None
            day -= timedelta(days=1)
        return None


@lru_cache(maxsize=1024)
def parse_cron(text: str, field: str = "cron") -> Cron:
    """The times that a cron text names.

    Args:
        text: five fields; `*`, values, `1-5`, `*/15`, `8-18/2`, lists of these, and names.
        field: what an error calls it.

    Raises:
        InvalidInputError: no such text, or days that no year has (30 February).
    """
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise InvalidInputError(field, text, "five fields", hint=_HINT)
    try:
        minutes, hours, days, months, weekdays = map(_values, _FIELDS, parts)
    except _NotOne as error:
        raise InvalidInputError(
            f"{error.what} of {field}", text, error.allowed, hint=_HINT
        ) from None
    either = not parts[2].startswith("*") and not parts[4].startswith("*")
    if not either and not any(day <= _LENGTHS[month - 1] for month in months for day in days):
        raise InvalidInputError(field, text, "a day that exists", hint=_HINT)
    return Cron(
        text,
        tuple(time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)),
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        either,
    )


class _NotOne(Exception):  # noqa: N818 - no error of ours before it names the field
    """What in a text cannot be understood, and what could be."""

    def __init__(self, field: _Field, word: str, allowed: str) -> None:
        super().__init__(word)
        self.what, self.allowed = f"{field.name} {word!r}", allowed


def _values(field: _Field, part: str) -> frozenset[int]:
    """The values of one field."""
    found: set[int] = set()
    for item in part.split(","):
        found.update(_range(field, item))
    return frozenset(found)


def _range(field: _Field, item: str) -> range:
    """The values of one item of a list."""
    span, slash, step_text = item.partition("/")
    step = _number(field, step_text, 1, field.high) if slash else 1
    if span == "*":
        high = 6 if field.names is _DAYS else field.high  # 7 is Sunday again
        return range(field.low, high + 1, step)
    first_text, dash, last_text = span.partition("-")
    first = _value(field, first_text)
    if not dash:
        return range(first, (field.high if slash else first) + 1, step)
    last = _value(field, last_text)
    if field.names is _DAYS and last == 0:
        last = 7  # `FRI-SUN`
    if last < first:
        raise _NotOne(field, item, "a range that rises")
    return range(first, last + 1, step)


def _value(field: _Field, word: str) -> int:
    """A number, or the name of one."""
    if word.upper() in field.names:
        return field.names.index(word.upper()) + field.low
    return _number(field, word, field.low, field.high)


def _number(field: _Field, word: str, low: int, high: int) -> int:
    if not (word.isascii() and word.isdigit() and low <= int(word[:9]) <= high):
        names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
        raise _NotOne(field, word, f"{low} to {high}{names}")
    return int(word)
