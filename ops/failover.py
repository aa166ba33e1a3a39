"""The steps of a failover run as ops: each journals itself, and a run that died goes on.

The order travels from op to op as text, with the nodes that are left of it. What was planned and
moved is read back from the journal and the placements, never from an op's output.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from fleet.backup_declaration import BackupDeclaration
from fleet.errors import NodeUnavailableError
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import FailoverOrder, decode_order, encode_order
from fleet.ports.clock import PatientClock
from fleet.ports.cluster import PlacementFollower
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import NodeFencer
from fleet.traffic_declaration import TrafficDeclaration
from ops.evidence import number_evidence
from ops.failover_arrival import start, wait_ready
from ops.failover_fencing import fence, recheck
from ops.failover_jobs import FAILOVER_CLASS, PRIORITY
from ops.failover_moving import move
from ops.failover_planning import plan
from ops.failover_ports import FailoverPorts, TrafficPorts
from ops.failover_redirect import redirect
from ops.failover_run import begin
from ops.outcomes import outcomes
from resources.circuit_breakers import CircuitBreakers
from resources.service_registry.opening import open_registry
from resources.traffic.opening import opened_routers
from resources.vault.region_vaults import RegionVaults

if TYPE_CHECKING:
    from fleet.agents import Placement


_NAMED = 20
"""Agents named in metadata."""


class OrderConfig(dg.Config):
    """What to do, as the controller or `stateroom failover` says it."""

    order: str = Field(description="An order as `fleet.failover_order.encode_order` writes it.")


def run_ports(
    store: ControlStore,
    cluster: PlacementFollower,
    clock: PatientClock,
    vaults: RegionVaults | None = None,
) -> FailoverPorts:
    """The world of a run, made of the resources it has.

    Args:
        store: the control store.
        cluster: runs the nodes.
        clock: waits and dates.
        vaults: where lost states may be; None when there are no backups.
    """
    rescue = None
    if vaults is not None:
        from resources.vault.drills.state_rescue import VaultStateRescue

        rescue = VaultStateRescue(vaults, store)
    fencer = cluster if isinstance(cluster, NodeFencer) else None
    return FailoverPorts(
        store, cluster, clock, cluster.apply_placements, cluster.evict, rescue, fencer=fencer
    )


@dg.op(description="Look again: is the term ours, is it allowed, are the nodes still silent?")
def recheck_op(
    context: dg.OpExecutionContext,
    config: OrderConfig,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
) -> str:
    """The order with the nodes that are still to be left."""
    order = decode_order(config.order)
    ports = run_ports(control_store, cluster, clock)
    with outcomes(context.retry_number):
        begin(ports, order)
        silent = recheck(ports, order)
    context.add_output_metadata(
        {"incident": order.incident_id, "because": order.because, "nodes_silent": len(silent)}
    )
    return encode_order(order._replace(nodes=silent))


@dg.op(description="End the nodes' right to act, and wait for what cannot be ended.")
def fence_op(
    context: dg.OpExecutionContext,
    order: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
) -> str:
    """The order with the nodes where nothing can write any more."""
    given = decode_order(order)
    with outcomes(context.retry_number):
        done = fence(run_ports(control_store, cluster, clock), given, given.nodes)
    context.add_output_metadata(
        {"nodes_fenced": len(done.fenced), "nodes_alive": len(done.alive), "how": done.how}
    )
    return encode_order(given._replace(nodes=done.fenced))


@dg.op(description="Plan where the agents go, and write the plan into the incident's journal.")
def plan_op(
    context: dg.OpExecutionContext,
    order: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
) -> str:
    """The same order; the plan stands in the journal."""
    given = decode_order(order)
    with outcomes(context.retry_number):
        moves = plan(run_ports(control_store, cluster, clock), given, given.nodes)
    parked = sum(one.desired == "parked" for one in moves)
    context.add_output_metadata(
        number_evidence({"agents_placed": len(moves) - parked, "agents_parked": parked})
    )
    return order


@dg.op(description="Bring lost states back, then switch placements: the agents belong elsewhere.")
def move_op(
    context: dg.OpExecutionContext,
    order: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
    backup_declaration: dg.ResourceParam[BackupDeclaration],
    region_vaults: dg.ResourceParam[RegionVaults],
) -> str:
    """The same order; the placements are in force."""
    vaults = region_vaults if backup_declaration.networks else None
    ports = run_ports(control_store, cluster, clock, vaults)
    with outcomes(context.retry_number):
        placed = _placed(ports, decode_order(order))
        start(ports, decode_order(order), placed)
    context.add_output_metadata(number_evidence({"agents_in_force": len(placed)}))
    return order


@dg.op(description="Wait until the agents run where they belong now.")
def ready_op(
    context: dg.OpExecutionContext,
    order: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
    failover_declaration: dg.ResourceParam[FailoverDeclaration],
) -> str:
    """The same order, also when some do not run in time: the others' requests must follow them."""
    given = decode_order(order)
    ports = run_ports(control_store, cluster, clock)
    with outcomes(context.retry_number):
        placed = _placed(ports, given)
        arrival = wait_ready(ports, given, placed, failover_declaration.ready_timeout_s)
    context.add_output_metadata(
        number_evidence(
            {"agents_running": len(arrival.running), "agents_waiting": len(arrival.waiting)}
        )
    )
    return order


