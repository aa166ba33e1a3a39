"""Real nodes on this machine for tests: a state folder, a control store, a cluster, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from fleet.agents import RestartPolicy, Workload
from fleet.inventory import Agent
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.fleet_declaration import declare_fleet
from resources.local.local_cluster import LocalCluster
from resources.local.node_spec import NodeRun, NodeSpec, read_run, run_path
from tests.servers.empty_stores import sqlite_url

T = TypeVar("T")

REGION = "here"
QUICK_RESTART = RestartPolicy(delay_s=0.01, delay_max_s=0.05, attempts_max=3)


def node(node_id: str, region: str = REGION) -> NodeDeclaration:
    """A node with room for any test's agents."""
    return NodeDeclaration(node_id, region, f"{region}-a", 1_000_000, 2**40)


def shell(workload: str, script: str, **options: object) -> Workload:
    """A workload of command agents that run a shell script."""
    options.setdefault("restart", QUICK_RESTART)
    return Workload(workload, "net", command=("sh", "-c", script), **options)  # type: ignore[arg-type]


def function(workload: str, name: str, **options: object) -> Workload:
    """A workload of function agents of `agents_for_tests`."""
    options.setdefault("restart", QUICK_RESTART)
    path = f"tests.resources.local.agents_for_tests:{name}"
    return Workload(workload, "net", function=path, **options)  # type: ignore[arg-type]


def agents_of(workload: Workload, count: int = 1, region: str = REGION) -> list[AgentDeclaration]:
    """Agents named `<workload>-0`, `-1`, ..."""
    return [
        AgentDeclaration(f"{workload.workload}-{n}", "net", workload.workload, region, 1, 1)
        for n in range(count)
    ]


def eventually(look: Callable[[], T], what: str, timeout_s: float = 20.0) -> T:
    """Look until it is true; returns what was seen."""
    deadline_s = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return seen


@dataclass
class Fleet:
    """One fleet of local nodes under a temporary state folder."""

    state_dir: Path
    store: ControlStore
    store_url: str
    cluster: LocalCluster

    def spec(self, declared: NodeDeclaration, **options: object) -> NodeSpec:
        """A quick node: it beats five times a second and its lease lasts 3 s."""
        values: dict[str, object] = {
            "heartbeat_interval_s": 0.2,
            "lease_ttl_s": 3.0,
            "reconcile_interval_s": 0.5,
            "stop_grace_s": 2.0,
        } | options
        return NodeSpec(
            node=declared,
            store_url=self.store_url,
            lake_path=str(self.state_dir / "lake"),
            state_dir=str(self.state_dir),
            socket_path=str(self.state_dir / "run" / f"{declared.node_id}.sock"),
            **values,  # type: ignore[arg-type]
        )

    def start(
        self,
        nodes: Sequence[NodeDeclaration],
        workloads: Sequence[Workload] = (),
        agents: Sequence[AgentDeclaration] = (),
        **options: object,
    ) -> LocalCluster:
        """Declare and start; returns the cluster, ready."""
        declare_fleet(self.store, nodes, workloads, agents, SystemClock())
        specs = [self.spec(declared, **options) for declared in nodes]
        self.cluster = LocalCluster(self.store, self.state_dir, SystemClock(), specs)
        self.cluster.start_nodes()
        return self.cluster

    def run(self, node_id: str) -> NodeRun:
        """A node's run file."""
        run = read_run(run_path(self.state_dir, node_id))
        assert run is not None
        return run

    def agent(self, agent_id: str) -> Agent:
        """One agent as the store sees it."""
        return next(agent for agent in self.store.agents() if agent.agent_id == agent_id)

    def log(self, agent_id: str, node_id: str = "n1") -> str:
        """What an agent has written."""
        path = self.state_dir / "logs" / "agents" / node_id / f"{agent_id}.log"
        return path.read_text() if path.exists() else ""


@contextmanager
def open_fleet() -> Iterator[Fleet]:
    """A fleet without nodes; every process of it is ended at the end, whatever happened."""
    with TemporaryDirectory(prefix="sr-") as folder:  # short, as unix sockets need
        state_dir = Path(folder)
        (state_dir / "lake").mkdir()
        url = sqlite_url(state_dir)
        store = open_control_store(url, clock=SystemClock())
        fleet = Fleet(state_dir, store, url, LocalCluster(store, state_dir, SystemClock()))
        try:
            yield fleet
        finally:
            fleet.cluster.stop_nodes()
            store.close()
