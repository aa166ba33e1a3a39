"""The floor from the past: what it says, and when it keeps silent."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rescaling.foresight import HOURS, LoadHistory, forecast, predicted_floor
from fleet.rescaling.policy import PredictiveFloor
from fleet.rescaling.start_times import start_lead_s
from tests.examples import examples
from tests.fleet.rescaling.workloads import NOW, later

POLICY = PredictiveFloor()
MONDAY = datetime(2026, 11, 16, tzinfo=NOW.tzinfo)


def history(weeks: list[float], hour: int = 33, until: datetime = MONDAY) -> LoadHistory:
    """Weeks, the oldest first, that need so much in one hour of the week, and 1 in all others."""
    needs: list[float | None] = []
    for need in weeks:
        needs += [need if index == hour else 1.0 for index in range(HOURS)]
    return LoadHistory(until - timedelta(weeks=len(weeks)), 3600, needs)


def test_the_same_hour_of_the_last_weeks_is_the_floor_while_it_was_right() -> None:
    """Tuesday 9 o'clock needs 8 each week: that is the floor then."""
    made = forecast(history([8.0, 8.0, 8.0, 8.0, 8.0]), POLICY, MONDAY)

    assert (made.off, made.error) == ("", 0.0)
    assert [index for index, floor in enumerate(made.floors) if floor != 1] == [33]


def test_the_floor_rises_a_start_before_the_hour() -> None:
    """With starts of ten minutes it holds from 8:50 until 9:59."""
    made = forecast(history([8.0] * 5, hour=9), POLICY, MONDAY)

    def floor(hours: float) -> int:
        return predicted_floor(made, MONDAY + timedelta(hours=hours), 600).floor

    assert [floor(hours) for hours in (8.8, 8.85, 9.0, 9.99, 10.0)] == [1, 8, 8, 8, 1]
    assert predicted_floor(made, MONDAY + timedelta(hours=8), 3600).floor == 8
    assert predicted_floor(made, MONDAY + timedelta(hours=6.5), 3 * 3600).floor == 8


def test_younger_weeks_weigh_more_and_older_ones_than_wished_are_not_looked_at() -> None:
    """Weights 1, 0.8, 0.64, 0.512 of 2.952: nine tenths lie below 5 only with the last three."""
    made = forecast(history([100.0, 5.0, 5.0, 5.0, 2.0]), POLICY, MONDAY)
    assert made.floors[33] == 5
    median = PredictiveFloor(quantile=0.3)
    assert forecast(history([9.0, 9.0, 9.0, 9.0, 2.0]), median, MONDAY).floors[33] == 2


def test_a_week_unlike_the_ones_before_switches_it_off_and_the_reason_is_told() -> None:
    """Last week needed twice as much in every hour: an error of 50 %."""
    needs: list[float | None] = [*[2.0] * (4 * HOURS), *[4.0] * HOURS]
    made = forecast(LoadHistory(MONDAY - timedelta(weeks=5), 3600, needs), POLICY, MONDAY)

    assert made.error == 0.5
    assert made.off == "last week it was wrong by 50 % (allowed: 30)"
    assert predicted_floor(made, MONDAY, 60) == (0, made.off)


def test_a_load_that_comes_from_nothing_or_goes_away_is_no_forecast() -> None:
    """Weeks without any need are right about a quiet week, and wrong about a busy one."""
    for last, off in ((0.0, ""), (3.0, "last week it was wrong by 100 % (allowed: 30)")):
        needs: list[float | None] = [*[0.0] * (2 * HOURS), *[last] * HOURS]
        made = forecast(LoadHistory(MONDAY - timedelta(weeks=3), 3600, needs), POLICY, MONDAY)
        assert made.off == off
    gone: list[float | None] = [*[3.0] * HOURS, *[0.0] * HOURS]
    made = forecast(LoadHistory(MONDAY - timedelta(weeks=2), 3600, gone), POLICY, MONDAY)
    assert made.off == "last week it was wrong by inf % (allowed: 30)"


