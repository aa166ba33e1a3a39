"""Parked, ready replicas in place of zero: work then waits for an activation, not for a model."""

from __future__ import annotations

from fleet.rescaling.policy import WarmPool

RULE = "warm-pool"


def warm_floor(pool: WarmPool) -> tuple[int, str]:
    """The fewest replicas that stay, and why."""
    model = f" on {pool.gpu_model}" if pool.gpu_model else ""
    return pool.size, f"{pool.size} stay ready{model} in place of none"
