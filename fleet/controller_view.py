"""What the leading controller sees, kept where anybody can read it: small, dated, and told once.

Between two ticks a controller remembers only what is not plainly healthy, and ages by its own
clock. The view is that memory in words of the wall clock: everything that it does not name was
plainly healthy at `looked_at`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError
from fleet.failover.records import ControllerState, Decision, Evidence, NodeState, RegionState

VERSION = 1

NODES_MAX = 2_000
"""Nodes that a view names: some 250 KB. A fleet that loses more at once is told by counts."""

_FIRST = {
    state: rank
    for rank, state in enumerate(
        (
            NodeState.CONFIRMED,
            NodeState.FENCED,
            NodeState.SUSPECT,
            NodeState.GRAY,
            NodeState.DEGRADED,
            NodeState.QUARANTINE,
            NodeState.PROBATION,
            NodeState.MOVED,
            NodeState.MAINTENANCE,
            NodeState.HEALTHY,
        )
    )
}
"""What a person wants to see first, where not all nodes can be named."""


class WatchedNode(NamedTuple):
    """One node that is not plainly healthy; ages are the controller's own."""

    node_id: str
    state: NodeState
    since: datetime
    """When it went into this state."""
    incident: str
    heartbeat_age_s: float | None
    """Since a new heartbeat was seen; None: never, or the node is not declared any more."""
    lease_age_s: float | None
    """Since its lease was seen renewed."""
    work_age_s: float | None
    """Since newer work of an agent there was seen."""
    observers: int
    """Configured for this node."""
    votes_dead: int
    votes_alive: int


class WatchedRegion(NamedTuple):
    """One region that is not plainly normal."""

    region: str
    state: RegionState
    since: datetime
    incident: str


class ControllerView(NamedTuple):
    """One look of one controller."""

    holder: str
    """Names the controller: host, process, start."""
    term: int
    """Of its lease; a view of a lower term never replaces one of a higher."""
    looked_at: datetime
    """By its wall clock."""
    controller: ControllerState
    frozen_by: tuple[str, ...] = ()
    """Rules that keep it from acting."""
    observers_configured: int = 1
    observers_reporting: int = 1
    paused: str = ""
    """Who paused the automation, and why; '' while it runs."""
    nodes: tuple[WatchedNode, ...] = ()
    """By name."""
    regions: tuple[WatchedRegion, ...] = ()
    """By name."""
    nodes_left_out: tuple[tuple[NodeState, int], ...] = ()
    """How many more nodes are in each state than `nodes` names; empty when it names all."""

    @property
    def standing(self) -> tuple[object, ...]:
        """What is news when it changes; ages grow all the time and are none."""
        return (
            self.holder,
            self.term,
            self.controller,
            self.frozen_by,
            self.paused,
            tuple((one.node_id, one.state, one.incident) for one in self.nodes),
            tuple((one.region, one.state, one.incident) for one in self.regions),
            self.nodes_left_out,
        )


class KeptView(NamedTuple):
    """A view as the store holds it."""

    view: ControllerView
    kept_at: datetime
    """When it was stored, by the store's clock."""


def take_view(evidence: Evidence, decision: Decision) -> ControllerView:
    """The view of one tick.

    Args:
        evidence: what the tick has seen.
        decision: what it made of it.
    """
    state, at = decision.state, evidence.at
    now_s = state.tick_s or 0.0

    def moment(since_s: float) -> datetime:
        return at - timedelta(seconds=max(0.0, now_s - since_s))

    odd = [
        one for one in state.nodes.values() if one.state is not NodeState.HEALTHY or one.incident
    ]
    odd.sort(key=lambda mark: (_FIRST[mark.state], mark.node_id))
    left_out = Counter(mark.state for mark in odd[NODES_MAX:])
    nodes = [
        _watched(evidence, mark.node_id, mark.state, moment(mark.since_s), mark.incident)
        for mark in sorted(odd[:NODES_MAX])
    ]
    regions = [
        WatchedRegion(name, mark.state, moment(mark.since_s), mark.incident)
        for name, mark in sorted(state.regions.items())
        if mark.state is not RegionState.NORMAL or mark.incident
    ]
    return ControllerView(
        holder=evidence.clock_id,
        term=evidence.leader.term,
        looked_at=at,
        controller=decision.controller,
        frozen_by=tuple(state.frozen_by),
        observers_configured=evidence.observers_configured,
        observers_reporting=evidence.observers_reporting,
        paused=evidence.directives.paused,
        nodes=tuple(nodes),
        regions=tuple(regions),
        nodes_left_out=tuple(sorted(left_out.items())),
    )


def doubted_nodes(view: ControllerView) -> tuple[str, ...]:
    """Nodes that take nobody in: what the controller does not hold to be healthy, sorted."""
    return tuple(sorted(one.node_id for one in view.nodes if one.state is not NodeState.HEALTHY))


def _watched(
    evidence: Evidence, node_id: str, state: NodeState, since: datetime, incident: str
) -> WatchedNode:
    columns = evidence.nodes
    index = columns.find(node_id)
    if index is None:  # retired, and its incident has not ended yet
        return WatchedNode(node_id, state, since, incident, None, None, None, 0, 0, 0)
    return WatchedNode(
        node_id,
        state,
        since,
        incident,
        _age(columns.heartbeat_age_s[index]),
        _age(columns.lease_age_s[index]),
        _age(columns.work_age_s[index]),
        int(columns.observers[index]),
        int(columns.votes_dead[index]),
        int(columns.votes_alive[index]),
    )


def _age(value: Any) -> float | None:
    seconds = float(value)
    return round(seconds, 3) if math.isfinite(seconds) else None


def encode_view(view: ControllerView) -> str:
    """One line of JSON; some 120 bytes for each node that it names."""
    document = {
        **view._asdict(),
        "version": VERSION,
        "looked_at": view.looked_at.isoformat(),
        "nodes": [[*one[:2], one.since.isoformat(), *one[3:]] for one in view.nodes],
        "regions": [[*one[:2], one.since.isoformat(), one.incident] for one in view.regions],
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def decode_view(text: str) -> ControllerView:
    """Read what `encode_view` wrote.

    Raises:
        InvalidInputError: not JSON, another version, or fields of the wrong kind.
    """
    try:
        found = json.loads(text)
        if found.pop("version") != VERSION:
            raise _refusal(text, "another version")
        return ControllerView(
            **{
                **found,
                "looked_at": datetime.fromisoformat(found["looked_at"]),
                "controller": ControllerState(found["controller"]),
                "frozen_by": tuple(found["frozen_by"]),
                "nodes": tuple(_node(*row) for row in found["nodes"]),
                "regions": tuple(_region(*row) for row in found["regions"]),
                "nodes_left_out": tuple(
                    (NodeState(state), int(count))
                    for state, count in found.get("nodes_left_out", ())
                ),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refusal(text, repr(error)) from error


def _refusal(text: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        "controller view",
        f"{text[:80]!r} ({why})",
        f"version {VERSION} as written by encode_view",
        hint="The leading controller replaces it within seconds; is one running?",
    )


def _node(node_id: str, state: str, since: str, *rest: Any) -> WatchedNode:
    return WatchedNode(node_id, NodeState(state), datetime.fromisoformat(since), *rest)


def _region(region: str, state: str, since: str, incident: str) -> WatchedRegion:
    return WatchedRegion(region, RegionState(state), datetime.fromisoformat(since), incident)
