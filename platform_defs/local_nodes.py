"""The nodes of this machine under `stateroom up`: declared in the store, started as supervisors."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from fleet.errors import InvalidInputError
from fleet.inventory import NodePhase
from fleet.ports import ControlStore
from platform_defs.declared_fleet import declared_agents, declared_nodes, declared_workloads
from platform_defs.fault_orders import FaultOrder, carry_out
from platform_defs.running import Say
from platform_defs.settings import Settings
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.fleet_declaration import declare_fleet
from resources.local.linux_processes import is_alive
from resources.local.local_cluster import LocalCluster
from resources.local.node_spec import DEFAULT_GPU_PROBE, SOCKET_PATH_MAX_BYTES, NodeSpec


class LocalNodes:
    """Supervisors as processes of this machine; they end with the process that started them."""

    def __init__(self, settings: Settings) -> None:
        """Describe; nothing is opened or started."""
        self._settings = settings
        self._store: ControlStore | None = None
        self._cluster: LocalCluster | None = None
        self._seen: dict[str, str] = {}

    def start(self) -> str:
        """Declare the fleet in the store, start every node and wait until all are ready.

        Raises:
            NodeUnavailableError: a node did not come up.
            StoreUnavailableError: the control store cannot be opened.
        """
        settings, clock = self._settings, SystemClock()
        nodes, agents = declared_nodes(settings), declared_agents(settings)
        self._store = open_control_store(settings.control_store.url, clock=clock)
        placed = declare_fleet(self._store, nodes, declared_workloads(settings), agents, clock)
        specs = node_specs(settings)
        self._cluster = LocalCluster(self._store, settings.fleet.state_dir, clock, specs)
        self._cluster.start_nodes()
        self._seen = self._phases()
        moved = f", {len(placed)} placed anew" if placed else ", all placed as before"
        return f"{len(nodes)} nodes run {len(agents)} agents{moved}"

    def watch(self, say: Say) -> None:
        """Say which nodes ended or came back; a killed one stays dead, for failover to see."""
        phases = self._phases()
        for node_id, phase in phases.items():
            if self._seen.get(node_id) != phase:
                say(f"node {node_id}: {phase}")
        self._seen = phases

    def _phases(self) -> dict[str, str]:
        """Each node as its run file and the process table have it."""
        assert self._cluster is not None
        phases = {}
        for run in self._cluster.runs():
            gone = run.phase == NodePhase.RUNNING and not is_alive(run.process)
            phases[run.node_id] = (NodePhase.TERMINATED if gone else run.phase).value
        return phases

    def stop(self) -> None:
        """Stop every node; agents save their states first, leases are released."""
        try:
            if self._cluster is not None:
                self._cluster.stop_nodes()
        finally:
            if self._store is not None:
                self._store.close()


def node_specs(settings: Settings) -> list[NodeSpec]:
    """What each supervisor is told; the first one also looks after this machine's GPUs."""
    node = settings.node
    return [
        NodeSpec(
            node=declaration,
            store_url=settings.control_store.url,
            lake_path=str(settings.lake.path),
            state_dir=str(settings.fleet.state_dir),
            socket_path=str(socket_path(settings.fleet.state_dir, declaration.node_id)),
            heartbeat_interval_s=node.heartbeat_interval_s,
            lease_ttl_s=node.lease_ttl_s,
            gpu_probe="" if index else DEFAULT_GPU_PROBE,
        ).validate()
        for index, declaration in enumerate(declared_nodes(settings))
    ]


def socket_path(state_dir: Path, node_id: str) -> Path:
    """Where a node's agents reach it: in the state folder, or elsewhere when that is too deep.

    The kernel takes 107 bytes; a deeper state folder gets a private folder for temporary files,
    with a name derived from the state folder, so that a restart finds the same path.

    Raises:
        InvalidInputError: somebody else owns that folder.
    """
    path = state_dir / "run" / "sockets" / f"{node_id}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
        folder = Path(tempfile.gettempdir()) / f"stateroom-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise InvalidInputError(
                "fleet.state_dir",
                str(state_dir),
                f"a shorter path: {folder}, which would hold the sockets, is not private",
            )
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
        path = folder / f"{digest}.sock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def send_to_local_nodes(settings: Settings, order: FaultOrder) -> str:
    """Carry out a fault on a node of this machine; returns what was done, in words."""
    clock = SystemClock()
    store = open_control_store(settings.control_store.url, clock=clock)
    try:
        return carry_out(LocalCluster(store, settings.fleet.state_dir, clock), order)
    finally:
        store.close()
