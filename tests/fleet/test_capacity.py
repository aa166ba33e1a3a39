"""Forecasts: a robust line through the past, and what is left when nodes are lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.capacity import CapacityPoint, CapacityPolicy, fit_trend, forecast, looks_held
from fleet.costs.checks import check_forecast, check_loss
from fleet.errors import InvalidInputError

NOW = datetime(2026, 3, 15, tzinfo=UTC)
POLICY = CapacityPolicy()
HOURS = np.arange(14 * 24, dtype=np.float64)
DAILY = 20 * np.sin(HOURS / 24 * 2 * np.pi)


def points(values: list[float], capacity: float = 1000.0) -> list[CapacityPoint]:
    """Hourly looks that end now."""
    first = NOW - timedelta(hours=len(values) - 1)
    return [
        CapacityPoint(first + timedelta(hours=hour), value, capacity)
        for hour, value in enumerate(values)
    ]


@settings(max_examples=25)
@given(st.floats(-50, 50), st.floats(0, 500), st.integers(0, 2**32 - 1))
def test_the_trend_of_a_line_is_found_through_days_and_odd_looks(
    slope_per_day: float, level: float, seed: int
) -> None:
    """One look in ten is anywhere; the daily swing does not bend the line."""
    dice = np.random.default_rng(seed)
    values = level + slope_per_day * HOURS / 24 + DAILY
    odd = dice.random(len(HOURS)) < 0.1
    values[odd] = dice.uniform(0, 1000, int(odd.sum()))
    found = fit_trend(HOURS, values)
    assert found is not None
    assert found.slope_per_day == pytest.approx(slope_per_day, abs=2.0)


def test_the_trend_is_the_median_of_the_slopes_of_whole_days() -> None:
    """Oracle: all pairs that lie whole days apart, one after another."""
    dice = np.random.default_rng(3)
    hours = np.sort(dice.uniform(0, 80, 40))
    values = dice.uniform(0, 100, 40)
    slopes = []
    for first in range(40):
        for last in range(first + 1, 40):
            apart = hours[last] - hours[first]
            days = round(apart / 24)
            if days >= 1 and abs(apart - 24 * days) <= 0.5:
                slopes.append((values[last] - values[first]) / apart)
    found = fit_trend(hours, values)
    assert found is not None
    assert found.slope_per_day == pytest.approx(24 * float(np.median(slopes)))


def test_a_growing_region_is_full_when_its_peaks_are() -> None:
    """500 now and ten more a day, swinging by twenty: 900 is reached by the peaks first."""
    values = (500 + 10 * (HOURS - HOURS[-1]) / 24 + DAILY).tolist()
    found = forecast("us", "cpu_milli", points(values), 100.0, POLICY, NOW)
    assert found.slope_per_day == pytest.approx(10, rel=0.01)
    assert found.peak == pytest.approx(520, abs=1)
    assert found.days_to_full == pytest.approx(38, abs=0.2)
    assert found.agreement == pytest.approx(1.0)
    assert (found.holds_loss, found.points) == (True, 336)
    assert check_forecast([found], POLICY).passed


@pytest.mark.parametrize(
    ("values", "days", "why"),
    [
        ([500.0] * 336, None, "it does not grow"),
        ((500 - HOURS).tolist(), None, "it does not grow"),
        ([500.0] * 3, None, "fewer than 6 looks"),
        ([950.0] * 336, 0.0, "its peaks reach 90%"),
        ([950.0] * 2, 0.0, "its peaks reach 90%"),
    ],
)
def test_without_growth_nothing_is_full_but_what_is(
    values: list[float], days: float | None, why: str
) -> None:
    """The reason tells which."""
    found = forecast("us", "cpu_milli", points(values), 0.0, POLICY, NOW)
    assert found.days_to_full == days
    assert why in found.reason


def test_a_region_that_cannot_lose_its_largest_node_says_so() -> None:
    """900 of 1000 with nodes of 200: 100 too little."""
    found = forecast("us", "cpu_milli", points([900.0] * 10), 200.0, POLICY, NOW)
    assert (found.free_after_loss, found.holds_loss) == (-100.0, False)
    verdict = check_loss([found], POLICY)
    assert not verdict.passed
    assert "100 too little after the loss of 1" in verdict.offenders[0].detail


def test_a_region_that_fills_up_soon_is_a_warning_and_a_full_one_comes_first() -> None:
    """Within 14 days."""
    growing = forecast("eu", "cpu_milli", points((800 + HOURS * 0.1).tolist()), 0.0, POLICY, NOW)
    full = forecast("us", "cpu_milli", points([990.0] * 9), 0.0, POLICY, NOW)
    verdict = check_forecast([growing._replace(days_to_full=13.9), full], POLICY)
    assert [offender.region for offender in verdict.offenders] == ["us", "eu"]
    assert verdict.severity == "warn"
    assert check_forecast([growing._replace(days_to_full=14.0)], POLICY).passed


def test_looks_out_of_order_and_no_looks_are_refused() -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidInputError, match="ascending"):
        fit_trend(np.array([2.0, 1.0]), np.array([1.0, 1.0]))
    with pytest.raises(InvalidInputError, match=r"capacity\.points"):
        forecast("us", "cpu_milli", [], 0.0, POLICY, NOW)
    assert fit_trend(np.zeros(9), np.zeros(9)) is None


def test_very_long_histories_are_thinned_out() -> None:
    """A year of hours has 38 million pairs; the line stays."""
    hours = np.arange(365 * 24, dtype=np.float64)
    found = fit_trend(hours, 3 * hours / 24)
    assert found is not None
    assert found.slope_per_day == pytest.approx(3.0)


def test_a_loss_is_tested_on_every_recorded_look() -> None:
    """Of 1,000 now, 300 less hold what was allocated at two of three looks."""
    looks = points([600.0, 800.0, 700.0])
    assert [looks_held(looks, removed) for removed in (0, 200, 300, 400.5, 1000)] == [3, 3, 2, 0, 0]
    assert looks_held([], 5.0) == 0
