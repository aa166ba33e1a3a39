"""Least-connections weights: whoever has room gets more, a failing one gets the least.

A balancer that counts connections itself (HAProxy's and nginx's `least_conn`) needs capacities
only; DNS and Consul need weights that follow the load. Both get numbers from 1 to 255: HAProxy
takes 0 to 256, Route 53 0 to 255, and 0 would take an endpoint out, which `plan_view` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.services import CheckHealth, Registration

WEIGHT_MAX = 255
WEIGHT_MIN = 1


def capacity_weights(registrations: Sequence[Registration]) -> dict[str, int]:
    """Weights that follow the declared capacities; the largest has 255.

    Returns:
        agent_id to weight, 1 to 255; 1 for whatever fails its checks.
    """
    largest = max((entry.endpoint.capacity for entry in registrations), default=1)
    return {
        entry.endpoint.agent_id: _weight(entry, entry.endpoint.capacity / largest)
        for entry in registrations
    }


def least_connections_weights(
    registrations: Sequence[Registration], before: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Weights in inverse proportion to `(connections + 1) / capacity`; the least loaded has 255.

    Each weight goes only half of the way from what it was: readers act on weights with a delay (a
    DNS time to live), and a full step would send everybody to the one that was idle a minute ago.

    Args:
        registrations: who shares the load.
        before: the weights before, by agent_id; who is missing there takes the full step.

    Returns:
        agent_id to weight, 1 to 255; 1 for whatever fails its checks.
    """
    loads = {
        entry.endpoint.agent_id: (entry.connections + 1) / entry.endpoint.capacity
        for entry in registrations
    }
    least = min(loads.values(), default=1.0)
    weights = {}
    for entry in registrations:
        agent_id = entry.endpoint.agent_id
        target = _weight(entry, least / loads[agent_id])
        known = (before or {}).get(agent_id)
        if known is None or entry.health is CheckHealth.FAILING:
            weights[agent_id] = target
        else:
            weights[agent_id] = known + _half(target - known)
    return weights


def _weight(entry: Registration, share: float) -> int:
    if entry.health is CheckHealth.FAILING:
        return WEIGHT_MIN
    return max(WEIGHT_MIN, round(WEIGHT_MAX * share))


def _half(step: int) -> int:
    """Half of a step, away from zero, so that the target is reached."""
    return (step + 1) // 2 if step > 0 else -((1 - step) // 2)
