"""The most replicas that an hourly budget pays for."""

from __future__ import annotations

from math import floor, isfinite

from fleet.errors import InvalidInputError
from fleet.rescaling.policy import CostCeiling

RULE = "cost-ceiling"
_ROUNDING = 1e-9
"""0.3 by 0.1 is 3 replicas, not 2."""


def affordable(ceiling: CostCeiling, price_per_hour: float) -> int | None:
    """How many replicas the budget pays for; None: any number, since they cost nothing.

    Args:
        ceiling: of all replicas together, for an hour.
        price_per_hour: of one replica, in the same currency.

    Raises:
        InvalidInputError: a price below 0, or no number.
    """
    if not isfinite(price_per_hour) or price_per_hour < 0:
        raise InvalidInputError("price_per_hour", price_per_hour, "0 or more")
    if not price_per_hour:
        return None
    return floor(ceiling.per_hour / price_per_hour + _ROUNDING)
