"""The process of a simulated fleet: lets time pass, follows placements, reports into the store.

Started by `stateroom up` when `fleet.cluster = "simulated"`. Everything it knows is in the settings
and the store: a second start continues with the placements and epochs found there.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

from fleet.errors import StateroomError, TransientError
from fleet.ports.control_store import ControlStore
from platform_defs.declared_fleet import (
    declared_agents,
    declared_limits,
    declared_nodes,
    declared_workloads,
    scaled_workloads,
)
from platform_defs.fault_orders import FaultOrders
from platform_defs.settings import Settings, load_settings
from platform_defs.stopping import StopAskedError, StopSwitch
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.fleet_declaration import declare_fleet, with_scaled
from resources.simulated.clock import VirtualClock
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.publishing import StorePublisher

ORDERS_INTERVAL_S = 0.1


def build_cluster(settings: Settings, store: ControlStore) -> SimulatedCluster:
    """The cluster as declared, with the placements of the store and first ones for the rest.

    New placements are committed in the store before the cluster runs them.
    """
    clock = SystemClock()
    nodes, agents = declared_nodes(settings), declared_agents(settings)
    workloads, limits = declared_workloads(settings), declared_limits(settings)
    scaled = scaled_workloads(settings)
    declare_fleet(store, nodes, workloads, agents, clock, limits, scaled)
    placed = [p for p in store.placements() if p.node_id]
    agents = with_scaled(agents, store.scaled_agents(sorted(scaled)), scaled)
    node = settings.node
    return SimulatedCluster(
        nodes,
        agents,
        placed,
        clock=VirtualClock(clock.now()),
        restart_policies={w.workload: w.restart for w in declared_workloads(settings)},
        heartbeat_interval_s=node.heartbeat_interval_s,
        lease_ttl_s=node.lease_ttl_s,
        heartbeat_lost_s=node.heartbeat_lost_s,
    )


def run_simulator(settings: Settings, store: ControlStore, switch: StopSwitch) -> None:
    """Advance with the real clock until asked to stop; returns then."""
    cluster = build_cluster(settings, store)
    publisher = StorePublisher(cluster, store)
    publisher.declare()
    orders = FaultOrders(settings.fleet.state_dir)
    told_s = published_s = time.monotonic()
    publisher.publish()
    try:
        while True:
            switch.pause(ORDERS_INTERVAL_S)
            now_s = time.monotonic()
            cluster.advance(now_s - told_s)
            told_s = now_s
            orders.obey(cluster)
            if now_s - published_s >= settings.node.heartbeat_interval_s:
                published_s = now_s
                _round(publisher)
    except StopAskedError:
        return


def _round(publisher: StorePublisher) -> None:
    """One round of reports; a store that does not answer is tried again in the next."""
    try:
        publisher.follow()
        publisher.publish()
    except TransientError as error:
        sys.stderr.write(f"{datetime.now(UTC).isoformat()} not reported: {error}\n")


def main() -> int:
    """Run until SIGTERM; returns the exit code."""
    switch = StopSwitch()
    switch.listen()
    try:
        settings = load_settings()
        store = open_control_store(settings.control_store.url, clock=SystemClock())
        try:
            run_simulator(settings, store, switch)
        finally:
            store.close()
    except StateroomError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
