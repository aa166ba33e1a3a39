"""Cron, time zones and windows: every golden time was read off a calendar, not computed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.cron import parse_cron
from fleet.errors import InvalidInputError
from fleet.rescaling.calendar import (
    calendar_limits,
    check_window,
    last_occurrence,
    next_occurrence,
    window_state,
    zone_of,
)
from fleet.rescaling.policy import CalendarWindow
from tests.examples import examples

OFFICE = CalendarWindow("office", "0 8 * * MON-FRI", "0 18 * * MON-FRI", "Europe/Berlin", 5)


def utc(text: str) -> datetime:
    """A moment."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "2026-11-21 12:00", "2026-11-21 12:15"),
        ("30 8 * * MON-FRI", "UTC", "2026-11-20 08:30", "2026-11-23 08:30"),  # a Friday
        ("0 0 29 2 *", "UTC", "2026-11-21 12:00", "2028-02-29 00:00"),
        ("0 0 29 FEB *", "UTC", "2096-03-01 00:00", "2104-02-29 00:00"),  # 2100 is no leap year
        ("0 9 1 * mon", "UTC", "2026-11-21 12:00", "2026-11-23 09:00"),  # either kind of day
        ("0 9 1 * mon", "UTC", "2026-11-30 09:00", "2026-12-01 09:00"),
        ("0 9 */2 * MON", "UTC", "2026-11-21 12:00", "2026-11-23 09:00"),  # a star is no choice
        ("0 12 * * 7", "UTC", "2026-11-21 12:00", "2026-11-22 12:00"),
        ("0 12 * * fri-sun", "UTC", "2026-11-22 12:00", "2026-11-27 12:00"),
        ("0 8-18/5,23 * * *", "UTC", "2026-11-21 13:00", "2026-11-21 18:00"),
        ("5/20 * * * *", "UTC", "2026-11-21 12:25", "2026-11-21 12:45"),
        ("0 8 * * *", "Europe/Berlin", "2026-11-21 12:00", "2026-11-22 07:00"),
        ("0 8 * * *", "Asia/Kolkata", "2026-11-21 12:00", "2026-11-22 02:30"),
        # the clocks skip 02:00 to 03:00 in Berlin on 29 March, at 01:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00"),
        ("0 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29 01:00", "2026-03-30 00:30"),
        # 02:00 to 03:00 comes twice in Berlin on 25 October, first from 00:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-26 01:30"),
        ("0 3 * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-25 02:00"),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00", "2026-10-03 15:30"),  # 30 minutes
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29 00:00", "2011-12-30 10:00"),  # a whole day
    ],
)
def test_the_next_occurrence_is_the_one_of_the_calendar(
    text: str, zone: str, after: str, expected: str
) -> None:
    """Names, ranges, steps, leap years, both kinds of days, and days on which clocks change."""
    found = next_occurrence(parse_cron(text), zone_of(zone), utc(after))

    assert found == utc(expected)
    assert last_occurrence(parse_cron(text), zone_of(zone), found) == found
    before = last_occurrence(parse_cron(text), zone_of(zone), found - timedelta(seconds=1))
    assert before <= utc(after)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("* * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day-of-month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "day-of-week '8'"),
        ("* * * * MO", "day-of-week 'MO'"),
        ("*/0 * * * *", "minute '0'"),
        ("* * * * FRI-MON", "a range that rises"),
        ("10-5 * * * *", "a range that rises"),
        ("1,,2 * * * *", "minute ''"),
        ("-1 * * * *", "minute ''"),
        ("\u0661 * * * *", "minute"),
        ("0 0 31 2,4,6 *", "a day that exists"),
    ],
)
def test_a_bad_cron_is_refused_with_the_field_that_is_wrong(text: str, named: str) -> None:
    """One error names field, word and what is allowed."""
    with pytest.raises(InvalidInputError, match=named) as raised:
        parse_cron(text)
    assert repr(text) in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "", "../../etc/passwd", "/etc/localtime", "CET\0"]
)
def test_a_zone_that_does_not_exist_is_refused(name: str) -> None:
    """Also where the name is a path; the nearest name is given."""
    with pytest.raises(InvalidInputError, match="timezone") as raised:
        zone_of(name)
    assert raised.value.hint
    if name == "Europe/Berln":
        assert "Europe/Berlin" in raised.value.hint


