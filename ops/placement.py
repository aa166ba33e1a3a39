"""Placing agents that wait for a node: what looks of the rescaler do when room has come back.

`place_waiting` is the whole of it for one call; `resources.placing` holds the loop, because `up`
and a cluster's own changes of scale run it, too.
"""

from collections.abc import Collection
from datetime import datetime

from fleet.inventory import NodePhase
from fleet.leases import LEADER_LEASE
from fleet.operator_orders import marked_nodes
from fleet.placement.quotas import ResourceUse, require_quota
from fleet.ports.cluster import PlacementFollower
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration
from resources import placing
from resources.placing import PlacementOutcome

__all__ = ["PlacementOutcome", "alive_nodes", "newest_term", "place_waiting", "require_room"]


def place_waiting(
    store: ControlStore,
    nodes_alive: Collection[str],
    *,
    now: datetime,
    term: int,
    limit: int | None = None,
    leader_term: int | None = None,
    cluster: PlacementFollower | None = None,
) -> PlacementOutcome:
    """Place agents that have no node: plan, compare-and-swap, plan anew for those that lost.

    Called so::

        outcome = place_waiting(
            store, alive_nodes(store, now), now=now, term=newest_term(store), cluster=cluster
        )

    Agents wait when they were never placed, are wanted again after they gave their room back, or
    are parked for lack of room, of quota or of their gang; see `resources.placing.place_waiting`.
    Committed round by round, so a run that dies is made up for by calling again.

    Args:
        store: the control store.
        nodes_alive: nodes that may take agents, as `alive_nodes` gives them; others keep theirs.
        now: stamps the placements.
        term: under which to place, as `newest_term` gives it.
        limit: at most so many agents, the most important first; None: all.
        leader_term: place as the leader of this term; None: as an operator.
        cluster: is told, so that nodes follow at once; None: they find out at their next look.

    Returns:
        What was placed, what was parked and why, and how many lost in every round.

    Raises:
        LeaseLostError: `leader_term` does not lead; what earlier rounds stored stays.
        StoreUnavailableError: the store cannot be reached; the same holds.
    """
    outcome = placing.place_waiting(
        store, nodes_alive, now=now, term=term, limit=limit, leader_term=leader_term
    )
    if cluster is not None and outcome.placed:
        cluster.apply_placements(outcome.placed)
    return outcome


def alive_nodes(store: ControlStore, now: datetime) -> frozenset[str]:
    """Nodes that run, as the store has heard of them, and that nobody works on: they take agents.

    Args:
        store: of the fleet.
        now: by which maintenance marks are judged.
    """
    nodes = [one for one in store.nodes() if one.phase == NodePhase.RUNNING]
    marked = marked_nodes(nodes, store.maintenances(), now)
    return frozenset(one.node_id for one in nodes) - marked


def newest_term(store: ControlStore) -> int:
    """The last leader's term: with a lower one the store refuses agents that it has placed."""
    lease = store.lease(LEADER_LEASE)
    return 0 if lease is None else lease.term


def require_room(store: ControlStore, agent: AgentDeclaration, more: int) -> None:
    """Return when the quota of an agent's network allows so many more like it.

    To be asked before agents are declared whom no plan could place. The answer may be old a moment
    later; what counts is checked again while they are placed.

    Raises:
        QuotaExceededError: it does not; names quota, use and request.
    """
    limits = {one.network_id: one for one in store.network_limits()}.get(agent.network_id)
    used = store.network_uses([agent.network_id]).get(agent.network_id, ResourceUse())
    require_quota(used, ResourceUse().plus(agent, more), limits)
