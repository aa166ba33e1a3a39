"""How fast the count may change: limits on what is added and removed within a period.

A limit counts from the replicas at the start of its period, found by undoing the changes of both
directions since then. So a fall within the period makes room for a rise of the same size.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/horizontal.go`,
`calculateScaleUpLimitWithScalingRules`, `calculateScaleDownLimitWithBehaviors`, `storeScaleEvent`,
`calculateScaleUpLimit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from fleet.rescaling.go_integers import (
    INT32_MAX,
    INT32_MIN,
    ceil_int32,
    int32_of_float,
    wrap_int32,
)
from fleet.rescaling.observation import ScaleEvent
from fleet.rescaling.spec import PolicyType, ScalingPolicy, ScalingRules, SelectPolicy

GROWTH_FACTOR = 2.0
GROWTH_MIN = 4.0
"""Without rules: at most twice the replicas at once, and 4 in any case."""

Events = tuple[ScaleEvent, ...]


def growth_limit(current: int) -> int:
    """Most replicas in one step without rules of the autoscaler."""
    return int32_of_float(max(GROWTH_FACTOR * float(current), GROWTH_MIN))


def upper_limit(
    current: int,
    rules: ScalingRules,
    ups: Sequence[ScaleEvent],
    downs: Sequence[ScaleEvent],
    now: datetime,
) -> int:
    """Most replicas that the rules for rising allow now; never below `current`."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return current
    limits = []
    for policy in rules.policies:
        start = _replicas_at_start(current, policy, ups, downs, now)
        if policy.type is PolicyType.PODS:
            limits.append(wrap_int32(start + policy.value))
        else:  # rounded up, else one replica would never become two
            limits.append(ceil_int32(float(start) * (1 + float(policy.value) / 100)))
    if rules.select_policy is SelectPolicy.MIN:
        return max(min(limits, default=INT32_MAX), current)
    return max(max(limits, default=INT32_MIN), current)


def lower_limit(
    current: int,
    rules: ScalingRules,
    ups: Sequence[ScaleEvent],
    downs: Sequence[ScaleEvent],
    now: datetime,
) -> int:
    """Fewest replicas that the rules for falling allow now; never above `current`."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return current
    limits = []
    for policy in rules.policies:
        start = _replicas_at_start(current, policy, ups, downs, now)
        if policy.type is PolicyType.PODS:
            limits.append(wrap_int32(start - policy.value))
        else:
            limits.append(int32_of_float(float(start) * (1 - float(policy.value) / 100)))
    if rules.select_policy is SelectPolicy.MIN:
        return min(max(limits, default=INT32_MIN), current)
    return min(min(limits, default=INT32_MAX), current)


def record_change(events: Events, change: int, rules: ScalingRules, now: datetime) -> Events:
    """Remember a change; it takes the place of the last one that no limit needs any more.

    Which ones are not needed is judged by the longest period of the rules as they are now, and
    stays judged when the rules change.

    Args:
        events: of the same direction.
        change: replicas added or removed, 1 or more.
        rules: for that direction.
        now: when the change was made.
    """
    longest_s = max((policy.period_s for policy in rules.policies), default=0)
    since = now - timedelta(seconds=longest_s)
    kept = [
        replace(event, outdated=True) if event.at < since and not event.outdated else event
        for event in events
    ]
    newest = ScaleEvent(now, change)
    outdated = [index for index, event in enumerate(kept) if event.outdated]
    if outdated:
        kept[outdated[-1]] = newest
    else:
        kept.append(newest)
    return tuple(kept)


def _replicas_at_start(
    current: int,
    policy: ScalingPolicy,
    ups: Sequence[ScaleEvent],
    downs: Sequence[ScaleEvent],
    now: datetime,
) -> int:
    """Replicas when a policy's period began."""
    since = now - timedelta(seconds=policy.period_s)
    return wrap_int32(current - _changed_since(ups, since) + _changed_since(downs, since))


def _changed_since(events: Sequence[ScaleEvent], since: datetime) -> int:
    """Replicas that were changed after a moment; also by events that are marked as outdated."""
    return sum(event.change for event in events if event.at > since)
