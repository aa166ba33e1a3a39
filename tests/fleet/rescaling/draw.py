"""Workloads drawn at random: every kind of metric, every fault and rule, also far ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from fleet.rescaling.observation import (
    AutoscalerState,
    MetricFault,
    Pod,
    PodSample,
    Reading,
    Recommendation,
    ScaleEvent,
    WorkloadObservation,
)
from fleet.rescaling.spec import (
    AutoscalerSpec,
    Behavior,
    MetricKind,
    MetricSpec,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
    SelectPolicy,
    TargetType,
)
from tests.fleet.rescaling.workloads import NOW

_PHASES = ("Running",) * 8 + ("Pending", "Failed", "Succeeded", "Unknown")
_OUTSIDE = (MetricKind.OBJECT, MetricKind.EXTERNAL)
_FAR = (0, 1, -1, 2**31, 2**62, -(2**62), 2**63 - 1, -(2**63))


def draw_spec(rng: Random) -> AutoscalerSpec:
    """An autoscaler; about half have rules."""
    least = rng.choice((0, 1, 1, 2, 5))
    metrics = tuple(draw_metric(rng) for _ in range(rng.choice((1, 1, 2, 3))))
    behavior = Behavior(_rules(rng), _rules(rng)) if rng.random() < 0.5 else None
    most = least + rng.choice((1, 3, 10, 1000))
    return AutoscalerSpec("web", metrics, least, most, behavior, target_name="web")


def draw_metric(rng: Random) -> MetricSpec:
    """A metric with a target, now and then an extreme one."""
    kind = rng.choice(tuple(MetricKind))
    far = rng.random() < 0.05
    amount = rng.choice((1, 2**31, 2**62)) if far else rng.randrange(1, 5000)
    if kind in _OUTSIDE:
        chosen = rng.choice((TargetType.VALUE, TargetType.AVERAGE_VALUE))
        has_target = kind is MetricKind.EXTERNAL or rng.random() < 0.95
        selector = rng.choice(("", "queue=inbox,tier notin (test)"))
        return MetricSpec(
            kind,
            "depth",
            chosen,
            amount,
            selector=selector,
            described_object="Service/web" if kind is MetricKind.OBJECT else "",
            has_target=has_target,
        )
    if kind is MetricKind.PODS:
        return MetricSpec(kind, "sessions", TargetType.AVERAGE_VALUE, amount)
    name = rng.choice(("cpu", "memory"))
    container = "main" if kind is MetricKind.CONTAINER_RESOURCE else ""
    if rng.random() < 0.3:
        return MetricSpec(kind, name, TargetType.AVERAGE_VALUE, amount, container)
    return MetricSpec(kind, name, TargetType.UTILIZATION, rng.randrange(1, 150), container)


def draw_observation(
    rng: Random, spec: AutoscalerSpec, replicas: int, now: datetime = NOW
) -> WorkloadObservation:
    """A workload of about so many pods, with a reading for each metric."""
    if rng.random() < 0.02:
        reason = rng.choice(("FailedGetScale", "InvalidSelector"))
        return WorkloadObservation(replicas, replicas, (), (), MetricFault(reason, "not found"))
    count = max(0, min(replicas, 30) + rng.choice((0, 0, 0, -1, 2)))
    pods = [_pod(rng, index, now) for index in range(count)]
    readings = [_reading(rng, metric, pods, now) for metric in spec.metrics]
    status = max(0, replicas + rng.choice((0, 0, 0, -1, 1)))
    return WorkloadObservation(replicas, status, pods, readings)


def draw_state(rng: Random, now: datetime = NOW) -> AutoscalerState:
    """What is remembered; now and then nothing."""
    if rng.random() < 0.3:
        return AutoscalerState()

    def moment() -> datetime:
        return now - timedelta(seconds=rng.choice((0, 15, 30, 60, 299, 300, 301, 4000)))

    return AutoscalerState(
        recommendations=tuple(
            Recommendation(moment(), rng.randrange(12)) for _ in range(rng.randrange(1, 6))
        ),
        scale_ups=_events(rng, moment),
        scale_downs=_events(rng, moment),
        seen=True,
    )


def _events(rng: Random, moment: object) -> tuple[ScaleEvent, ...]:
    assert callable(moment)
    return tuple(
        ScaleEvent(moment(), rng.randrange(1, 5), rng.random() < 0.3)
        for _ in range(rng.randrange(3))
    )


def _rules(rng: Random) -> ScalingRules:
    policies = tuple(
        ScalingPolicy(
            rng.choice(tuple(PolicyType)),
            rng.choice((1, 4, 50, 100, 2**31 - 1)),
            rng.choice((15, 60)),
        )
        for _ in range(rng.randrange(1, 4))
    )
    return ScalingRules(
        policies,
        rng.choice(tuple(SelectPolicy)),
        rng.choice((None, 0, 0, 30, 300)),
        rng.choice((None, None, 0, 50, 200)),
    )


def _pod(rng: Random, index: int, now: datetime) -> Pod:
    started = now - timedelta(seconds=rng.choice((5, 29, 31, 200, 300, 5000)))
    changed = started + timedelta(seconds=rng.choice((0, 10, 30, 31, 150)))
    request = rng.choice((1000,) * 20 + (0, 250, 2**61))
    requests = {"main": {"cpu": request, "memory": 3 * request}, "side": {"cpu": 1, "memory": 1}}
    if rng.random() < 0.01:
        requests["main"] = {}
    whole = {"cpu": 1500} if rng.random() < 0.02 else {}
    return Pod(
        f"web-{index}",
        rng.choice(_PHASES),
        rng.random() < 0.03,
        rng.choice((True,) * 9 + (False, False, None)),
        started if rng.random() < 0.97 else None,
        changed if rng.random() < 0.97 else None,
        requests,
        whole,
    )


def _reading(rng: Random, metric: MetricSpec, pods: Sequence[Pod], now: datetime) -> Reading:
    if rng.random() < 0.05:
        return MetricFault("any", "no answer")
    if metric.kind in _OUTSIDE:
        number = 1 if metric.kind is MetricKind.OBJECT else rng.choice((0, 1, 1, 1, 3))
        return [_value(rng) for _ in range(number)]
    missing = rng.choice((0.0, 0.0, 0.0, 0.1, 1.0))
    level = rng.choice((None, rng.randrange(10), rng.randrange(2000)))
    samples = {
        pod.name: PodSample(
            _value(rng) if level is None else level,
            now - timedelta(seconds=rng.choice((0, 20, 90))),
        )
        for pod in pods
        if rng.random() >= missing
    }
    if rng.random() < 0.03:
        samples["stranger"] = PodSample(_value(rng), now)
    return samples


def _value(rng: Random) -> int:
    return rng.choice(_FAR) if rng.random() < 0.03 else rng.randrange(3000)
