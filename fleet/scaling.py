"""Which agents of a workload change when its wanted number in a region changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import InvalidInputError, NotFoundError
from fleet.reports import AgentDeclaration
from fleet.rescaling.stop_order import StopFacts, order_stops

REPLICAS_MAX = 1_000_000
"""Ten times the largest fleet that is measured: refuses a slip of the keyboard."""


_SCALED = "scaled to"


class ScalePlan(NamedTuple):
    """What a change of scale does."""

    declared: list[AgentDeclaration]
    """New agents, pending until somebody places them."""
    changed: list[Placement]
    """Placements to stop or revive, same node and epoch."""
    reason: str


def plan_scale(
    workload: str,
    region: str,
    replicas: int,
    agents: Mapping[str, AgentDeclaration],
    placements: Mapping[str, Placement],
    now: datetime,
    *,
    facts: Mapping[str, StopFacts] | None = None,
    nodes: Collection[str] | None = None,
) -> ScalePlan:
    """Plan a change of scale; an agent counts for the region where it is placed, else its home.

    Fewer: those go whose end costs least (`fleet.rescaling.stop_order`). More: those that were
    stopped come back first, on their node when it is still there, and then new ones are declared.

    Args:
        workload: to scale.
        region: where.
        replicas: that there are to be.
        agents: declared ones, of this workload at least.
        placements: as stored, of these.
        now: becomes `updated_at`.
        facts: what is known of agents that may go; without them the last by name go first, those
            that have no node before all others.
        nodes: that can run agents; one that comes back and was on another waits for a place. None:
            all of them can.

    Raises:
        InvalidInputError: `replicas` out of range.
        NotFoundError: no agent of the workload exists anywhere.
    """
    if not 0 <= replicas <= REPLICAS_MAX:
        raise InvalidInputError("replicas", replicas, f"0 to {REPLICAS_MAX}")
    family = [agent for agent in agents.values() if agent.workload == workload]
    if not family:
        raise NotFoundError(
            f"no agent of workload {workload} is declared",
            hint="Declare one first: it gives the shape.",
        )
    here: dict[str, Placement | None] = {}
    for agent in sorted(family):
        placed = placements.get(agent.agent_id)
        if (agent.region if placed is None else placed.region) == region:
            here[agent.agent_id] = placed
    wanted = [agent_id for agent_id, placed in here.items() if _is_wanted(placed)]
    reason = scaled_reason(replicas, region)
    if replicas <= len(wanted):
        known = _with_places(wanted, here, facts or {})
        surplus = sorted(order_stops(wanted, known, now)[: len(wanted) - replicas])
        stop = [_placement_of(agents[a], here[a], "stopped", reason, now) for a in surplus]
        return ScalePlan([], stop, reason)
    missing = replicas - len(wanted)
    idle = [p for p in here.values() if p is not None and p.desired == "stopped"]
    revived = [_revived(placed, nodes, reason, now) for placed in idle[:missing]]
    missing -= len(revived)
    shape = agents[min(here)] if here else min(family)
    declared: list[AgentDeclaration] = []
    number = 0
    while len(declared) < missing:
        agent_id = f"{workload}-{region}-scaled-{number}"
        number += 1
        if agent_id not in agents:
            declared.append(shape._replace(agent_id=agent_id, region=region))
    return ScalePlan(declared, revived, f"{reason}; not placed yet")


def scaled_reason(replicas: int, region: str) -> str:
    """How the reason of a placement begins that a change of scale has made."""
    return f"{_SCALED} {replicas} in {region}"


def is_scaled_away(placed: Placement) -> bool:
    """Whether an agent was stopped by a change of scale, and by nothing else."""
    return placed.desired == "stopped" and placed.reason.startswith(f"{_SCALED} ")


def _with_places(
    wanted: Collection[str],
    here: Mapping[str, Placement | None],
    facts: Mapping[str, StopFacts],
) -> dict[str, StopFacts]:
    """The facts, with what the placements themselves say: who has no node has nothing to lose."""
    known = {}
    for agent_id in wanted:
        placed = here[agent_id]
        at_work = placed is not None and placed.desired == "running"
        known[agent_id] = facts.get(agent_id, StopFacts())._replace(placed=at_work)
    return known


def _revived(
    placed: Placement, nodes: Collection[str] | None, reason: str, now: datetime
) -> Placement:
    """One that was stopped, wanted again: where it was, or waiting for a place."""
    stays = nodes is None or placed.node_id in nodes
    return placed._replace(
        node_id=placed.node_id if stays else "",
        desired="running",
        reason=reason if stays else f"{reason}; its node {placed.node_id or 'none'} is gone",
        updated_at=now,
    )


def _is_wanted(placed: Placement | None) -> bool:
    return placed is None or placed.desired != "stopped"


def _placement_of(
    agent: AgentDeclaration, placed: Placement | None, desired: str, reason: str, now: datetime
) -> Placement:
    """The placement with another wish; for an agent without one, a placement on no node."""
    if placed is not None:
        return placed._replace(desired=desired, reason=reason, updated_at=now)
    return Placement(
        agent_id=agent.agent_id,
        network_id=agent.network_id,
        workload=agent.workload,
        node_id="",
        region=agent.region,
        epoch=0,
        term=0,
        desired=desired,
        reason=reason,
        updated_at=now,
    )
