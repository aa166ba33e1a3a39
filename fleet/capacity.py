"""When a region will be full, by its own past, and whether it could lose a node today.

The trend is the median of the slopes between looks that lie whole days apart, so that neither the
time of day nor a few odd looks bend it (Sen 1968; seasonal form: Hirsch and Slack 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import InvalidInputError

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray

FORECAST_TABLE = "capacity_forecast"
DAY_H = 24
POINTS_MIN = 6
"""Looks below which no trend is told."""
POINTS_MAX = 1000
"""Looks that a trend is taken from; more are thinned out evenly, for pairs grow as their square."""
PEAK_QUANTILE = 0.95
"""The level that has to fit is not the median of the day but nearly its peak."""


@dataclass(frozen=True, slots=True)
class CapacityPolicy:
    """How far back and ahead is looked."""

    history_days: int = 14
    warn_days: float = 14.0
    full_ratio: float = 0.9
    nodes_lost: int = 1


class CapacityPoint(NamedTuple):
    """What a region had and had allocated of a resource at a look."""

    at: datetime
    allocated: float
    capacity: float


class CapacityForecast(NamedTuple):
    """One resource of one region: now, its trend, and when it is full."""

    region: str
    resource: str
    """`cpu_milli`, `memory_bytes` or `gpu_milli`; amounts are in its unit."""
    capacity: float
    allocated: float
    free: float
    used_ratio: float
    peak: float
    """Level that nearly all looks of the history stayed below, carried to now by the trend."""
    slope_per_day: float | None
    """None where the history is too short."""
    agreement: float | None
    """Share of the pairs of looks whose slope has the sign of the trend: 0.5 is none, 1 sure."""
    days_to_full: float | None
    """Until the peak reaches `full_ratio` of the capacity; None: not at this trend."""
    free_after_loss: float
    """Free after the loss of the largest nodes, whose agents stay; negative: they do not fit."""
    holds_loss: bool
    points: int
    reason: str
    looked_at: datetime


class Trend(NamedTuple):
    """A line through the past."""

    slope_per_day: float
    agreement: float
    peak: float
    """Of the past, carried to the last look."""


def fit_trend(hours: FloatArray, values: FloatArray) -> Trend | None:
    """The robust line of a series; None where there are too few looks.

    Args:
        hours: times, ascending, from any origin.
        values: as many.

    Raises:
        InvalidInputError: lengths differ, or times fall.
    """
    import numpy as np

    if len(hours) != len(values) or (np.diff(hours) < 0).any():
        raise InvalidInputError("trend.hours", len(hours), "ascending, one for each value")
    if len(hours) < POINTS_MIN or hours[-1] == hours[0]:
        return None
    if len(hours) > POINTS_MAX:
        kept = np.linspace(0, len(hours) - 1, POINTS_MAX).astype(np.int64)
        hours, values = hours[kept], values[kept]
    first, last = np.triu_indices(len(hours), 1)
    apart = hours[last] - hours[first]
    rises = values[last] - values[first]
    whole = apart >= DAY_H / 2
    whole &= np.abs(apart - np.round(apart / DAY_H) * DAY_H) <= 0.5
    # at least two whole days, or the few pairs that there are would be chance
    chosen = whole if hours[-1] - hours[0] >= 2 * DAY_H and whole.any() else apart > 0
    slopes = rises[chosen] / apart[chosen]
    slope = float(np.median(slopes))
    same = np.sign(slopes) == np.sign(slope)
    rest = values - slope * (hours - hours[-1])
    return Trend(slope * DAY_H, float(same.mean()), float(np.quantile(rest, PEAK_QUANTILE)))


def looks_held(points: Sequence[CapacityPoint], removed: float) -> int:
    """At how many looks what was allocated then would have fit into what is left now.

    Args:
        points: looks of one resource of a region; the last one is the present.
        removed: capacity that would be given back.
    """
    left = points[-1].capacity - removed if points else 0.0
    return sum(one.allocated <= left for one in points)


def forecast(
    region: str,
    resource: str,
    points: Sequence[CapacityPoint],
    largest_nodes: float,
    policy: CapacityPolicy,
    now: datetime,
) -> CapacityForecast:
    """What the past of one resource says.

    Args:
        region: name.
        resource: column of the resource.
        points: looks, oldest first, at least one; the last one is the present.
        largest_nodes: capacity of the largest nodes that may be lost at once.
        policy: how far ahead.
        now: moment of the look.

    Raises:
        InvalidInputError: there is no look.
    """
    import numpy as np

    if not points:
        raise InvalidInputError("capacity.points", 0, "one look at least")
    last = points[-1]
    hours = np.array([(one.at - points[0].at).total_seconds() / 3600 for one in points])
    trend = fit_trend(hours, np.array([one.allocated for one in points]))
    peak = max(last.allocated, trend.peak if trend else 0.0)
    days = _days_to_full(trend, peak, last.capacity * policy.full_ratio)
    free_after = last.capacity - largest_nodes - last.allocated
    return CapacityForecast(
        region,
        resource,
        last.capacity,
        last.allocated,
        last.capacity - last.allocated,
        last.allocated / last.capacity if last.capacity else 0.0,
        peak,
        trend.slope_per_day if trend else None,
        trend.agreement if trend else None,
        days,
        free_after,
        free_after >= 0,
        len(points),
        _reason(trend, days, policy),
        now,
    )


def _days_to_full(trend: Trend | None, peak: float, full: float) -> float | None:
    if peak >= full:
        return 0.0
    if trend is None or trend.slope_per_day <= 0:
        return None
    return (full - peak) / trend.slope_per_day


def _reason(trend: Trend | None, days: float | None, policy: CapacityPolicy) -> str:
    if days == 0.0:
        return f"its peaks reach {policy.full_ratio:.0%} of the capacity"
    if trend is None:
        return f"fewer than {POINTS_MIN} looks: no trend yet"
    if days is None:
        return "it does not grow"
    return f"grows by {trend.slope_per_day:.4g} a day, {trend.agreement:.0%} of the pairs agree"
