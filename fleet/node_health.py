"""Health of every node: the store's signs of life joined with what the controller makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fleet.controller_view import KeptView, WatchedNode
from fleet.failover.records import ControllerState, NodeState
from fleet.failover_tables import NodeHealth
from fleet.inventory_checks import CheckVerdict, Offender, judge
from fleet.leases import Lease
from fleet.node_beats import NodeBeat

UNWATCHED = "unwatched"
"""State of every node before a controller has told its view."""

UNLISTED = "unlisted"
"""State of a node that the view does not name, while it leaves out more than it can name."""

VIEW_MAX_AGE_S = 60.0
"""Oldest view of a controller that lives: it tells one every few seconds, a restart of the code
server takes half a minute."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def join_health(
    beats: Iterable[NodeBeat], regions: Mapping[str, str], kept: KeptView | None, now: datetime
) -> list[NodeHealth]:
    """One row for each node that has a region, ordered as the beats are.

    Args:
        beats: signs of life in the store.
        regions: node -> region, of the nodes that are wanted.
        kept: the controller's view; None when there is none.
        now: the moment of the look; ages count to it.
    """
    watched = {} if kept is None else {one.node_id: one for one in kept.view.nodes}
    return [
        _row(beat, regions[beat.node_id], watched.get(beat.node_id), kept, now)
        for beat in beats
        if beat.node_id in regions
    ]


def _row(
    beat: NodeBeat, region: str, seen: WatchedNode | None, kept: KeptView | None, now: datetime
) -> NodeHealth:
    state = UNWATCHED if kept is None else NodeState.HEALTHY.value
    if kept is not None and kept.view.nodes_left_out:
        state = UNLISTED
    heartbeat_at, expires_at = _moment(beat.heartbeat_us), _moment(beat.expires_us)
    return NodeHealth(
        node_id=beat.node_id,
        region=region,
        state=state if seen is None else seen.state.value,
        since=None if seen is None else seen.since,
        incident_id="" if seen is None else seen.incident,
        heartbeat_at=heartbeat_at,
        heartbeat_age_s=None if heartbeat_at is None else (now - heartbeat_at).total_seconds(),
        lease_holder=beat.holder,
        lease_term=beat.term,
        lease_left_s=None if expires_at is None else (expires_at - now).total_seconds(),
        seen_heartbeat_age_s=None if seen is None else seen.heartbeat_age_s,
        seen_lease_age_s=None if seen is None else seen.lease_age_s,
        seen_work_age_s=None if seen is None else seen.work_age_s,
        observers=0 if seen is None else seen.observers,
        votes_dead=0 if seen is None else seen.votes_dead,
        votes_alive=0 if seen is None else seen.votes_alive,
        boot_id=beat.boot_id,
        viewed_at=None if kept is None else kept.kept_at,
        looked_at=now,
    )


def _moment(microseconds: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=microseconds) if microseconds else None


def total_health(rows: Sequence[NodeHealth]) -> dict[str, int | float]:
    """Numbers that plot: nodes by state (each state is there), the oldest heartbeat."""
    counts = Counter(row.state for row in rows)
    numbers: dict[str, int | float] = {"nodes": len(rows)}
    for state in (*(one.value for one in NodeState), UNWATCHED, UNLISTED):
        numbers[f"nodes_{state}"] = counts[state]
    ages = [row.heartbeat_age_s for row in rows if row.heartbeat_age_s is not None]
    return {**numbers, "oldest_heartbeat_s": max(ages, default=0.0)}


def check_controller(
    leader: Lease | None, kept: KeptView | None, now: datetime, *, enabled: bool
) -> CheckVerdict:
    """A controller leads, has looked lately, and is not frozen.

    Args:
        leader: the leader lease as stored; None when nobody ever led.
        kept: the controller's view.
        now: the moment.
        enabled: whether the settings let sensors watch at all.
    """
    if not enabled:
        return judge("nobody is to watch: failover.enabled is false", 0, [])
    offenders = []
    if leader is None or not leader.holder or leader.expires_at <= now:
        ended = "nobody ever led" if leader is None else f"it ended at {leader.expires_at:%H:%M:%S}"
        offenders.append(Offender("leader lease", "", f"nobody leads: {ended}"))
    age_s = None if kept is None else (now - kept.kept_at).total_seconds()
    if kept is None or age_s is None:
        offenders.append(Offender("last look", "", "no controller has ever told what it sees"))
    elif age_s > VIEW_MAX_AGE_S:
        detail = f"the newest one is {age_s:.0f} s old, {VIEW_MAX_AGE_S:.0f} s are allowed"
        offenders.append(Offender("last look", "", detail))
    elif kept.view.controller is ControllerState.FROZEN:
        rules = ", ".join(kept.view.frozen_by) or "no rule is named"
        offenders.append(Offender("controller", "", f"it is frozen: {rules}"))
    numbers = {} if age_s is None else {"last_look_s": round(max(0.0, age_s), 3)}
    claim = "{offenders} of {checked} signs of a controller that works are missing"
    return judge(claim, 3, offenders, numbers=numbers)
