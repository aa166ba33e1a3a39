"""Empties the nodes of an approved proposal: marked first, then given up one after another.

Committed step by step, each by the store: a mark, then the order to fail over. Run again after a
crash at any step, it finds marks and empty nodes as they are and goes on with what is left.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from fleet.consolidation.records import ConsolidationProposal
from fleet.errors import StoreUnavailableError
from fleet.operator_orders import maintenance_subject
from fleet.ports.clock import PatientClock
from fleet.ports.control_store import ControlStore
from ops.consolidation import mark_of

MARKED_FOR = timedelta(days=1)
"""How long the nodes take no agents: until then they should be given back."""

LOOK_S = 0.5
"""Between two looks at a node that is being emptied."""


class NodeOrders(NamedTuple):
    """Who gives the orders, and through whom."""

    by: str
    reason: str
    give_up: Callable[[str], object]
    """Orders the failover of a node; an order that was given before changes nothing."""
    say: Callable[[str], None]
    """Told of each node that is empty."""


def empty_nodes(
    store: ControlStore,
    proposal: ConsolidationProposal,
    orders: NodeOrders,
    clock: PatientClock,
    timeout_s: float,
) -> int:
    """Move the agents of a proposal's nodes away, node by node; how many there were to move.

    All nodes are marked before the first is emptied, so that none of them takes the agents of
    another one.

    Args:
        store: the control store.
        proposal: as the last look has validated it.
        orders: who, why, and the way to the controller.
        clock: stamps marks, and waits.
        timeout_s: for each node.

    Raises:
        StoreUnavailableError: a node still has agents after `timeout_s`, or the process was asked
            to end; what was done stays, and the same call goes on.
    """
    said = f"{mark_of(proposal.proposal_id)}: {orders.reason}"
    until = clock.now() + MARKED_FOR
    for node_id in proposal.nodes:
        store.start_maintenance(maintenance_subject("node", node_id), until, orders.by, said)
    moved = 0
    for node_id in proposal.nodes:
        agents = running_on(store, node_id)
        if agents:
            orders.give_up(node_id)
            _wait_until_empty(store, node_id, clock, timeout_s)
        orders.say(f"{node_id}: {agents} agents moved away")
        moved += agents
    return moved


def running_on(store: ControlStore, node_id: str) -> int:
    """Agents that are to run on a node."""
    return sum(one.desired == "running" for one in store.placements(node_id=node_id))


def _wait_until_empty(
    store: ControlStore, node_id: str, clock: PatientClock, timeout_s: float
) -> None:
    started_s = clock.monotonic_s()
    while left := running_on(store, node_id):
        if clock.monotonic_s() - started_s >= timeout_s:
            raise StoreUnavailableError(
                f"node {node_id} still has {left} agents after {timeout_s:g} s",
                hint="`stateroom incidents` tells what holds it up; run this again to go on.",
            )
        if not clock.pause(LOOK_S):
            raise StoreUnavailableError(
                f"asked to end while node {node_id} still had {left} agents",
                hint="Run this again to go on.",
            )
