"""How long before it is needed a replica has to be started: the p95 of measured start times."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite

QUANTILE = 0.95
DEFAULT_LEAD_S = 60.0
"""While nothing was measured."""
LEAD_MAX_S = 3600.0
"""Above it a start has failed rather than taken long; a floor an hour early would only cost."""


def start_lead_s(measured_s: Sequence[float], default_s: float = DEFAULT_LEAD_S) -> float:
    """Seconds from the order to a ready replica, as 95 % of the starts take at most.

    The nearest rank is taken, so of fewer than 20 starts the longest counts: few measurements
    make for an early start, not a late one.

    Args:
        measured_s: seconds of each start, in any order; what is negative or no number is left out.
        default_s: while there is no measurement.
    """
    sound = sorted(one for one in measured_s if isfinite(one) and one >= 0)
    if not sound:
        return default_s
    return min(sound[ceil(QUANTILE * len(sound)) - 1], LEAD_MAX_S)
