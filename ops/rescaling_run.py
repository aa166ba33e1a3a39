"""A run of rescaling in order: look again, scale, wait; each step journaled, each safe to repeat.

Committed by `ScalingStore.apply_scales`, one transaction for the whole run. Killed before it, the
changes are still pending and ordered again; killed behind it, a second run finds them made, places
what waits and waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.ports.clock import PatientClock
from fleet.ports.cluster import FleetScaler, ScaleWish
from fleet.ports.control_store import ControlStore
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.pods import by_workload
from fleet.rescaling.scale_order import ScaleOrder, batch_key
from fleet.rescaling.standing import APPROVAL, ScaleResult, ScalingStanding, live_orders
from ops.rescaling import brakes_of, is_allowed, mode_of
from ops.step_journal import StepJournal

_POLL_S = 0.1
_COST_SHARE = 4
"""A pause is at least so many times as long as a look, so that looking never fills the time."""
_NAMED = 3


class ScalingRunPorts(NamedTuple):
    """The world of a run."""

    store: ControlStore
    cluster: FleetScaler
    clock: PatientClock
    declaration: RescalingDeclaration
    sessions: Callable[[], Mapping[str, int] | str]
    """Open sessions by agent, or why nobody knows them."""

    def journal(self, orders: Sequence[ScaleOrder]) -> StepJournal:
        """The journal of one run."""
        return StepJournal(self.store, self.clock, f"rescaling/{batch_key(orders)}", "rescaling")


class Rechecked(NamedTuple):
    """What is left of the orders."""

    wishes: tuple[ScaleWish, ...]
    """Changes to be made."""
    dropped: tuple[str, ...]
    """What is not to be made any more, and why; sorted."""


class Ready(NamedTuple):
    """How the scaled workloads stand."""

    ready: int
    waiting: tuple[str, ...]
    """Agents that have a node and do not run yet, each with why; sorted."""
    parked: tuple[str, ...]
    """Agents that no node has room for, or that failover has parked, each with why; sorted."""


def recheck(ports: ScalingRunPorts, orders: Sequence[ScaleOrder]) -> Rechecked:
    """Look again before acting: the term, the pending change, the number, who allows it.

    Raises:
        LeaseLostError: another controller leads; nothing may be done.
        InvalidInputError: no orders, or of different terms.
    """
    term = term_of(orders)
    store = ports.store
    with ports.journal(orders).step("recheck", f"{len(orders)} changes are looked at again") as s:
        store.demand_scaling_term(term)
        agents = by_workload(store.scaled_agents(sorted({one.workload for one in orders})))
        standings = {one.key: one for one in store.scaling_standings()}
        holds, approvals = live_orders(store.scaling_orders(), ports.clock.now())
        brakes = brakes_of(store, ports.declaration)
        wishes, dropped = [], []
        for order in orders:
            standing = standings.get(order.key)
            found = agents.get(order.key)
            problem = brakes.on(order.region, ordered=order.key in holds) or _problem(
                order, standing, 0 if found is None else len(found.wanted)
            )
            pending = standing.pending if isinstance(standing, ScalingStanding) else None
            if not problem and pending is not None:
                mode = mode_of(ports.declaration, order.workload)
                said = (holds.get(order.key), approvals.get(order.key))
                if not is_allowed(mode, pending, *said):
                    problem = "nobody allows it any more"
            if problem or pending is None or not isinstance(standing, ScalingStanding):
                dropped.append(f"{order.workload} in {order.region}: {problem}")
            else:
                wishes.append(_wish(order, standing))
        s.reason = f"{len(wishes)} of {len(orders)} changes are to be made"
        s.detail = {"dropped": dropped[:50]}
        if dropped:
            s.reason += f"; not any more: {'; '.join(sorted(dropped)[:_NAMED])}"
    return Rechecked(tuple(wishes), tuple(sorted(dropped)))


def term_of(orders: Sequence[ScaleOrder]) -> int:
    """The one term under which orders were given.

    Raises:
        InvalidInputError: there is none, or more than one.
    """
    terms = {one.term for one in orders}
    if len(terms) != 1:
        raise InvalidInputError("orders", sorted(terms), "orders of one controller's term")
    return terms.pop()


def _problem(
    order: ScaleOrder, standing: ScalingStanding | DamagedStanding | None, wanted: int
) -> str:
    """Why the plan is not that of the order any more; empty when it is."""
    if isinstance(standing, DamagedStanding):
        return standing.told
    if standing is None or standing.pending is None:
        return "it was made, or decided otherwise"
    pending = standing.pending
    if (pending.current, pending.desired) != (order.current, order.desired):
        return f"{pending.current} to {pending.desired} is decided by now"
    if wanted != order.current:
        return f"{wanted} are wanted by now, it was planned on {order.current}"
    return ""


def _wish(order: ScaleOrder, standing: ScalingStanding) -> ScaleWish:
    assert standing.pending is not None, "rechecked"
    return ScaleWish(
        order.workload,
        order.region,
        order.desired,
        standing.scales,
        standing.pending.state,
        order.reason,
    )


def scale(
    ports: ScalingRunPorts, orders: Sequence[ScaleOrder], wishes: Sequence[ScaleWish]
) -> list[ScaleResult]:
    """Make the changes that are left, and place what is new.

    Raises:
        LeaseLostError: another controller leads by now; nothing was changed.
    """
    with ports.journal(orders).step("scale", f"{len(wishes)} workloads are scaled") as s:
        fewer = {one.key for one in orders if one.desired < one.current}
        sessions: Mapping[str, int] | str = {}
        if any((one.workload, one.region) in fewer for one in wishes):
            sessions = ports.sessions()
        known = {} if isinstance(sessions, str) else sessions
        results = ports.cluster.rescale(wishes, known, term=term_of(orders))
        made = [(one.workload, one.region) for one in results if one.made]
        s.reason = f"{len(made)} of {len(wishes)} changes were made"
        if isinstance(sessions, str):
            s.reason += f"; sessions of agents were not known: {sessions}"
        if len(made) < len(results):
            s.reason += "; the others were overtaken"
        ports.store.lift_scaling(made, APPROVAL, "rescaling", "the change was made")
    return results


def wait_ready(ports: ScalingRunPorts, orders: Sequence[ScaleOrder], timeout_s: float) -> Ready:
    """Wait until all agents that are wanted of these workloads run, or until the time is over."""
    with ports.journal(orders).step("ready", "agents are waited for") as s:
        give_up_s = ports.clock.monotonic_s() + timeout_s
        seen = _look(ports, orders)
        while seen.waiting and ports.clock.monotonic_s() < give_up_s:
            began_s = ports.clock.monotonic_s()
            seen = _look(ports, orders)
            cost_s = ports.clock.monotonic_s() - began_s
            if seen.waiting and not ports.clock.pause(max(_POLL_S, _COST_SHARE * cost_s)):
                break
        s.reason = f"{seen.ready} agents run"
        if seen.waiting:
            s.reason += f"; {len(seen.waiting)} do not yet: {'; '.join(seen.waiting[:_NAMED])}"
        if seen.parked:
            s.reason += f"; {len(seen.parked)} have no node: {'; '.join(seen.parked[:_NAMED])}"
    return seen


def _look(ports: ScalingRunPorts, orders: Sequence[ScaleOrder]) -> Ready:
    keys = {one.key for one in orders}
    found = by_workload(ports.store.scaled_agents(sorted({one.workload for one in orders})))
    ready = 0
    waiting: list[str] = []
    parked: list[str] = []
    for key in sorted(keys & found.keys()):
        ready += found[key].ready
        for one in found[key].not_ready:
            is_parked = one.placement is not None and not one.placement.node_id
            why = one.agent.reason or "no reason given"
            told = f"{one.agent.agent_id}: {one.agent.phase}, {why}"
            (parked if is_parked else waiting).append(told)
    return Ready(ready, tuple(sorted(waiting)), tuple(sorted(parked)))
