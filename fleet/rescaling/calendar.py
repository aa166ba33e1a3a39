"""Windows of wall-clock time, by cron and time zone, in which a workload has other limits.

A window is open from an occurrence of its start to the next occurrence of its end. Its floor begins
earlier, by as long as a replica takes to start, so that the replicas are there when it opens. Of
several open windows the highest floor counts, and the highest maximum.

Wall-clock times that a change of the clocks skips count as the first moment after it; those that
come twice count the first time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fleet.cron import Cron, parse_cron
from fleet.errors import InvalidInputError
from fleet.rescaling.policy import CalendarWindow

LIMITS_HINT = "docs/rescaling.md, section Calendars, has examples."


class CalendarLimits(NamedTuple):
    """The limits that windows ask for at one moment."""

    floor: int
    """0 where no window is open."""
    maximum: int | None
    """None: the autoscaler's own."""
    reason: str
    """The window that counts, in words; empty where none is open."""


class WindowState(NamedTuple):
    """One window at one moment."""

    is_open: bool
    opened_at: datetime | None
    """Of the one that is open."""
    opens_at: datetime
    """The next occurrence of its start."""


def check_window(window: CalendarWindow) -> None:
    """Refuse a window that cannot be understood.

    Raises:
        InvalidInputError: its cron, its zone, or its limits; correct the settings.
    """
    for cron in (window.start_cron, window.end_cron):
        parse_cron(cron)
    zone_of(window.timezone)
    if window.min_replicas < 0:
        field = f"min_replicas of window {window.name}"
        raise InvalidInputError(field, window.min_replicas, "0 or more", hint=LIMITS_HINT)
    if window.max_replicas is not None and window.max_replicas < max(window.min_replicas, 1):
        field = f"max_replicas of window {window.name}"
        allowed = f"1 or more, and min_replicas, which is {window.min_replicas}, or more"
        raise InvalidInputError(field, window.max_replicas, allowed, hint=LIMITS_HINT)


def calendar_limits(
    windows: Iterable[CalendarWindow], own_maximum: int, now: datetime, lead_s: float = 0.0
) -> CalendarLimits:
    """The limits that hold now: of windows that are open, or open within the lead.

    Args:
        windows: in any order; overlaps are legal.
        own_maximum: of the autoscaler, for windows without one.
        now: aware.
        lead_s: how long a replica takes to start, seconds.

    Raises:
        InvalidInputError: a window that `check_window` refuses.
    """
    found = [
        (window, reason)
        for window in windows
        if (reason := _open_or_near(window, now, lead_s)) is not None
    ]
    if not found:
        return CalendarLimits(0, None, "")
    leading, reason = max(found, key=lambda one: one[0].min_replicas)
    maximum = max(
        own_maximum if window.max_replicas is None else window.max_replicas for window, _ in found
    )
    return CalendarLimits(leading.min_replicas, maximum, reason)


def _open_or_near(window: CalendarWindow, now: datetime, lead_s: float) -> str | None:
    """Why a window counts now, in words; None where it does not."""
    check_window(window)
    state = window_state(window, now)
    if state.is_open:
        return f"window {window.name} is open ({window.start_cron} {window.timezone})"
    near_s = (state.opens_at - now).total_seconds()
    if near_s <= lead_s:
        return f"window {window.name} opens in {near_s:.0f} s, a start takes {lead_s:.0f} s"
    return None


def window_state(window: CalendarWindow, now: datetime) -> WindowState:
    """Whether a window is open at a moment, and when it opens next."""
    zone = zone_of(window.timezone)
    start, end = parse_cron(window.start_cron), parse_cron(window.end_cron)
    opens_at = next_occurrence(start, zone, now)
    opened_at = last_occurrence(start, zone, now)
    is_open = next_occurrence(end, zone, opened_at) > now
    return WindowState(is_open, opened_at if is_open else None, opens_at)


def next_occurrence(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime:
    """The first occurrence later than a moment, in UTC; every cron that was read has one."""
    day = after.astimezone(zone).date() - timedelta(days=1)
    while True:
        if cron.has_day(day):
            index = _passed(cron.times, day, zone, after)
            if index < len(cron.times):
                return instant_of(day, cron.times[index], zone)
        day += timedelta(days=1)


def last_occurrence(cron: Cron, zone: ZoneInfo, until: datetime) -> datetime:
    """The last occurrence up to and including a moment, in UTC."""
    day = until.astimezone(zone).date() + timedelta(days=1)
    while True:
        if cron.has_day(day):
            index = _passed(cron.times, day, zone, until)
            if index:
                return instant_of(day, cron.times[index - 1], zone)
        day -= timedelta(days=1)


def _passed(times: Sequence[time], day: date, zone: ZoneInfo, until: datetime) -> int:
    """How many times of a day are over at a moment."""
    return bisect_right(times, until, key=lambda at: instant_of(day, at, zone))


def instant_of(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The moment of a wall-clock time, in UTC.

    One that the clocks skip is the end of the gap; one that comes twice is the first.
    """
    wall = datetime.combine(day, at, tzinfo=zone)
    before, after = wall.utcoffset(), wall.replace(fold=1).utcoffset()
    assert before is not None, "a zone has an offset"
    assert after is not None, "a zone has an offset"
    instant = wall.astimezone(UTC)
    return _end_of_gap(instant, after - before, zone) if after > before else instant


def _end_of_gap(instant: datetime, gap: timedelta, zone: ZoneInfo) -> datetime:
    """The moment at which the clocks went forward, to the second.

    `instant` is what the skipped time would be by the old offset: less than `gap` after it.
    """
    low, high = 0, int(gap.total_seconds())  # seconds before `instant`; the change is within
    after = instant.astimezone(zone).utcoffset()
    while low < high:
        middle = (low + high + 1) // 2
        if (instant - timedelta(seconds=middle)).astimezone(zone).utcoffset() == after:
            low = middle
        else:
            high = middle - 1
    return instant - timedelta(seconds=low)


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        InvalidInputError: there is none; names the nearest.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        from difflib import get_close_matches
        from zoneinfo import available_timezones

        near = get_close_matches(name, sorted(available_timezones()), n=1)
        meant = f"Did you mean {near[0]}?" if near else "Examples: UTC, Europe/Berlin."
        raise InvalidInputError("timezone", name, "an IANA time zone", hint=meant) from error
