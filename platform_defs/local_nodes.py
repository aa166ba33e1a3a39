"""The nodes of this machine under `stateroom up`: declared in the store, started as supervisors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fleet.failover.policy import Mode
from fleet.frozen_writers import hold_limit_s
from fleet.operator_orders import select_live_maintenances
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.probing import PROBING_PROFILES
from platform_defs.declared_failover import declared_policy
from platform_defs.declared_fleet import (
    declared_agents,
    declared_limits,
    declared_nodes,
    declared_workloads,
    scaled_workloads,
)
from platform_defs.declared_traffic import declared_traffic
from platform_defs.declared_vectors import declared_vectors
from platform_defs.fault_orders import FaultOrder, carry_out
from platform_defs.running import Say
from platform_defs.settings import Settings
from platform_defs.state_folder import StateFolder
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.event_log import EventLog
from resources.local.fleet_declaration import declare_fleet
from resources.local.frozen_writer_watch import FrozenWriterWatch
from resources.local.local_cluster import LocalCluster
from resources.local.local_fencer import LocalFencer
from resources.local.node_spec import DEFAULT_GPU_PROBE, NodeSpec

_SQLITE = "sqlite:///"


class LocalNodes:
    """Supervisors as processes of this machine; they end with the process that started them."""

    def __init__(self, settings: Settings) -> None:
        """Describe; nothing is opened or started."""
        self._settings = settings
        self._store: ControlStore | None = None
        self._cluster: LocalCluster | None = None
        self._cursor = ""
        self._writers: FrozenWriterWatch | None = None

    def start(self) -> str:
        """Declare the fleet in the store, start every node and wait until all are ready.

        Raises:
            NodeUnavailableError: a node did not come up.
            StoreUnavailableError: the control store cannot be opened.
        """
        settings, clock = self._settings, SystemClock()
        nodes, agents = declared_nodes(settings), declared_agents(settings)
        self._store = open_control_store(settings.control_store.url, clock=clock)
        placed = declare_fleet(
            self._store,
            nodes,
            declared_workloads(settings),
            agents,
            clock,
            declared_limits(settings),
            scaled_workloads(settings),
        )
        specs = node_specs(settings)
        self._cluster = LocalCluster(self._store, settings.fleet.state_dir, clock, specs)
        self._cluster.start_nodes()
        self._cursor = EventLog(settings.fleet.state_dir / "run" / "events.jsonl").cursor()
        self._writers = watch_frozen_writers(settings, self._store, self._cluster, clock)
        parked = [one for one in placed if not one.node_id]
        moved = f", {len(placed) - len(parked)} placed anew" if placed else ", all placed as before"
        if parked:
            moved += f", {len(parked)} {parked[0].reason}"
        wanted = sum(one.desired == "running" for one in self._store.placements())
        return f"{len(nodes)} nodes run {wanted} agents{moved}"

    def watch(self, say: Say) -> None:
        """Say what has happened to nodes; a killed one stays dead, for failover to see."""
        assert self._cluster is not None
        for event in self._cluster.watch(self._cursor, timeout_s=0.0):
            self._cursor = event.cursor
            say(f"{event.kind} {event.subject}: {event.detail}")

    def stop(self) -> None:
        """Stop every node; agents save their states first, leases are released."""
        try:
            if self._writers is not None:
                self._writers.close()
            if self._cluster is not None:
                self._cluster.stop_nodes()
        finally:
            if self._store is not None:
                self._store.close()


def watch_frozen_writers(
    settings: Settings, store: ControlStore, cluster: LocalCluster, clock: Clock
) -> FrozenWriterWatch | None:
    """Start to watch for supervisors that are frozen inside a commit; None where it cannot matter.

    PostgreSQL ends such a transaction itself.
    """
    url, folder = settings.control_store.url, settings.fleet.state_dir
    if not url.startswith(_SQLITE):
        return None
    watch = FrozenWriterWatch(
        Path(url.removeprefix(_SQLITE)).resolve(),
        store,
        cluster.runs,
        LocalFencer(folder, clock),
        EventLog(folder / "run" / "events.jsonl"),
        clock,
        hold_limit_s(settings.node.lease_ttl_s),
        _sparing(settings, store, clock),
    )
    watch.start()
    return watch


def _sparing(settings: Settings, store: ControlStore, clock: Clock) -> Callable[[str, str], str]:
    """Why a frozen node must not be ended by itself: what holds back failover holds back this."""
    policy = declared_policy(settings.failover, settings.node.lease_ttl_s)

    def spare(node_id: str, region: str) -> str:
        by_hand = f"`stateroom chaos kill-node {node_id}` ends it"
        if not settings.failover.enabled:
            return f"failover.enabled is false; {by_hand}"
        mode = policy.node_mode_in(region)
        if mode is not Mode.AUTO:
            return f"failover.node_mode is {mode}; {by_hand}"
        switch = store.automation()
        if switch.paused:
            return f"{switch.changed_by} has paused the automation: {switch.reason}; {by_hand}"
        marks = select_live_maintenances(store.maintenances(), clock.now())
        subjects = {f"node/{node_id}", f"region/{region}"}
        marked = [one for one in marks if one.subject in subjects]
        return f"{marked[0].subject} is under maintenance; {by_hand}" if marked else ""

    return spare


def node_specs(settings: Settings) -> list[NodeSpec]:
    """What each supervisor is told; the first one also looks after this machine's GPUs."""
    node, folder = settings.node, StateFolder(settings.fleet.state_dir)
    traffic, vectors = declared_traffic(settings), declared_vectors(settings)
    return [
        NodeSpec(
            node=declaration,
            store_url=settings.control_store.url,
            lake_path=str(settings.lake.path),
            state_dir=str(settings.fleet.state_dir),
            socket_path=str(folder.socket_path(declaration.node_id)),
            heartbeat_interval_s=node.heartbeat_interval_s,
            lease_ttl_s=node.lease_ttl_s,
            gpu_probe="" if index else DEFAULT_GPU_PROBE,
            renew_endpoints_s=traffic.policy.renew_interval_s,
            registry=traffic.registry,
            probing=PROBING_PROFILES[settings.failover.profile],
            vectors=vectors,
        ).validate()
        for index, declaration in enumerate(declared_nodes(settings))
    ]


def send_to_local_nodes(settings: Settings, orders: Sequence[FaultOrder]) -> Iterator[str]:
    """Carry out faults on nodes of this machine; yields what was done, in words, as it is done."""
    clock = SystemClock()
    store = open_control_store(settings.control_store.url, clock=clock)
    try:
        cluster = LocalCluster(store, settings.fleet.state_dir, clock)
        for order in orders:
            yield carry_out(cluster, order)
    finally:
        store.close()
