"""From histograms to amounts: percentile, margin, confidence, floor, in this order.

Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/logic/estimator.go and
recommender.go. Amounts are whole numbers, cut off after each step, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fleet.rightsizing.records import DAY_S, Resource, RightsizingPolicy

if TYPE_CHECKING:
    from fleet.metrics.samples import FloatArray, Int64Array
    from fleet.rightsizing.histograms import DecayingHistograms

AMOUNT_MAX = 1e14
"""Most of anything. Source: model/types.go, MaxResourceAmount."""
UPPER_CONFIDENCE = (1.0, 1.0)
"""Multiplier and exponent: the upper bound is x2 after a day, x1.14 after a week."""
LOWER_CONFIDENCE = (0.001, -2.0)
"""Multiplier and exponent: the lower bound is x0.6 after five minutes, x0.95 after an hour."""
MINUTES_A_DAY = 1440


class Estimate(NamedTuple):
    """Amounts of one resource for each workload; thousandths of a core, or bytes."""

    target: Int64Array
    lower: Int64Array
    upper: Int64Array


def confidence_days(first_ms: Int64Array, last_ms: Int64Array, minutes: FloatArray) -> FloatArray:
    """How much of a history each workload has: its length in days, or its samples at one a minute.

    Args:
        first_ms: time of the first sample of each.
        last_ms: time of the last.
        minutes: samples of each, in agent-minutes: their number times the minutes between two.
    """
    return np.minimum((last_ms - first_ms) / (DAY_S * 1000), minutes / MINUTES_A_DAY)


def estimate(
    histograms: DecayingHistograms,
    confidence: FloatArray,
    resource: Resource,
    policy: RightsizingPolicy,
) -> Estimate:
    """Target and bounds of every workload; the floors where a histogram is empty.

    Args:
        histograms: of cores, or of bytes.
        confidence: days, as `confidence_days` answers.
        resource: says the unit.
        policy: percentiles, margin and floors.
    """
    unit = 1000.0 if resource is Resource.CPU else 1.0

    def amount(share: float, certainty: tuple[float, float] | None) -> Int64Array:
        base = _whole(histograms.percentile(share) * unit)
        found = np.add(base, _whole(base * policy.margin))
        if certainty is not None:
            multiplier, exponent = certainty
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = np.power(1.0 + multiplier / confidence, exponent)
                found = _whole(np.where(found > 0, found * factor, 0.0))
        return np.maximum(found, policy.floor(resource))

    return Estimate(
        amount(policy.target_percentile, None),
        amount(policy.lower_percentile, LOWER_CONFIDENCE),
        amount(policy.upper_percentile, UPPER_CONFIDENCE),
    )


def _whole(amounts: Any) -> Int64Array:
    """Cut off behind the point, between 0 and the most there is."""
    whole: Int64Array = np.clip(amounts, 0.0, AMOUNT_MAX).astype(np.int64)
    return whole
