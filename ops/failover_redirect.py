"""Requests follow the agents: old copies leave discovery, and every router gets new tables.

Each part is journaled as `redirect/<label>-<part>` and idempotent: which services are touched is
written down before the first endpoint is taken out, so that a run which died in between applies
the same services. A router that is down fails its own part and nothing else: it becomes an
incident, of which people are told, and the others have their tables.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import LeaseLostError, StateroomError
from fleet.failover_order import FailoverOrder
from fleet.incidents import IncidentKind, incident_key
from fleet.inventory import AgentPhase
from fleet.services import Registration, Removal
from ops.failover_ports import FailoverPorts, TrafficPorts
from ops.router_incidents import open_traffic_incidents, tell_failure, tell_recovery
from ops.service_routes import RoutesApplied, apply_tables, plan_tables
from ops.step_journal import Step
from resources.service_registry.directory import ServiceDirectory

REDIRECT = "redirect"
"""Verb of the steps."""

REGISTER_TIMEOUT_S = 5.0
"""For running agents to be registered by their nodes, which do so with their next heartbeat."""

_POLL_S = 0.1
_BATCH = 1000
"""Endpoints of one transaction: some 30 ms on SQLite, so that heartbeats get their turn."""


class Redirection(NamedTuple):
    """What has become of the traffic of moved agents."""

    services: tuple[str, ...] = ()
    """Touched, sorted."""
    removed: int = 0
    """Endpoints of old copies that this try took out."""
    unregistered: tuple[str, ...] = ()
    """Agents that run and were not registered in time, sorted; their routes come later."""
    failed: Mapping[str, str] = {}
    """Router -> why it does not have its tables."""


class _RouterFailedError(Exception):
    """Ends the part of one router; never leaves this module."""


def redirect(
    ports: FailoverPorts,
    order: FailoverOrder,
    placed: Sequence[Placement],
    register_timeout_s: float = REGISTER_TIMEOUT_S,
) -> Redirection:
    """Take old copies out of discovery, and send their requests to the new ones.

    Args:
        ports: the world.
        order: what is carried out.
        placed: placements of the order that are in force.
        register_timeout_s: how long new copies are waited for that run and are not registered.

    Raises:
        LeaseLostError: another controller leads; it redirects what it decides.
        TransientError: registry or store does not answer; the next try goes on.
    """
    traffic = ports.traffic
    if traffic is None or not placed:
        return Redirection()
    ports.store.demand_leader_term(order.term)
    services = _services(ports, traffic, order, placed)
    removed = _take_out(ports, traffic, order, placed)
    missing = _wait_registered(ports, traffic, order, placed, register_timeout_s)
    failed = _apply(ports, traffic, order, services)
    return Redirection(services, removed, missing, failed)


def _services(
    ports: FailoverPorts, traffic: TrafficPorts, order: FailoverOrder, placed: Sequence[Placement]
) -> tuple[str, ...]:
    """The services that these agents answer for, written down before they are taken out."""
    name = f"{REDIRECT}/{order.label}-services"
    journal = ports.journal(order)
    for entry in journal.entries():
        if entry.step == name and entry.status == "done":
            return tuple(json.loads(entry.detail)["services"])
    found = {one.workload for one in placed}
    count = 0
    for batch in _batches(placed):
        held = traffic.registry.registrations_of([one.agent_id for one in batch])
        found.update(one.endpoint.service for one in held)
        count += len(held)
    services = tuple(sorted(found))
    reason = f"{len(placed)} agents answer for {len(services)} services at {count} endpoints"
    journal.record({name: Step(reason, {"services": services})})
    return services


def _take_out(
    ports: FailoverPorts, traffic: TrafficPorts, order: FailoverOrder, placed: Sequence[Placement]
) -> int:
    """Remove the old copies' endpoints; an epoch that was left may not register again."""
    name = f"{REDIRECT}/{order.label}-endpoints"
    with ports.journal(order).step(name, "old copies are taken out of discovery") as s:
        removed = 0
        for batch in _batches(placed):
            held = traffic.registry.registrations_of([one.agent_id for one in batch])
            old = _old_copies(held, batch)
            removals = [
                Removal(service, agent_id, epoch, order.because, moved=True, term=order.term)
                for (service, agent_id), epoch in sorted(old.items())
            ]
            for result in traffic.registry.remove_endpoints(removals):
                if isinstance(result.error, LeaseLostError):
                    raise result.error
            epochs = {one.agent_id: one.epoch for one in batch}
            removed += sum(one.endpoint.epoch < epochs[one.endpoint.agent_id] for one in held)
        s.reason = f"{removed} endpoints were taken out; {len(placed)} old epochs may not come back"
    return removed


