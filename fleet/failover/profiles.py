"""The two shipped policies: `production` waits minutes, `embedded` seconds.

What each costs follows from its numbers by `bounds`, which `docs/guarantees.md` prints: how long a
death can stay unnoticed, how long agents are down. How long two copies can write is no number of a
policy: it is zero under both, because only the lease's end, a stop or a termination fences.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.failover.policy import FailBackMode, FailoverPolicy, RegionMode

PRODUCTION = FailoverPolicy()
"""Nodes that are machines, in regions far apart; a person lets a region go."""

EMBEDDED = FailoverPolicy(
    tick_interval_s=2.0,
    leader_left_min_s=3.0,
    suspect_min_s=2.0,
    suspect_cap_s=6.0,
    confirm_s=2.0,
    contrary_fresh_s=1.5,
    terminated_margin_s=1.5,
    observers_min=2,
    lease_ttl_s=5.0,
    fence_margin_s=1.0,
    probation_s=5.0,
    probation_max_s=60.0,
    return_window_s=60.0,
    flap_window_s=60.0,
    quarantine_s=60.0,
    blast_fraction=0.5,
    blast_window_s=60.0,
    rate_nodes_min=4,
    rate_fraction=0.05,
    rate_window_s=1.0,
    cool_down_s=5.0,
    move_retry_s=15.0,
    region_verdict_s=3.0,
    region_mode=RegionMode.AUTO,
    crash_window_s=60.0,
    fail_back_mode=FailBackMode.MANUAL,
    fail_back_calm_s=30.0,
    fail_back_step_s=1.0,
    fail_back_hours_utc=(0, 24),
    fail_back_weekdays=(0, 1, 2, 3, 4, 5, 6),
)
"""Nodes that are processes of one machine: their end is seen by the parent, ages are seconds."""

PROFILES = {"production": PRODUCTION, "embedded": EMBEDDED}


class FailoverBounds(NamedTuple):
    """Worst cases that follow from a policy, in seconds; each counts from the node's last sign.

    They hold while the controller is active, observers answer, and no limit holds the move back.
    """

    suspect_s: float
    """Until a silent node is suspect."""
    confirmed_s: float
    """Until the death of a silent node is confirmed."""
    fenced_s: float
    """Until nothing there can write any more."""
    move_s: float
    """Until the move of a silent node is asked for."""
    move_terminated_s: float
    """Until the move is asked for, from the moment when the infrastructure says "terminated"."""
    region_s: float
    """Until the evacuation of a silent region is asked for (mode `auto`, or approved by then)."""
    region_terminated_s: float
    """The same for a region whose nodes are all terminated."""


def profile(name: str) -> FailoverPolicy:
    """The shipped policy of this name.

    Raises:
        InvalidInputError: there is none.
    """
    found = PROFILES.get(name)
    if found is None:
        raise InvalidInputError("profile", name, " or ".join(PROFILES))
    return found


def bounds(policy: FailoverPolicy, heartbeat_interval_s: float = 1.0) -> FailoverBounds:
    """Worst cases of a policy: each wait in full, then one tick until it is noticed.

    Args:
        policy: any.
        heartbeat_interval_s: mean interval of the node.
    """
    tick_s = policy.tick_interval_s
    silence_s = max(policy.suspect_min_s, policy.suspect_intervals * heartbeat_interval_s)
    suspect_s = min(silence_s, policy.suspect_cap_s) + tick_s
    confirmed_s = suspect_s + policy.confirm_s + tick_s
    fenced_s = policy.lease_ttl_s + policy.fence_margin_s + tick_s
    move_s = max(confirmed_s, fenced_s)
    return FailoverBounds(
        suspect_s=suspect_s,
        confirmed_s=confirmed_s,
        fenced_s=fenced_s,
        move_s=move_s,
        move_terminated_s=tick_s,
        region_s=max(suspect_s + policy.region_verdict_s + tick_s, move_s),
        region_terminated_s=policy.region_verdict_s + 2 * tick_s,
    )
