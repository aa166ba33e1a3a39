"""Moments are read as people write them, and refused where they could mean two things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from platform_defs.command.moments import parse_moment, span_text, utc_text

NOW = datetime(2026, 11, 20, 14, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T14:03:00Z", datetime(2026, 11, 20, 14, 3, tzinfo=UTC)),
        ("2026-11-20T16:03:00+02:00", datetime(2026, 11, 20, 14, 3, tzinfo=UTC)),
        ("2026-11-20 14:03:00.250000-00:00", datetime(2026, 11, 20, 14, 3, 0, 250_000, tzinfo=UTC)),
        (" 2 minutes ago ", NOW - timedelta(minutes=2)),
        ("1 minute ago", NOW - timedelta(minutes=1)),
        ("90 Seconds Ago", NOW - timedelta(seconds=90)),
        ("1.5 hours ago", NOW - timedelta(minutes=90)),
        ("3 days ago", NOW - timedelta(days=3)),
    ],
)
def test_what_people_write_is_understood(text: str, expected: datetime) -> None:
    """A golden table; the answer is in UTC."""
    found = parse_moment("--at", text, NOW)
    assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2 weeks ago", "-2 minutes ago", "2026-13-01T00:00:00Z", "1e99 days ago",
     "99999999999999999999 days ago", "14:03", "2 minutes"],
)  # fmt: skip
def test_what_is_no_moment_is_refused_with_what_is_allowed(text: str) -> None:
    """Field and value are named."""
    with pytest.raises(InvalidInputError, match=r"^--at: .* is not valid; allowed: a time with"):
        parse_moment("--at", text, NOW)


def test_a_time_without_zone_is_refused_with_the_way_to_write_it() -> None:
    """It could mean two moments."""
    with pytest.raises(InvalidInputError) as raised:
        parse_moment("--at", "2026-11-20T14:03:00", NOW)
    assert "2026-11-20T14:03:00Z is UTC" in raised.value.hint


@given(
    st.datetimes(
        min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - the zone is drawn beside it
        max_value=datetime(2100, 1, 1),  # noqa: DTZ001
        timezones=st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
    )
)
def test_what_is_printed_can_be_read_back(moment: datetime) -> None:
    """To the second, in any zone."""
    back = parse_moment("--at", utc_text(moment), NOW)
    assert back == moment.astimezone(UTC).replace(microsecond=0)


def test_lengths_of_time_are_short() -> None:
    """The largest unit that keeps it readable; a dash for none."""
    assert [span_text(one) for one in (None, 0.04, 119.0, 600.0, 7200.0, 200_000.0)] == [
        "-", "0.0 s", "119.0 s", "10 min", "2 h", "2 d",
    ]  # fmt: skip
