"""Reads recordings of the real controller (`tests/golden/hpa`) into our records.

What an observer of Kubernetes does is done here: samples of containers are added up, sidecars count
as containers, a source that answers nothing has failed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.rescaling.go_integers import wrap_int64
from fleet.rescaling.observation import (
    AutoscalerState,
    Condition,
    MetricFault,
    Pod,
    PodSample,
    Reading,
    WorkloadObservation,
)
from fleet.rescaling.spec import (
    AutoscalerSpec,
    ControllerOptions,
    MetricKind,
    MetricSpec,
    TargetType,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "hpa"
START = datetime(2026, 1, 1, tzinfo=UTC)
_APIS = {
    MetricKind.RESOURCE: "resource",
    MetricKind.CONTAINER_RESOURCE: "resource",
    MetricKind.PODS: "custom",
    MetricKind.OBJECT: "custom",
    MetricKind.EXTERNAL: "external",
}


def lines(name: str) -> Iterator[dict[str, Any]]:
    """The records of one file, plain or compressed."""
    packed = (GOLDEN / name).read_bytes()
    text = gzip.decompress(packed) if name.endswith(".gz") else packed
    for line in text.splitlines():
        yield json.loads(line)


def moment(milliseconds: float) -> datetime:
    """A moment of a recording."""
    return START + timedelta(milliseconds=milliseconds)


def milliseconds(at: datetime) -> int:
    """The other way round."""
    return round((at - START) / timedelta(milliseconds=1))


def options_of(config: Mapping[str, Any]) -> ControllerOptions:
    """The flags that a controller was started with."""
    tolerance_milli = round(config["tolerance"] * 1000)
    assert tolerance_milli / 1000 == config["tolerance"]
    return ControllerOptions(
        tolerance_milli=tolerance_milli,
        downscale_stabilization_s=config["downscale_stabilization_ms"] / 1000,
        cpu_initialization_period_s=config["cpu_initialization_period_ms"] / 1000,
        initial_readiness_delay_s=config["initial_readiness_delay_ms"] / 1000,
        scale_to_zero=config.get("scale_to_zero", False),
        configurable_tolerance=config.get("configurable_tolerance", False),
    )


def pod_of(recorded: Mapping[str, Any]) -> Pod:
    """One pod; sidecars are containers, other init containers are done."""
    ready = recorded.get("ready")
    since = recorded.get("ready_since_ms")
    changed = None if since is None else moment(since)
    if ready == "Unknown" and changed is None:
        changed = START - timedelta(days=10_000)
    containers = [
        *recorded.get("containers", ()),
        *(one for one in recorded.get("init_containers", ()) if one.get("restart_always")),
    ]
    start = recorded.get("start_ms")
    return Pod(
        recorded["name"],
        recorded.get("phase", ""),
        recorded.get("deleting", False),
        {"True": True, "False": False}.get(ready),
        None if start is None else moment(start),
        changed,
        {one["name"]: one.get("requests_milli") or {} for one in containers},
        _whole_requests(recorded),
    )


def _whole_requests(recorded: Mapping[str, Any]) -> Mapping[str, int]:
    """Requests of a pod that declares some for itself: of other resources what it needs at most.

    A container that prepares the pod runs beside the sidecars started before it, and before the
    rest; so a pod needs the larger of that and of what runs afterwards.
    """
    declared = recorded.get("pod_requests_milli") or {}
    if not declared:
        return {}
    running: dict[str, int] = {}
    before: dict[str, int] = {}
    preparing: dict[str, int] = {}
    for one in recorded.get("init_containers", ()):
        requests = one.get("requests_milli") or {}
        if one.get("restart_always"):
            before = _added(before, requests)
            preparing = _larger(preparing, before)
        else:
            preparing = _larger(preparing, _added(before, requests))
    for one in recorded.get("containers", ()):
        running = _added(running, one.get("requests_milli") or {})
    return {**_larger(_added(running, before), preparing), **declared}


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _larger(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}


def reading_of(metric: MetricSpec, sample: Mapping[str, Any]) -> Reading:
    """What one metric's source has answered."""
    api = _APIS[metric.kind]
    if sample.get("error"):
        return MetricFault(
            "any", f"unable to fetch metrics from {api} metrics API: {sample['error']}"
        )
    if metric.kind is MetricKind.OBJECT:
        return [sample["value_milli"]]
    if metric.kind is MetricKind.EXTERNAL:
        if not sample.get("values_milli"):
            return MetricFault("any", "no metrics returned from external metrics API")
        return list(sample["values_milli"])
    if not sample.get("pods"):
        return MetricFault("any", f"no metrics returned from {api} metrics API")
    samples = {}
    for one in sample["pods"]:
        value = _value(metric, one)
        if value is not None:
            default_ms = 60_000 if metric.kind is MetricKind.PODS else 0
            window_s = one.get("window_ms", default_ms) / 1000
            samples[one["pod"]] = PodSample(value, moment(one.get("t_ms", 0)), window_s)
    return samples


def _value(metric: MetricSpec, one: Mapping[str, Any]) -> int | None:
    """Thousandths of one pod; None where its sample does not count."""
    if metric.kind is MetricKind.PODS:
        return int(one["value_milli"])
    containers = one.get("containers") or {}
    if metric.kind is MetricKind.CONTAINER_RESOURCE:
        found = containers.get(metric.container)
        return None if found is None else int(found)
    if not containers or any(value is None for value in containers.values()):
        return None
    return wrap_int64(sum(containers.values()))


def calculator_case(
    line: Mapping[str, Any],
) -> tuple[AutoscalerSpec, WorkloadObservation, ControllerOptions]:
    """One call of the calculator, as a workload with one metric."""
    kind, target = line["kind"], line.get("target_percent", line.get("target_milli"))
    name = line.get("resource", "m")
    if kind.startswith("resource"):
        metric_kind = MetricKind.RESOURCE
    elif kind.startswith("container"):
        metric_kind = MetricKind.CONTAINER_RESOURCE
    else:
        metric_kind = MetricKind(kind.partition("_")[0].capitalize())
    if kind.endswith("utilization"):
        target_type = TargetType.UTILIZATION
    elif kind in {"object_value", "external_value"}:
        target_type = TargetType.VALUE
    else:
        target_type = TargetType.AVERAGE_VALUE
    metric = MetricSpec(
        metric_kind,
        name,
        target_type,
        target,
        line.get("container", ""),
        described_object="Service/front",
    )
    spec = AutoscalerSpec("web", (metric,), 1, 100, namespace="fleet")
    seen = WorkloadObservation(
        line.get("current_replicas", 0),
        line.get("status_replicas", 0),
        [pod_of(one) for one in line.get("pods") or ()],
        [reading_of(metric, line["sample"])],
    )
    options = ControllerOptions(
        cpu_initialization_period_s=line["cpu_initialization_period_ms"] / 1000,
        initial_readiness_delay_s=line["initial_readiness_delay_ms"] / 1000,
    )
    return spec, seen, options


def conditions_of(recorded: Sequence[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Conditions as records."""
    return tuple(
        Condition(one["type"], one["status"] == "True", one["reason"], one["message"])
        for one in recorded
    )


def memory_of(state: AutoscalerState) -> dict[str, list[list[int | bool]]]:
    """A state as recordings show it."""
    return {
        "recommendations": [[one.replicas, milliseconds(one.at)] for one in state.recommendations],
        "scale_up_events": [
            [one.change, milliseconds(one.at), one.outdated] for one in state.scale_ups
        ],
        "scale_down_events": [
            [one.change, milliseconds(one.at), one.outdated] for one in state.scale_downs
        ],
    }
