"""Workloads, autoscalers and observations in a few words, for tests of rescaling."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from fleet.rescaling.observation import Pod, PodSample, Reading, WorkloadObservation
from fleet.rescaling.spec import AutoscalerSpec, Behavior, MetricKind, MetricSpec, TargetType

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
CPU = MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 50)
QUEUE = MetricSpec(MetricKind.EXTERNAL, "queue", TargetType.AVERAGE_VALUE, 10_000)

REQUESTS = MetricSpec(
    MetricKind.OBJECT, "requests", TargetType.VALUE, 1000, described_object="Service/front"
)


def later(seconds: float) -> datetime:
    """So long after NOW."""
    return NOW + timedelta(seconds=seconds)


def autoscaler(
    *metrics: MetricSpec, least: int = 1, most: int = 100, behavior: Behavior | None = None
) -> AutoscalerSpec:
    """An autoscaler of the workload `web`."""
    return AutoscalerSpec("web", metrics or (CPU,), least, most, behavior, target_name="web")


def pod(name: str, *, cpu: int = 1000) -> Pod:
    """A pod that is ready for long, with one container."""
    return Pod(
        name,
        ready=True,
        started_at=LONG_AGO,
        ready_changed_at=LONG_AGO,
        requests={"main": {"cpu": cpu}},
    )


def seen(
    replicas: int, *readings: Reading, pods: Sequence[Pod] | None = None
) -> WorkloadObservation:
    """A workload with so many ready pods."""
    there = [pod(f"web-{index}") for index in range(replicas)] if pods is None else pods
    return WorkloadObservation(replicas, replicas, there, readings)


def busy(replicas: int, cpu: int, at: datetime = NOW) -> WorkloadObservation:
    """A workload whose pods use so many thousandths of a core each, of one that they request."""
    return seen(replicas, {f"web-{index}": PodSample(cpu, at) for index in range(replicas)})