@pytest.mark.parametrize("needs", [[], [None] * 2000, [3.0] * HOURS])
def test_without_a_week_to_test_on_nothing_is_said(needs: list[float | None]) -> None:
    """One week alone cannot be tested."""
    start = MONDAY - timedelta(hours=len(needs))
    made = forecast(LoadHistory(start, 3600, needs), POLICY, MONDAY)

    assert made.off == "there is no past week to test the forecast on"


def test_steps_that_nobody_knows_are_left_out() -> None:
    """A gap of a week in the middle changes nothing where the others agree."""
    needs: list[float | None] = [*[4.0] * (2 * HOURS), *[None] * HOURS, *[4.0] * (2 * HOURS)]
    needs[-1] = float("nan")
    made = forecast(LoadHistory(MONDAY - timedelta(weeks=5), 3600, needs), POLICY, MONDAY)

    assert (made.off, set(made.floors)) == ("", {4})


def test_hours_are_those_of_the_wall_clock() -> None:
    """In Berlin 9 o'clock stays 9 o'clock when summer time ends on 25 October 2026."""
    zone = PredictiveFloor(timezone="Europe/Berlin")
    now = datetime(2026, 11, 2, 0, tzinfo=NOW.tzinfo)
    start = now - timedelta(weeks=5)
    step = timedelta(hours=1)
    needs: list[float | None] = []
    for index in range(5 * HOURS):
        at = start + index * step
        hour = at.hour + (2 if at < datetime(2026, 10, 25, 1, tzinfo=NOW.tzinfo) else 1)
        needs.append(8.0 if hour == 9 else 1.0)
    made = forecast(LoadHistory(start, 3600, needs), zone, now)

    assert [made.floors[24 + hour] for hour in (8, 9, 10)] == [1, 8, 1]
    assert not made.off
    by_utc = forecast(LoadHistory(start, 3600, needs), POLICY, now)
    assert by_utc.off, "by UTC the last week is unlike the ones before"


def test_a_forecast_that_nobody_renews_is_not_used() -> None:
    """After a day it is too old, and says so."""
    made = forecast(history([8.0] * 5), POLICY, MONDAY)

    stale = predicted_floor(made, MONDAY + timedelta(days=1, seconds=1), 60)
    assert stale.floor == 0
    assert "too old" in stale.reason


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (LoadHistory(MONDAY, 0, ()), "step_s"),
        (LoadHistory(MONDAY, 7200, ()), "step_s"),
        (LoadHistory(MONDAY.replace(tzinfo=None), 60, ()), "start"),
    ],
)
def test_a_history_that_cannot_be_is_refused(broken: LoadHistory, field: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidInputError, match=field):
        forecast(broken, POLICY, MONDAY)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.floats(0, 50), min_size=5, max_size=5), st.floats(0.05, 1))
def test_a_floor_is_one_of_the_past_needs_rounded_up(needs: list[float], quantile: float) -> None:
    """It never invents a need, and never says more than the highest of the weeks looked at."""
    made = forecast(history(needs), PredictiveFloor(quantile=quantile), MONDAY)

    assert made.floors[33] <= max(needs[1:]) + 1
    assert any(-1e-8 <= made.floors[33] - need < 1 for need in needs[1:])


def test_the_lead_is_the_p95_of_measured_starts() -> None:
    """The nearest rank: of few starts the longest; nothing measured gives the default."""
    assert start_lead_s([]) == 60
    assert start_lead_s([], default_s=5) == 5
    assert start_lead_s([3.0, 90.0, 7.0]) == 90
    assert start_lead_s([*[10.0] * 95, *[500.0] * 5]) == 10
    assert start_lead_s([*[10.0] * 94, *[500.0] * 6]) == 500
    assert start_lead_s([-1.0, float("nan"), float("inf")]) == 60
    assert start_lead_s([90_000.0]) == 3600
    assert later(0) == NOW
