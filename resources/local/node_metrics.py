"""Prometheus metrics of one node, made from its state when they are scraped.

Cardinality is bounded by workloads times phases; no label ever carries an agent's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class NodeFigures(NamedTuple):
    """What is known at one moment."""

    ready: bool
    lease_remaining_s: float
    lease_term: int
    heartbeats: int
    heartbeats_late: int
    heartbeats_failed: int
    heartbeat_duration_s: float
    """Of the last one, from its due time until it was stored."""
    agents: Mapping[tuple[str, str], int]
    """(workload, phase) -> agents."""
    agent_restarts: Mapping[str, int]
    agent_memory_bytes: Mapping[str, int]
    writes: Mapping[str, int]
    """Counters of the write batcher by outcome."""
    writes_queued: int
    probes: Mapping[str, int]
    """Probes of other nodes by outcome."""
    probe_reports_refused: int
    zygote_losses: int
    supervisor_cpu_s: float


class NodeCollector:
    """A collector for a registry of its own; one per node."""

    def __init__(self, node_id: str, region: str, figures: NodeFigures | None = None) -> None:
        """Label everything with node and region."""
        self._labels = {"node": node_id, "region": region}
        self.figures = figures
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self, figures: NodeFigures) -> bytes:
        """The exposition text of these figures."""
        self.figures = figures
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Metric families of the last figures; none before the first."""
        if self.figures is None:
            return
        f = self.figures
        prefix = "stateroom_node"
        yield self._gauge(f"{prefix}_ready", "1 while the node may run agents.", float(f.ready))
        yield self._gauge(
            f"{prefix}_lease_remaining_seconds", "Until the lease runs out.", f.lease_remaining_s
        )
        yield self._gauge(f"{prefix}_lease_term", "Term of the lease.", f.lease_term)
        yield self._counter(f"{prefix}_heartbeats", "Heartbeats stored.", f.heartbeats)
        yield self._counter(
            f"{prefix}_heartbeats_late",
            "Heartbeats stored more than one interval after they were due.",
            f.heartbeats_late,
        )
        yield self._counter(
            f"{prefix}_heartbeats_failed", "Heartbeats the store did not take.", f.heartbeats_failed
        )
        yield self._gauge(
            f"{prefix}_heartbeat_duration_seconds",
            "From the due time of the last heartbeat until it was stored.",
            f.heartbeat_duration_s,
        )
        yield self._counter(f"{prefix}_zygote_losses", "Ends of the zygote.", f.zygote_losses)
        yield self._counter(
            f"{prefix}_supervisor_cpu_seconds",
            "CPU time of supervisor and zygote.",
            f.supervisor_cpu_s,
        )
        yield self._gauge(
            f"{prefix}_writes_queued", "Writes of agents that wait for a commit.", f.writes_queued
        )
        yield self._family(
            CounterMetricFamily,
            f"{prefix}_writes",
            "Writes of agents by outcome.",
            "outcome",
            f.writes,
        )
        yield self._family(
            CounterMetricFamily,
            f"{prefix}_probes",
            "Probes of other nodes by outcome.",
            "outcome",
            f.probes,
        )
        yield self._counter(
            f"{prefix}_probe_reports_refused",
            "Probe reports that the control store did not take.",
            f.probe_reports_refused,
        )
        yield self._agents(f.agents)
        yield self._family(
            CounterMetricFamily,
            f"{prefix}_agent_restarts",
            "Restarts of crashed agents.",
            "workload",
            f.agent_restarts,
        )
        yield self._family(
            GaugeMetricFamily,
            f"{prefix}_agent_memory_bytes",
            "Resident memory of agents; pages they share count for each.",
            "workload",
            f.agent_memory_bytes,
        )

    def _gauge(self, name: str, help_text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, help_text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _counter(self, name: str, help_text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, help_text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _family(
        self,
        kind: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        help_text: str,
        label: str,
        values: Mapping[str, int],
    ) -> Metric:
        family = kind(name, help_text, labels=[*self._labels, label])
        for key in sorted(values):
            family.add_metric([*self._labels.values(), key], values[key])
        return family

    def _agents(self, counts: Mapping[tuple[str, str], int]) -> Metric:
        family = GaugeMetricFamily(
            "stateroom_node_agents",
            "Agents by workload and phase.",
            labels=[*self._labels, "workload", "phase"],
        )
        for workload, phase in sorted(counts):
            labels = [*self._labels.values(), workload, phase]
            family.add_metric(labels, counts[workload, phase])
        return family
