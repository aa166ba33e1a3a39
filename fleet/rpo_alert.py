"""Will the recovery point objective be missed, and when? Said before it happens.

The loss that a disaster would cause grows by one second a second until the next recovery point
arrives. So the objective is missed at a known moment unless a point arrives before, and whether one
will can be told from the schedule and from how late the last ones were.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.recovery_objectives import span_text

POINTS_MAX = 12
"""Newest points that delay and trend are taken from."""
TREND_POINTS_MIN = 4
"""Fewer points make no trend."""
HORIZON_INTERVALS = 24
"""How many points ahead a trend is believed."""


class Burn(StrEnum):
    """How the objective stands."""

    MET = "met"
    ABOUT_TO_BURN = "about to burn"
    """It still holds, and at the present rate it will not."""
    MISSED = "missed"


class RecoveryPoint(NamedTuple):
    """A snapshot or journal segment that lies in the region."""

    covered_at: datetime
    """Newest moment that it can restore."""
    available_at: datetime
    """When it was complete in the region."""


class RpoAlert(NamedTuple):
    """How the objective stands, and when it will be missed."""

    burn: Burn
    missed_in_s: float | None
    """Seconds until it is missed, 0 or less once it is; None while nothing says that it will be."""
    reason: str


def decide_rpo_alert(
    points: Sequence[RecoveryPoint], rpo_max_s: float, interval_s: float, now: datetime
) -> RpoAlert:
    """Say whether the objective holds, and whether it will go on doing so.

    Args:
        points: the newest recovery points of one network in one region, in any order.
        rpo_max_s: the objective.
        interval_s: time between two points by the schedule.
        now: the moment of the decision, aware.

    Returns:
        `about to burn` when a point is overdue by a whole interval, when the next one will come
        too late even if it is on time, or when delays grow so that a later one will.

    Raises:
        InvalidInputError: objective or interval is not positive.
    """
    for name, value in (("rpo_max_s", rpo_max_s), ("interval_s", interval_s)):
        if not 0 < value < float("inf"):
            raise InvalidInputError(name, value, "seconds, more than 0")
    believed = [one for one in points if one.available_at <= now and one.covered_at <= now]
    if not believed:
        return RpoAlert(Burn.MISSED, 0.0, "no recovery point in this region")
    last = sorted(believed)[-POINTS_MAX:]
    covered_at = last[-1].covered_at
    left_s = (covered_at - now).total_seconds() + rpo_max_s
    if left_s <= 0:
        age = span_text((now - covered_at).total_seconds())
        reason = f"the newest recovery point is {age} old, at most {span_text(rpo_max_s)}"
        return RpoAlert(Burn.MISSED, left_s, reason)
    delays_s = [(one.available_at - one.covered_at).total_seconds() for one in last]
    delay_s = statistics.median(delays_s)
    due_at = covered_at + timedelta(seconds=interval_s + delay_s)
    overdue_s = (now - due_at).total_seconds()
    soon = f"at the present rate the objective is missed in {span_text(left_s)}"
    if overdue_s >= interval_s:
        return RpoAlert(
            Burn.ABOUT_TO_BURN, left_s, f"the next point is {span_text(overdue_s)} overdue; {soon}"
        )
    if interval_s + delay_s > rpo_max_s:
        reason = (
            f"points come every {span_text(interval_s)} and take {span_text(delay_s)}, more than "
            f"{span_text(rpo_max_s)} together; {soon}"
        )
        return RpoAlert(Burn.ABOUT_TO_BURN, left_s, reason)
    return _decide_by_trend(delays_s, rpo_max_s, interval_s, left_s)


def _decide_by_trend(
    delays_s: Sequence[float], rpo_max_s: float, interval_s: float, left_s: float
) -> RpoAlert:
    """Whether delays that go on growing as they do will use the objective up."""
    met = RpoAlert(Burn.MET, None, "recovery points arrive in time")
    if len(delays_s) < TREND_POINTS_MIN:
        return met
    line = statistics.linear_regression(range(len(delays_s)), delays_s)
    if line.slope <= 0:
        return met
    room_s = rpo_max_s - interval_s
    newest_s = line.intercept + line.slope * (len(delays_s) - 1)
    after = max(1, int((room_s - newest_s) // line.slope) + 1)
    if after > HORIZON_INTERVALS:
        return met
    # The `after`-th point from now comes too late; the one before it is `after - 1` intervals away.
    missed_in_s = left_s + (after - 1) * interval_s
    reason = (
        f"each point arrives {span_text(line.slope)} later than the one before it; "
        f"at the present rate the objective is missed in {span_text(missed_in_s)}"
    )
    return RpoAlert(Burn.ABOUT_TO_BURN, missed_in_s, reason)