@dg.op(description="Take the old copies out of discovery, and give every router new tables.")
def redirect_op(
    context: dg.OpExecutionContext,
    order: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
    traffic_declaration: dg.ResourceParam[TrafficDeclaration],
) -> str:
    """The same order; a router that is down fails nothing, it becomes an incident of its own."""
    given = decode_order(order)
    ports = run_ports(control_store, cluster, clock)
    with (
        outcomes(context.retry_number),
        traffic_ports(control_store, clock, traffic_declaration) as traffic,
    ):
        placed = _placed(ports, given)
        done = redirect(ports._replace(traffic=traffic), given, placed)
    context.add_output_metadata(
        {
            **number_evidence(
                {"services": len(done.services), "endpoints_taken_out": done.removed}
            ),
            "routers_failed": done.failed,
            "agents_not_registered": list(done.unregistered[:_NAMED]),
        }
    )
    return order


@dg.op(out=dg.Out(dg.Nothing), description="Fail, naming agents, when some do not run yet.")
def arrived_op(
    context: dg.OpExecutionContext,
    order: str,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
) -> None:
    """A person is told of the failed run; the agents' nodes go on trying."""
    given = decode_order(order)
    ports = run_ports(control_store, cluster, clock)
    with outcomes(context.retry_number):
        arrival = wait_ready(ports, given, _placed(ports, given), timeout_s=0.0)
        if arrival.waiting:
            raise NodeUnavailableError(
                f"{len(arrival.waiting)} agents do not run yet: {'; '.join(arrival.waiting[:5])}",
                hint=f"stateroom incident {given.incident_id}; their nodes go on trying.",
            )


@contextmanager
def traffic_ports(
    store: ControlStore, clock: PatientClock, declaration: TrafficDeclaration
) -> Iterator[TrafficPorts]:
    """Registry and routers of a run; what their breakers have learnt is reported at the end.

    Args:
        store: the control store; also the registry, where no other is named.
        clock: times the breakers.
        declaration: names registry and routers.
    """
    breakers = CircuitBreakers(clock)
    registry = open_registry(declaration.registry, store, breakers)
    with opened_routers(declaration.routers, breakers) as routers:
        try:
            yield TrafficPorts(registry, routers, declaration.policy)
        finally:
            breakers.publish(store)


def _placed(ports: FailoverPorts, order: FailoverOrder) -> "list[Placement]":
    """Placements of the order; those that are made already are only read."""
    return move(ports, order, plan(ports, order, order.nodes))


def build_failover_job(name: str, description: str) -> dg.JobDefinition:
    """A job that carries one order out.

    Args:
        name: of the job.
        description: what its orders are about.
    """

    @dg.job(
        name=name,
        description=description,
        tags={**FAILOVER_CLASS, **PRIORITY},
        executor_def=dg.in_process_executor,
    )
    def failover() -> None:
        arrived_op(redirect_op(ready_op(move_op(plan_op(fence_op(recheck_op()))))))

    return failover
