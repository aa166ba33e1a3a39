"""What one look of the controller costs on a fleet of 100,000 agents; part of `rescaling.py`.

A look reads all agents of scaled workloads with their nodes' reports, sees, decides, and keeps what
is remembered: one transaction. All of it on SQLite. Beside it, in the same run: reading the same
agents alone, and the write alone; the rest is what seeing and deciding cost. Looks are measured
while all load is at its target, and while every workload would change, which `observe` never does.
Figures are CPU time: others may be at work on the machine.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.agents import Placement
from fleet.inventory import AgentPhase
from fleet.leases import RESCALING_LEASE, node_lease_name
from fleet.ports.control_store import ControlStore, LeaseWish
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType
from ops.bulk import collector_paused
from ops.rescaling import LEASE_RENEW_S, LEASE_TTL_S, RescalingController, RescalingPorts
from ops.scaling_observation import MetricQueries, observe
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.leader_lease import LeaderLease

CHUNK = 5000
AGENTS_PER_NODE = 10
REGIONS = ("eu", "us")
CPU = MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 60)


def measure(*, quick: bool) -> None:
    """Print medians and ratios."""
    agents = 10_000 if quick else 100_000
    workloads = agents // 20
    with tempfile.TemporaryDirectory() as folder:
        store = open_control_store(f"sqlite:///{Path(folder)}/control.db", clock=SystemClock())
        try:
            _fill(store, agents, workloads)
            _report(store, agents, workloads, rounds=3 if quick else 5)
        finally:
            store.close()


def _report(store: ControlStore, agents: int, workloads: int, rounds: int) -> None:
    declaration = RescalingDeclaration(
        REGIONS,
        {
            _workload(n): WorkloadScaling(
                _workload(n), AutoscalerSpec(_workload(n), (CPU,), 1, 100), ScalingMode.OBSERVE
            )
            for n in range(workloads)
        },
        sample_age_max_s=1e9,
    )
    leader = LeaderLease(
        store, f"bench/{os.getpid()}", ttl_s=3600.0, renew_s=600.0, name=RESCALING_LEASE
    )
    clock = SystemClock()
    controller = RescalingController(RescalingPorts(store, clock, leader, None), declaration)
    names = list(declaration.workloads)
    controller.look()
    term = store.lease(RESCALING_LEASE)
    standings = store.scaling_standings()
    assert term is not None
    with collector_paused():
        read_s = _median_s(lambda: store.scaled_agents(names), rounds)
        see_s = _median_s(
            lambda: observe(store, declaration, MetricQueries(None, clock.now()), clock.now()),
            rounds,
        )
        keep_s = _median_s(lambda: store.keep_scaling(standings, [], term=term.term), rounds)
    look_s = _median_s(controller.look, rounds)
    _fill_reports(store, agents, workloads, cpu_percent=12.0)
    controller.look()
    moved_s = _median_s(controller.look, rounds)
    print(f"{agents:,} agents, {workloads:,} workloads in {len(REGIONS)} regions, on SQLite")
    print(f"read agents and reports   {1e3 * read_s:8.0f} ms of CPU")
    print(f"read, by workload         {1e3 * see_s:8.0f} ms   {see_s / read_s:.2f} of reading")
    print(f"keep {len(standings):,} standings     {1e3 * keep_s:8.0f} ms")
    print(f"a whole look              {1e3 * look_s:8.0f} ms   {look_s / read_s:.2f} of reading")
    print(f"the same, all would grow  {1e3 * moved_s:8.0f} ms   {moved_s / read_s:.2f} of reading")
    print(f"ticks of 15 s used        {100 * look_s / 15:8.1f} %   (lease {LEASE_TTL_S:g} s,"
          f" renewed every {LEASE_RENEW_S:g} s)")  # fmt: skip


def _median_s(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began_s = time.process_time()
        work()
        times.append(time.process_time() - began_s)
    return statistics.median(times)


def _workload(number: int) -> str:
    return f"w-{number:05d}"


def _fill(store: ControlStore, agents: int, workloads: int) -> None:
    """Agents dealt over nodes of ten, each reported as running."""
    nodes = _nodes(agents)
    store.declare_nodes([NodeDeclaration(n, region, "z", 10_000, 2**40) for n, region in nodes])
    placed = _placements(agents, workloads)
    for first in range(0, agents, CHUNK):
        chunk = placed[first : first + CHUNK]
        store.declare_agents(
            [AgentDeclaration(p.agent_id, "net", p.workload, p.region, 100, 2**20) for p in chunk]
        )
        store.place_agents(chunk)
    _fill_reports(store, agents, workloads, cpu_percent=6.0)


def _fill_reports(store: ControlStore, agents: int, workloads: int, *, cpu_percent: float) -> None:
    """All nodes report; 6 % of a core is what the autoscalers aim at."""
    nodes, placed, now = _nodes(agents), _placements(agents, workloads), datetime.now(UTC)
    for first in range(0, len(nodes), 1000):
        _beat(store, [n for n, _ in nodes[first : first + 1000]], placed, first, now, cpu_percent)


def _nodes(agents: int) -> list[tuple[str, str]]:
    names = [f"node-{n:05d}" for n in range(agents // AGENTS_PER_NODE)]
    return [(name, REGIONS[n % len(REGIONS)]) for n, name in enumerate(names)]


def _placements(agents: int, workloads: int) -> list[Placement]:
    now, nodes = datetime.now(UTC), _nodes(agents)
    found = []
    for number in range(agents):
        node, region = nodes[number // AGENTS_PER_NODE]
        name, workload = f"agent-{number:06d}", _workload(number % workloads)
        found.append(Placement(name, "net", workload, node, region, 0, 0, "running", "", now))
    return found


def _beat(
    store: ControlStore,
    nodes: list[str],
    placed: list[Placement],
    first: int,
    now: datetime,
    cpu_percent: float,
) -> None:
    leases = store.acquire_leases([LeaseWish(node_lease_name(n), f"b-{n}", 36_000) for n in nodes])
    reports = []
    for number, (name, result) in enumerate(zip(nodes, leases, strict=True), first):
        mine = placed[number * AGENTS_PER_NODE : (number + 1) * AGENTS_PER_NODE]
        begun = now - timedelta(hours=1)
        told = tuple(
            AgentReport(p.agent_id, 1, AgentPhase.RUNNING, 1, begun, now, 0, cpu_percent, 9, "")
            for p in mine
        )
        report = NodeReport(name, f"b-{name}", 1, "x:1", now, now, 5.0, 1, 1, told, ())
        assert result.lease is not None
        reports.append((report, result.lease))
    store.report_nodes(reports)
