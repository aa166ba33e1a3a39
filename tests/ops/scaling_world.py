"""A small fleet whose agents start and stop as the store says, with metrics that a test sets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from fleet.agents import Placement
from fleet.errors import SourceUnavailableError
from fleet.inventory import AgentPhase, Node
from fleet.leases import RESCALING_LEASE, node_lease_name
from fleet.metrics.labels import labels_of
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.vectors import InstantVector
from fleet.promql.engine import PromqlEngine
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.spec import (
    AutoscalerSpec,
    Behavior,
    MetricKind,
    MetricSpec,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
    TargetType,
)
from ops.rescaling import (
    LEASE_RENEW_S,
    LEASE_TTL_S,
    Look,
    RescalingController,
    RescalingPorts,
)
from ops.rescaling_run import ScalingRunPorts, recheck, scale, wait_ready
from ops.scaling_observation import open_sessions
from resources.leader_lease import LeaderLease
from resources.reported_fleet import ReportedFleet
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

QUEUE = MetricSpec(MetricKind.EXTERNAL, "queue_depth", TargetType.AVERAGE_VALUE, 10_000)
"""Ten waiting for each agent."""
FAST = Behavior(
    ScalingRules((ScalingPolicy(PolicyType.PERCENT, 900, 15),), stabilization_window_s=0),
    ScalingRules((ScalingPolicy(PolicyType.PERCENT, 100, 15),), stabilization_window_s=60),
)


class Metrics:
    """A query engine that can be down."""

    def __init__(self, series: MemorySeries) -> None:
        """Answers from these."""
        self._engine = PromqlEngine(series, lookback_ms=60_000)
        self.is_down = False
        self.asked: list[str] = []

    def instant(self, expr: str, at_ms: int) -> InstantVector:
        """The real engine's answer, while it is up."""
        self.asked.append(expr)
        if self.is_down:
            raise SourceUnavailableError("connection refused")
        return self._engine.instant(expr, at_ms)


def scaling(mode: ScalingMode = ScalingMode.AUTO, **changes: Any) -> WorkloadScaling:
    """Of the workload chat: one to six agents, by a queue."""
    spec = AutoscalerSpec("chat", (QUEUE,), 1, 6, FAST)
    return replace(WorkloadScaling("chat", spec, mode), **changes)


class ScalingWorld:
    """Region eu with two nodes, two agents of chat; time passes by hand."""

    def __init__(self, *scaled: WorkloadScaling, cpu_milli: int = 1000) -> None:
        """Everything runs; nobody leads yet."""
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        self.series = MemorySeries()
        self.metrics = Metrics(self.series)
        self.declaration = RescalingDeclaration(
            ("eu",), {one.workload: one for one in scaled or (scaling(),)}, failover_enabled=True
        )
        self.nodes = [NodeDeclaration(f"eu-{n}", "eu", f"eu-{n}", cpu_milli, 2**40) for n in (1, 2)]
        self.store.declare_nodes(self.nodes)
        self.dead: set[str] = set()
        agents = [AgentDeclaration(f"eu-chat-{n}", "net", "chat", "eu", 100, 1) for n in (1, 2)]
        self.store.declare_agents(agents)
        now = self.clock.now()
        self.store.place_agents(
            [
                Placement(one.agent_id, "net", "chat", f"eu-{n}", "eu", 0, 0, "running", "", now)
                for n, one in enumerate(agents, 1)
            ]
        )
        self.started: dict[tuple[str, int], datetime] = {}
        self.starting_s = 0.0
        self.cpu_percent = 1.0
        """Of every agent; it is allocated a tenth of a core."""
        self.unsampled: set[str] = set()
        """Agents whose nodes have not measured them yet."""
        self.lingering: set[str] = set()
        """Agents whose processes do not end though they were told to."""
        self.beat()

    def beat(self) -> None:
        """Every node that works reports what it runs."""
        for node in self.nodes:
            if node.node_id not in self.dead:
                lease = self.store.acquire_lease(node_lease_name(node.node_id), "boot", 20.0)
                self.store.report_node(self._report(node.node_id), lease)

    def _report(self, node_id: str) -> NodeReport:
        now = self.clock.now()
        agents = tuple(
            AgentReport(
                one.agent_id,
                one.epoch,
                AgentPhase.RUNNING,
                1,
                self.started.setdefault((one.agent_id, one.epoch), now),
                now,
                0,
                None if one.agent_id in self.unsampled else self.cpu_percent,
                1000,
                "",
            )
            for one in self.store.placements(node_id)
            if one.desired == "running"
            and (now - one.updated_at).total_seconds()
            >= self.starting_s * ("scaled" in one.agent_id)
        )
        agents += tuple(
            AgentReport(
                one.agent_id, one.epoch, AgentPhase.STOPPED, None, None, None, 0, None, None, "told"
            )
            for one in self.store.placements(node_id)
            if one.desired == "stopped" and one.agent_id not in self.lingering
        )
        return NodeReport(
            node_id, "boot", 1, f"{node_id}:1", now, now, None, None, None, agents, ()
        )

    def queue(self, depth: float, **labels: str) -> None:
        """So many wait from now on."""
        at_ms = round(self.clock.now().timestamp() * 1000)
        self.series.put(labels_of("queue_depth", labels), at_ms, depth)

    def sessions(self, **open_now: int) -> None:
        """Open sessions by agent, with `_` for `-`."""
        at_ms = round(self.clock.now().timestamp() * 1000)
        for name, count in open_now.items():
            labels = {"agent": name.replace("_", "-")}
            self.series.put(labels_of("agent_active_sessions", labels), at_ms, count)

    def pass_time(self, seconds: float) -> None:
        """With heartbeats."""
        self.clock.advance(seconds)
        self.beat()

    def controller(self, name: str = "one", store: Any = None) -> RescalingController:
        """A controller of its own process."""
        used = store or self.store
        leader = LeaderLease(
            used,
            name,
            ttl_s=LEASE_TTL_S,
            renew_s=LEASE_RENEW_S,
            name=RESCALING_LEASE,
            now_s=self.clock.monotonic_s,
        )
        ports = RescalingPorts(used, self.clock, leader, self.metrics)
        return RescalingController(ports, self.declaration)

    def run_ports(self, store: Any = None) -> ScalingRunPorts:
        """The world of a run."""
        used = store or self.store
        return ScalingRunPorts(
            used,
            ReportedFleet(used, self.clock),
            self.clock,
            self.declaration,
            lambda: open_sessions(self.metrics, self.clock.now()),
        )

    def carry_out(self, look: Look, store: Any = None) -> None:
        """The run that a look has ordered, as the job's ops do it."""
        if look.orders:
            ports = self.run_ports(store)
            recheck(ports, look.orders)
            scale(ports, look.orders, recheck(ports, look.orders).wishes)
            self.beat()
            wait_ready(ports, look.orders, 0.0)

    def wanted(self) -> list[str]:
        """Agents that are to be there, by name."""
        found = self.store.scaled_agents(["chat"])
        return [one.agent.agent_id for one in found if one.is_wanted]

    def node(self, node_id: str) -> Node:
        """As the store knows it."""
        return next(one for one in self.store.nodes() if one.node_id == node_id)
