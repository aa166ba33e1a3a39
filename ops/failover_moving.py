"""The move itself: bring lost states back, then switch the placements.

Committed by `place_agents`, batch by batch, one transaction each: before it an agent belongs to the
node that was lost, after it to the new one, and every writer of the old epoch is refused.
"""

from collections.abc import Mapping, Sequence

from fleet.agents import Placement
from fleet.failover_moves import PlannedMove, Settled, batches, settle, to_placement
from fleet.failover_order import FailoverOrder
from fleet.incident_timeline import Losses, losses_detail
from ops.failover_ports import FailoverPorts
from ops.failover_states import restore_states


def move(
    ports: FailoverPorts, order: FailoverOrder, moves: Sequence[PlannedMove]
) -> list[Placement]:
    """Make planned moves that are not made yet; those that somebody overtook are left alone.

    States that the store has lost come back first, from a backup: an agent never starts without a
    state that it had. One whose backups fail stays where it is until the next attempt, and is
    parked by the last (`failover_states.RESTORE_ATTEMPTS`), which says so.

    Returns:
        All placements of these moves as they are in force now, ordered by agent.

    Raises:
        LeaseLostError: another controller leads; batches before this one are in force.
    """
    stored = {one.agent_id: one for one in ports.store.placements()}
    in_force: list[Placement] = []
    for number, batch in enumerate(batches(moves)):
        settled = settle(batch, stored)
        in_force += [stored[one.agent_id] for one in settled.made]
        if settled.pending:
            part = f"{order.label}-{number:04d}"
            in_force += _move_batch(ports, order, part, settled, stored)
    return sorted(in_force)


def _move_batch(
    ports: FailoverPorts,
    order: FailoverOrder,
    part: str,
    settled: Settled,
    stored: Mapping[str, Placement],
) -> list[Placement]:
    journal, pending = ports.journal(order), settled.pending
    with journal.step(f"restore/{part}", f"the states of {len(pending)} agents are read") as s:
        bodies = restore_states(ports, order, pending, stored)
        s.reason, s.detail = bodies.told, losses_detail(bodies.losses)
    held = _held_back(ports, order, pending)
    pending = tuple(one for one in pending if one.agent_id not in held)
    with journal.step(f"move/{part}", f"{len(pending)} agents are placed anew") as s:
        wanted = [
            to_placement(bodies.parked.get(one.agent_id, one), stored[one.agent_id], order.term)
            for one in pending
            if one.agent_id not in bodies.waiting
        ]
        placed = ports.store.place_agents(wanted, leader_term=order.term)
        moved = sum(one.desired == "running" for one in placed)
        s.detail = losses_detail(Losses(moved=moved, parked=len(placed) - moved))
        s.reason = f"{moved} agents belong to other nodes now, {len(placed) - moved} to none"
        if bodies.waiting:
            s.reason += f"; {len(bodies.waiting)} wait for their states"
        overtaken = len(wanted) - len(placed) + len(settled.overtaken)
        if overtaken:
            s.reason += f"; {overtaken} had been placed by somebody else"
        if held:
            s.reason += f"; {len(held)} hold a state or a lease by now and wait for the fence"
    return placed


def _held_back(
    ports: FailoverPorts, order: FailoverOrder, pending: Sequence[PlannedMove]
) -> frozenset[str]:
    """Agents that were to go ahead of the fence and must not: looked at as late as can be.

    One that stores its first state between this look and the commit goes all the same: its new copy
    starts from that state, and the old one's next write is refused.
    """
    if not order.stateless_only:
        return frozenset()
    able = ports.store.stateless_agents(sorted({one.source for one in pending}))
    return frozenset(one.agent_id for one in pending) - frozenset(able)
