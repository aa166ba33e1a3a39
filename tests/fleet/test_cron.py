"""When a schedule last came due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.cron import parse_cron
from fleet.errors import InvalidInputError

AT = datetime(2026, 3, 4, 10, 30, 20, tzinfo=UTC)
"""A Wednesday."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2026-03-04T10:30"),
        ("0 9 * * *", "2026-03-04T09:00"),
        ("31 10 * * *", "2026-03-03T10:31"),
        ("0 22 * * 5", "2026-02-27T22:00"),
        ("0 0 * * 7", "2026-03-01T00:00"),
        ("*/20 8-10 * * *", "2026-03-04T10:20"),
        ("0 12 1 1 *", "2026-01-01T12:00"),
        ("0 0 2 * 2", "2026-03-03T00:00"),
    ],
)
def test_the_last_time_is_found(text: str, expected: str | None) -> None:
    """Day of month and day of week, both given, mean either."""
    found = parse_cron(text).latest(AT, AT - timedelta(days=100))
    assert (found.isoformat()[:16] if found else None) == expected


@settings(max_examples=30)
@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 6), st.integers(0, 20_000))
def test_the_last_time_is_that_of_a_walk_through_the_minutes(
    minute: int, hour: int, weekday: int, ago: int
) -> None:
    """Oracle: every minute of a fortnight, backwards."""
    since = AT - timedelta(minutes=ago)
    found = parse_cron(f"{minute} {hour} * * {weekday}").latest(AT, since)
    walk = AT.replace(second=0)
    while walk >= since and (walk.minute, walk.hour, walk.isoweekday() % 7) != (
        minute,
        hour,
        weekday,
    ):
        walk -= timedelta(minutes=1)
    assert found == (walk if walk >= since else None)


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "x * * * *", "1- * * * *",
        "0 0 30 2 *",
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text: str) -> None:
    """With the field and an example, also a day that no year has."""
    with pytest.raises(InvalidInputError, match=r"schedule: .*allowed") as told:
        parse_cron(text, "schedule")
    assert "Five fields" in told.value.hint
