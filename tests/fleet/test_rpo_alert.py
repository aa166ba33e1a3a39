"""The alarm comes before the objective is missed, and only when it will be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rpo_alert import Burn, RecoveryPoint, RpoAlert, decide_rpo_alert

NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
BURNS = list(Burn)


def every(interval_s: float, delays_s: list[float], age_s: float) -> list[RecoveryPoint]:
    """Points, oldest first; the newest covers a moment `age_s` ago."""
    newest = NOW - timedelta(seconds=age_s)
    points = []
    for back, delay_s in enumerate(reversed(delays_s)):
        at = newest - timedelta(seconds=back * interval_s)
        points.append(RecoveryPoint(at, at + timedelta(seconds=delay_s)))
    return points[::-1]


@pytest.mark.parametrize(
    ("points", "burn", "missed_in_s", "reason"),
    [
        ([], Burn.MISSED, 0, "no recovery point in this region"),
        (every(900, [60] * 6, 300), Burn.MET, None, "recovery points arrive in time"),
        (every(900, [60] * 6, 1859), Burn.MET, None, "recovery points arrive in time"),
        (
            every(900, [60] * 6, 1860),
            Burn.ABOUT_TO_BURN,
            1740,
            (
                "the next point is 15 min overdue; at the present rate the objective is missed "
                "in 29 min"
            ),
        ),
        (
            every(900, [60] * 6, 3660),
            Burn.MISSED,
            -60,
            "the newest recovery point is 61 min old, at most 60 min",
        ),
        (
            every(900, [2760] * 3, 2800),
            Burn.ABOUT_TO_BURN,
            800,
            (
                "points come every 15 min and take 46 min, more than 60 min together; at the "
                "present rate the objective is missed in 13 min"
            ),
        ),
        (
            every(900, [60, 360, 660, 960], 1000),
            Burn.ABOUT_TO_BURN,
            2600 + 5 * 900,
            (
                "each point arrives 5 min later than the one before it; at the present rate the "
                "objective is missed in 118 min"
            ),
        ),
        (every(900, [960, 660, 360, 60], 1000), Burn.MET, None, "recovery points arrive in time"),
        (every(900, [60, 61, 62, 63], 100), Burn.MET, None, "recovery points arrive in time"),
        (every(900, [60, 360, 660], 700), Burn.MET, None, "recovery points arrive in time"),
    ],
)
def test_the_alarm_says_when_and_why(
    points: list[RecoveryPoint], burn: Burn, missed_in_s: float | None, reason: str
) -> None:
    """One hour as objective, a point every fifteen minutes."""
    assert decide_rpo_alert(points, 3600, 900, NOW) == RpoAlert(burn, missed_in_s, reason)


def test_a_point_from_the_future_is_not_believed() -> None:
    """It would hide that the real ones have stopped."""
    real = every(900, [60] * 4, 4000)
    ahead = RecoveryPoint(NOW + timedelta(hours=9), NOW)
    assert decide_rpo_alert([*real, ahead], 3600, 900, NOW).burn == Burn.MISSED


delays = st.lists(st.floats(0, 5000), min_size=1, max_size=20)


@settings(deadline=None)
@given(delays, st.floats(60, 4000), st.integers(0, 20_000), st.integers(0, 20_000))
def test_without_a_new_point_it_only_gets_worse(
    delays_s: list[float], interval_s: float, age_s: int, later_s: int
) -> None:
    """And what is foreseen comes nearer by exactly the time that passes."""
    points = every(interval_s, delays_s, max(delays_s) + age_s)
    first = decide_rpo_alert(points, 3600, interval_s, NOW)
    then = decide_rpo_alert(points, 3600, interval_s, NOW + timedelta(seconds=later_s))
    assert BURNS.index(then.burn) >= BURNS.index(first.burn)
    if first.missed_in_s is not None and then.missed_in_s is not None:
        assert then.missed_in_s <= first.missed_in_s - later_s + 1e-3


@settings(deadline=None)
@given(delays, st.floats(60, 4000), st.integers(0, 20_000))
def test_it_is_missed_exactly_when_the_newest_point_is_older_than_the_objective(
    delays_s: list[float], interval_s: float, age_s: int
) -> None:
    """A prediction never hides or invents a miss."""
    age = max(delays_s) + age_s
    alert = decide_rpo_alert(every(interval_s, delays_s, age), 3600, interval_s, NOW)
    newest = NOW - timedelta(seconds=age)
    assert (alert.burn == Burn.MISSED) == (NOW - newest >= timedelta(hours=1))
    if alert.burn == Burn.ABOUT_TO_BURN:
        assert alert.missed_in_s is not None
        assert alert.missed_in_s > 0


@settings(deadline=None)
@given(st.floats(1, 60), st.integers(4, 12))
def test_a_steady_slowdown_is_foreseen_when_it_really_comes(slope_s: float, seen: int) -> None:
    """Twin: let the delays go on growing and see which point is too late."""
    interval_s, rpo_s = 900.0, 1800.0
    points = every(interval_s, [slope_s * n for n in range(seen)], slope_s * (seen - 1))
    alert = decide_rpo_alert(points, rpo_s, interval_s, NOW)
    late = next(n for n in range(seen, 2000) if interval_s + slope_s * n > rpo_s + 1e-6)
    ahead = late - seen + 1
    if ahead > 25:
        assert alert.burn == Burn.MET
    elif ahead < 24:
        before = points[-1].covered_at + timedelta(seconds=(ahead - 1) * interval_s + rpo_s)
        assert alert.missed_in_s == pytest.approx((before - NOW).total_seconds(), abs=interval_s)


@pytest.mark.parametrize(("rpo", "interval"), [(0, 1), (1, 0), (float("nan"), 1)])
def test_an_absurd_objective_or_schedule_is_refused(rpo: float, interval: float) -> None:
    """The error names which."""
    with pytest.raises(InvalidInputError, match="more than 0"):
        decide_rpo_alert([], rpo, interval, NOW)