@pytest.mark.parametrize(
    ("window", "field"),
    [
        (CalendarWindow("w", "x", "0 1 * * *", "UTC", 1), "cron"),
        (CalendarWindow("w", "0 1 * * *", "0 1 * *", "UTC", 1), "cron"),
        (CalendarWindow("w", "0 1 * * *", "0 2 * * *", "Mars", 1), "timezone"),
        (CalendarWindow("w", "0 1 * * *", "0 2 * * *", "UTC", -1), "min_replicas of window w"),
        (CalendarWindow("w", "0 1 * * *", "0 2 * * *", "UTC", 5, 4), "max_replicas of window w"),
        (CalendarWindow("w", "0 1 * * *", "0 2 * * *", "UTC", 0, 0), "max_replicas of window w"),
    ],
)
def test_a_window_that_cannot_be_is_refused(window: CalendarWindow, field: str) -> None:
    """The field is named, before anything is decided by it."""
    with pytest.raises(InvalidInputError, match=field):
        check_window(window)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-20 06:59", False),  # a Friday, 7:59 in Berlin
        ("2026-11-20 07:00", True),
        ("2026-11-20 16:59", True),
        ("2026-11-20 17:00", False),
        ("2026-11-21 12:00", False),
        ("2026-07-03 06:00", True),  # summer time
        ("2026-07-03 16:00", False),
    ],
)
def test_a_window_is_open_by_the_clock_on_the_wall(moment: str, is_open: bool) -> None:
    """From 8 to 18 in Berlin, in winter and in summer."""
    assert window_state(OFFICE, utc(moment)).is_open is is_open


def test_a_window_that_starts_in_the_gap_opens_at_its_end_and_one_in_the_overlap_once() -> None:
    """02:30 to 04:00 in Berlin: from 03:00 in spring; from the first 02:30 in autumn."""
    window = CalendarWindow("night", "30 2 * * *", "0 4 * * *", "Europe/Berlin", 1)
    spring, autumn = utc("2026-03-29 00:00"), utc("2026-10-25 00:00")

    def open_minutes(start: datetime) -> list[int]:
        return [
            minute
            for minute in range(300)
            if window_state(window, start + timedelta(minutes=minute)).is_open
        ]

    assert open_minutes(spring) == list(range(60, 120))
    assert open_minutes(autumn) == list(range(30, 180))


def test_of_several_windows_the_highest_floor_and_the_highest_maximum_count() -> None:
    """Overlaps are legal; a window without a maximum leaves the autoscaler's."""
    sale = CalendarWindow("sale", "0 0 20 11 *", "0 0 22 11 *", "UTC", 9, 40)
    at = utc("2026-11-20 12:00")

    both = calendar_limits((OFFICE, sale), 30, at)
    assert (both.floor, both.maximum) == (9, 40)
    assert both.reason.startswith("window sale is open")
    assert calendar_limits((OFFICE,), 30, at)[:2] == (5, 30)
    assert calendar_limits((sale,), 50, at)[:2] == (9, 40)
    assert calendar_limits((OFFICE, sale), 30, utc("2026-11-28 12:00")) == (0, None, "")


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_occurrences_are_those_that_a_walk_over_all_minutes_finds(seed: int) -> None:
    """The twin looks at each minute's wall clock, for three days around a change of the clocks."""
    rng = Random(seed)
    zone, around = rng.choice(
        (
            ("Europe/Berlin", "2026-03-28 12:00"),
            ("Europe/Berlin", "2026-10-24 12:00"),
            ("America/New_York", "2026-03-07 12:00"),
            ("America/Sao_Paulo", "2026-11-21 12:00"),
            ("Australia/Lord_Howe", "2026-04-04 06:00"),
        )
    )
    minutes = sorted({rng.randrange(60) for _ in range(3)})
    hours = sorted({rng.randrange(24) for _ in range(4)} | {rng.randrange(4)})
    cron = parse_cron(f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *")
    start = utc(around)

    found, at = [], start
    while (at := next_occurrence(cron, zone_of(zone), at)) <= start + timedelta(days=3):
        found.append(at)

    assert found == _walked(zone, start, set(hours), set(minutes))


def _walked(zone: str, start: datetime, hours: set[int], minutes: set[int]) -> list[datetime]:
    """Minutes whose wall-clock time, or one that was skipped before them, is wanted."""
    found = []
    seen_walls = {_wall(zone, start - timedelta(minutes=back)) for back in range(200)}
    before = _wall(zone, start)
    for minute in range(1, 3 * 24 * 60 + 1):
        at = start + timedelta(minutes=minute)
        wall = _wall(zone, at)
        passed, step = [wall], before + timedelta(minutes=1)
        while step < wall:  # skipped
            passed.append(step)
            step += timedelta(minutes=1)
        fresh = [one for one in passed if one not in seen_walls]
        seen_walls.update(passed)
        before = wall
        if any(one.hour in hours and one.minute in minutes for one in fresh):
            found.append(at)
    return found


def _wall(zone: str, at: datetime) -> datetime:
    return at.astimezone(zone_of(zone)).replace(tzinfo=None, fold=0)
