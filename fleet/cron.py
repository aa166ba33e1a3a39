"""When a cron expression last came due; five fields, UTC, as crontab(5) means them.

Day of month and day of week, both restricted, mean either. Sunday is 0 and 7.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
ALLOWED = "five fields: minute, hour, day of month, month, day of week, as '30 3 * * *'"


class Cron(NamedTuple):
    """A schedule, taken apart."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    any_day: bool
    any_weekday: bool

    def falls_on(self, day: datetime) -> bool:
        """Whether the schedule comes due on the day of a moment."""
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return in_month and in_week
        return in_month or in_week

    def latest(self, at: datetime, not_before: datetime) -> datetime | None:
        """The last moment at or before `at` when it came due; None when that is too long ago.

        Args:
            at: aware.
            not_before: how far back to look, included.
        """
        at, not_before = at.astimezone(UTC), not_before.astimezone(UTC)
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        while day + timedelta(days=1) > not_before:
            if self.falls_on(day):
                found = self._latest_of(day, at)
                if found is not None:
                    return found if found >= not_before else None
            day -= timedelta(days=1)
        return None

    def _latest_of(self, day: datetime, at: datetime) -> datetime | None:
        for hour in reversed(self.hours):
            for minute in reversed(self.minutes):
                moment = day.replace(hour=hour, minute=minute)
                if moment <= at:
                    return moment
        return None


def parse_cron(field: str, text: str) -> Cron:
    """Take an expression apart.

    Args:
        field: what the error calls it.
        text: five fields of numbers, ranges, lists and steps.

    Raises:
        InvalidInputError: it is none.
    """
    parts = text.split()
    if len(parts) != len(_RANGES):
        raise InvalidInputError(field, text, ALLOWED)
    sets = []
    for part, (low, high) in zip(parts, _RANGES, strict=True):
        values: set[int] = set()
        for item in part.split(","):
            values |= _item(field, text, item, low, high)
        sets.append(values)
    minutes, hours, days, months, weekdays = sets
    return Cron(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset(day % 7 for day in weekdays),
        parts[2].startswith("*"),
        parts[4].startswith("*"),
    )


def _item(field: str, text: str, item: str, low: int, high: int) -> set[int]:
    span, _, step_text = item.partition("/")
    first_text, _, last_text = span.partition("-")
    try:
        step = int(step_text) if "/" in item else 1
        if span == "*":
            first, last = low, high
        else:
            first = int(first_text)
            last = int(last_text) if "-" in span else (high if "/" in item else first)
    except ValueError as error:
        raise InvalidInputError(field, text, ALLOWED) from error
    if step < 1 or not low <= first <= last <= high:
        raise InvalidInputError(field, text, ALLOWED)
    return set(range(first, last + 1, step))
