"""A floor from the past: what the same hour of the week has needed, as long as that was right.

For each hour of the week the weighted quantile of the last weeks' needs is taken; older weeks
weigh less. Whether the past says anything is tested on the last week: it is forecast from the weeks
before it, and the sum of the errors is compared with the sum of the needs. A forecast may only
raise a floor: what is new under the sun is left to the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, isfinite
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.rescaling.calendar import zone_of
from fleet.rescaling.policy import PredictiveFloor

HOURS = 168
"""Of a week."""
_WEEK = timedelta(weeks=1)
FORECAST_AGE_MAX = timedelta(days=1)
"""Older forecasts are not used: whoever makes them has stopped."""


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """Replicas that a workload needed, one number for each step of the past."""

    start: datetime
    """Of the first step; aware."""
    step_s: int
    """At most 3,600 s, else hours get lost."""
    needs: Sequence[float | None]
    """Replicas, not rounded; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Replicas needed in each hour of the week, or why nothing is said."""

    made_at: datetime
    timezone: str
    floors: tuple[int, ...]
    """By hour of the week from Monday 0:00 in `timezone`; 0 where nothing is known."""
    error: float | None
    """Of the back-test: sum of the errors by sum of the needs; None without one."""
    off: str
    """Why it is not to be used; empty when it is."""


class PredictedFloor(NamedTuple):
    """A floor at one moment."""

    floor: int
    reason: str


class _Week(NamedTuple):
    """Needs of one week, by hour of the week."""

    hours: dict[int, list[float]]


def forecast(history: LoadHistory, policy: PredictiveFloor, now: datetime) -> Forecast:
    """What the hours of a week need, from the last weeks.

    Args:
        history: of up to `policy.weeks` + 1 weeks; older steps are not looked at.
        policy: quantile, weeks, decay, allowed error, time zone.
        now: end of the history; what is later is not looked at.

    Returns:
        With the reason in `off` while the back-test cannot be made or is worse than allowed.

    Raises:
        InvalidInputError: a step that is no part of an hour, a naive start, an unknown zone.
    """
    if not 0 < history.step_s <= 3600:
        raise InvalidInputError("step_s of the load history", history.step_s, "1 to 3600")
    if history.start.tzinfo is None:
        raise InvalidInputError("start of the load history", history.start, "an aware time")
    weeks = _by_week(history, policy, now)
    floors = _floors(weeks[: policy.weeks], policy)
    error = _back_test_error(weeks, policy)
    off = ""
    if error is None:
        off = "there is no past week to test the forecast on"
    elif error > policy.error_max:
        off = (
            f"last week it was wrong by {100 * error:.0f} % (allowed: {100 * policy.error_max:.0f})"
        )
    rounded = tuple(ceil(need - 1e-9) for need in floors)
    return Forecast(now, policy.timezone, rounded, error, off)


def predicted_floor(made: Forecast, now: datetime, lead_s: float) -> PredictedFloor:
    """The highest need from now until a replica started now is ready.

    Args:
        made: the forecast.
        now: aware.
        lead_s: how long a replica takes to start, seconds.

    Returns:
        A floor of 0, with the reason, where the forecast is not to be used.
    """
    if made.off:
        return PredictedFloor(0, made.off)
    if now - made.made_at > FORECAST_AGE_MAX:
        return PredictedFloor(0, f"the forecast is of {made.made_at.isoformat()}: too old")
    zone = zone_of(made.timezone)
    last = now + timedelta(seconds=lead_s)
    at, floor = now, 0
    while True:
        floor = max(floor, made.floors[_hour_of_week(at.astimezone(zone))])
        if at >= last:
            break
        at = min(at + timedelta(hours=1), last)
    if not floor:
        return PredictedFloor(0, "nothing is known of this hour of the week")
    return PredictedFloor(floor, f"this hour of the week has needed {floor}")


def _by_week(history: LoadHistory, policy: PredictiveFloor, now: datetime) -> list[_Week]:
    """The needs of the last weeks, the last one first; one week more than is looked at."""
    zone = zone_of(policy.timezone)
    weeks = [_Week({}) for _ in range(policy.weeks + 1)]
    step = timedelta(seconds=history.step_s)
    start = history.start.astimezone(UTC)
    first = max(0, int((now - _WEEK * len(weeks) - start) / step))
    for index in range(first, len(history.needs)):
        need, at = history.needs[index], start + index * step
        age = (now - step - at) // _WEEK  # of its end: a step that is not over is not known
        if need is None or not isfinite(need) or not 0 <= age < len(weeks):
            continue
        weeks[age].hours.setdefault(_hour_of_week(at.astimezone(zone)), []).append(need)
    return weeks


def _hour_of_week(wall: datetime) -> int:
    return wall.weekday() * 24 + wall.hour


def _floors(weeks: Sequence[_Week], policy: PredictiveFloor) -> list[float]:
    """The weighted quantile of each hour, not rounded; 0 where nothing is known."""
    return [
        _quantile(
            (
                (need, policy.weekly_decay**age)
                for age, week in enumerate(weeks)
                for need in week.hours.get(hour, ())
            ),
            policy.quantile,
        )
        for hour in range(HOURS)
    ]


def _quantile(weighted: Iterable[tuple[float, float]], quantile: float) -> float:
    """The least value up to which that share of the weight lies; 0 of nothing."""
    ordered = sorted(weighted)
    wanted = quantile * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= wanted - 1e-12:
            return value
    return 0.0


def _back_test_error(weeks: Sequence[_Week], policy: PredictiveFloor) -> float | None:
    """How wrong last week's forecast would have been; None when there was nothing to make it of."""
    last, before = weeks[0], weeks[1:]
    known = {hour for week in before for hour in week.hours}
    needed = {
        hour: _quantile(((need, 1.0) for need in needs), policy.quantile)
        for hour, needs in last.hours.items()
        if hour in known
    }
    if not needed:
        return None
    made = _floors(before, policy)
    total = sum(needed.values())
    wrong = sum(abs(made[hour] - need) for hour, need in needed.items())
    if not total:
        return 0.0 if not wrong else float("inf")
    return wrong / total