def _old_copies(
    held: Iterable[Registration], batch: Iterable[Placement]
) -> dict[tuple[str, str], int]:
    """(service, agent) -> epoch that was left, also where it never registered: it still might."""
    left = {one.agent_id: one.epoch - 1 for one in batch}
    old = {(one.workload, one.agent_id): left[one.agent_id] for one in batch}
    for one in held:
        agent_id = one.endpoint.agent_id
        if one.endpoint.epoch <= left[agent_id]:
            old[one.endpoint.service, agent_id] = left[agent_id]
        else:
            old.pop((one.endpoint.service, agent_id), None)
    return old


def _wait_registered(
    ports: FailoverPorts,
    traffic: TrafficPorts,
    order: FailoverOrder,
    placed: Sequence[Placement],
    timeout_s: float,
) -> tuple[str, ...]:
    """Wait for the nodes to register agents that run; services nobody registers are not waited for.

    Returns:
        Those that are not registered, sorted.
    """
    missing = _expected(ports, traffic, placed)
    name = f"{REDIRECT}/{order.label}-registered"
    with ports.journal(order).step(name, f"{len(missing)} new endpoints are waited for") as s:
        wanted = len(missing)
        give_up_s = ports.clock.monotonic_s() + timeout_s
        while missing:
            for one in traffic.registry.registrations_of(sorted(missing)):
                if one.endpoint.epoch >= missing.get(one.endpoint.agent_id, one.endpoint.epoch + 1):
                    del missing[one.endpoint.agent_id]
            late = ports.clock.monotonic_s() >= give_up_s
            if not missing or late or not ports.clock.pause(_POLL_S):
                break
        s.reason = f"{wanted - len(missing)} of {wanted} running agents are registered"
    return tuple(sorted(missing))


def _expected(
    ports: FailoverPorts, traffic: TrafficPorts, placed: Sequence[Placement]
) -> dict[str, int]:
    """Agent -> epoch, of those that run and whose service has ever been registered."""
    known = set(traffic.registry.services())
    regions = {one.region for one in placed if one.workload in known and one.desired == "running"}
    running = {
        (one.agent_id, one.epoch)
        for region in sorted(regions)
        for one in ports.store.agents(region)
        if one.phase == AgentPhase.RUNNING
    }
    return {
        one.agent_id: one.epoch
        for one in placed
        if one.workload in known and (one.agent_id, one.epoch) in running
    }


def _apply(
    ports: FailoverPorts, traffic: TrafficPorts, order: FailoverOrder, services: Sequence[str]
) -> dict[str, str]:
    """Give all routers their tables, at the same time; returns those that did not take them."""
    if not traffic.routers:
        return {}
    directory = ServiceDirectory(traffic.registry, traffic.policy, ports.clock, lambda: True)
    views = [one.view for one in directory.refresh(services)]
    failed: dict[str, str] = {}
    known = open_traffic_incidents(ports.store)
    with ThreadPoolExecutor(len(traffic.routers), thread_name_prefix="router") as pool:
        calls = {
            one.name: pool.submit(apply_tables, one, plan_tables(one, views, order.term))
            for one in sorted(traffic.routers, key=lambda one: one.name)
        }
        for name, call in calls.items():
            part = f"{REDIRECT}/{order.label}-router-{name}"
            try:
                with ports.journal(order).step(part, f"router {name} is given its tables") as s:
                    s.reason = f"router {name}: {_outcome(call).in_words()}"
            except _RouterFailedError as error:
                failed[name] = str(error)
                problem = f"{error} (met by {order.incident_id})"
                at = ports.clock.now()
                tell_failure(ports.store, IncidentKind.ROUTER, name, problem, at, order.term)
                continue
            header = known.get(incident_key(IncidentKind.ROUTER, name))
            if header is not None:
                outcome = f"it took its tables again ({order.incident_id})"
                tell_recovery(ports.store, header, outcome, ports.clock.now(), order.term)
    return failed


def _outcome(call: "Future[RoutesApplied]") -> RoutesApplied:
    try:
        return call.result()
    except StateroomError as error:
        raise _RouterFailedError(str(error)) from error


def _batches(placed: Sequence[Placement]) -> Iterable[Sequence[Placement]]:
    return (placed[start : start + _BATCH] for start in range(0, len(placed), _BATCH))
