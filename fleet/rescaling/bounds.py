"""Floors and ceilings of a decision: rules that only raise, then rules that only lower.

Ceilings come last, so they stand above floors: money and room are limits, a calendar is a wish.
"""

from __future__ import annotations

from fleet.rescaling import cost_ceiling
from fleet.rescaling.calendar import CalendarLimits
from fleet.rescaling.context import ScalingContext
from fleet.rescaling.draft import Draft
from fleet.rescaling.foresight import predicted_floor
from fleet.rescaling.policy import WorkloadScaling
from fleet.rescaling.warm_pool import RULE as WARM_POOL
from fleet.rescaling.warm_pool import warm_floor

CALENDAR, PREDICTIVE = "calendar", "predictive"
MAX_REPLICAS, QUOTA = "max-replicas", "quota"


def apply_floors(
    draft: Draft,
    wish: WorkloadScaling,
    context: ScalingContext,
    limits: CalendarLimits,
    lead_s: float,
) -> None:
    """Raise the count to what calendar, foresight and warm pool ask for.

    Args:
        draft: changed in place.
        wish: with the rules.
        context: with the forecast.
        limits: of the calendar, now.
        lead_s: how long a replica takes to start, seconds.
    """
    draft.raise_to(CALENDAR, limits.floor, limits.reason)
    if wish.predictive is not None:
        _predict(draft, context, lead_s)
    if wish.warm_pool is not None:
        draft.raise_to(WARM_POOL, *warm_floor(wish.warm_pool))


def _predict(draft: Draft, context: ScalingContext, lead_s: float) -> None:
    """The floor of the same hour in the last weeks; where it is off that is told as well."""
    made = context.forecast
    if made is None:
        draft.apply(PREDICTIVE, draft.desired, "off: no forecast was made")
        return
    predicted = predicted_floor(made, draft.now, lead_s)
    if predicted.floor == 0:
        draft.apply(PREDICTIVE, draft.desired, f"off: {predicted.reason}")
    draft.raise_to(PREDICTIVE, predicted.floor, predicted.reason)


def apply_ceilings(
    draft: Draft, wish: WorkloadScaling, context: ScalingContext, limits: CalendarLimits
) -> None:
    """Lower the count to what maximum, budget and quota allow.

    Args:
        draft: changed in place.
        wish: with the rules.
        context: with price and room.
        limits: of the calendar, now.

    Raises:
        InvalidInputError: the price is no price.
    """
    most = draft.spec.max_replicas
    if draft.desired > most:
        draft.apply(MAX_REPLICAS, most, limits.reason or f"the maximum is {most}")
    _within_budget(draft, wish, context.price_per_hour)
    if context.quota_room is not None:
        room = max(context.quota_room, 0)
        if draft.desired > draft.current + room:
            draft.apply(QUOTA, draft.current + room, f"the quota has room for {room} more")


def _within_budget(draft: Draft, wish: WorkloadScaling, price: float | None) -> None:
    """No more than the budget pays for; the autoscaler's minimum stays, and one replica."""
    ceiling = wish.cost_ceiling
    if ceiling is None:
        return
    if price is None:
        why = "the price of a replica is not known: nothing is limited"
        draft.apply(cost_ceiling.RULE, draft.desired, why)
        return
    paid = cost_ceiling.affordable(ceiling, price)
    if paid is None or draft.desired <= paid:
        return
    why = f"{ceiling.per_hour:g} an hour pays for {paid} at {price:g} each"
    least = max(wish.spec.min_replicas, 1)
    if paid < least:
        why = f"{why}; the minimum of {least} stays"
    # what is there already goes at the pace of the rates, sessions are served on them
    allowed = max(paid, least)
    slowly = max(allowed, draft.at_rate(allowed))
    draft.apply(cost_ceiling.RULE, min(draft.desired, slowly), why)
