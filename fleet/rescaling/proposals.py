"""What one metric asks for: its value by its target, times the pods that were looked at.

Everything is counted in whole thousandths; averages and utilizations are cut to whole numbers
before they are divided by the target, so 60.9 % is 60 %. A metric that cannot be had is invalid:
it never counts as zero.

Quirks of the controller, all kept:
    * A sample of a pod that is not in the list counts in averages, and in the number of replicas
      that follows from a recomputed ratio; its usage does not count in a utilization.
    * Pods that are done (`Succeeded`) are not ignored: without a sample they are missing.
    * A negative sum of an external metric with a target per pod counts as the largest number.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/replica_calculator.go`,
`metrics/utilization.go`; messages from `horizontal.go`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from math import ceil
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.rescaling.decision import PodCounts, Proposal
from fleet.rescaling.go_integers import (
    INT64_MAX,
    INT64_MIN,
    ceil_int32,
    divide_float,
    divide_int64,
    wrap_int32,
    wrap_int64,
)
from fleet.rescaling.metric_words import (
    NO_MATCH,
    NO_PODS,
    NO_READY,
    NO_SAMPLES,
    NO_SERIES,
    metric_name,
    reason_of,
    uncountable,
    unobtainable,
    untargeted,
)
from fleet.rescaling.observation import MetricFault, PodSamples, Reading, WorkloadObservation
from fleet.rescaling.readiness import (
    MissingRequestError,
    PodGroups,
    count_ready,
    group_pods,
    requests_of,
)
from fleet.rescaling.spec import (
    AutoscalerSpec,
    Behavior,
    ControllerOptions,
    MetricKind,
    MetricSpec,
    ScalingRules,
    TargetType,
)

TOLERANCE = "tolerance"
DIRECTION = "direction"


class Tolerance(NamedTuple):
    """How far the ratio may be from 1 before anything follows from it."""

    down: float
    up: float

    def holds(self, ratio: float) -> bool:
        """Whether a ratio is near enough to 1."""
        return (1.0 - self.down) <= ratio <= (1.0 + self.up)


class Asked(NamedTuple):
    """One metric of one workload at one moment, with all that its proposal depends on."""

    spec: AutoscalerSpec
    metric: MetricSpec
    seen: WorkloadObservation
    tolerance: Tolerance
    now: datetime
    options: ControllerOptions


class _InvalidMetricError(Exception):
    """Why nothing follows from a metric, as its condition says it."""


class _Sums(NamedTuple):
    """Samples that count, added up; thousandths in 64 bits."""

    usage: int
    requests: int
    """Of the same pods; 0 where requests do not matter."""
    entries: int
    """Samples in the sums."""
    samples: int
    """Samples that count; more than `entries` where some are of unknown pods."""


def tolerance_of(behavior: Behavior | None, options: ControllerOptions) -> Tolerance:
    """The tolerances of an autoscaler: its own by direction, else the controller's."""
    default = options.tolerance_milli / 1000
    if behavior is None or not options.configurable_tolerance:
        return Tolerance(default, default)
    return Tolerance(_own(behavior.scale_down, default), _own(behavior.scale_up, default))


def _own(rules: ScalingRules, default: float) -> float:
    """The tolerance of one direction."""
    if rules.tolerance is not None:
        return rules.tolerance
    if rules.tolerance_milli is not None:  # multiplied, as the controller does with `100m`
        return rules.tolerance_milli * 0.001
    return default


def propose(asked: Asked, reading: Reading) -> Proposal:
    """What one metric asks for, or why it cannot ask for anything.

    Args:
        asked: the metric and its workload.
        reading: its values.

    Raises:
        InvalidInputError: `reading` is of another kind of metric.
    """
    metric = asked.metric
    try:
        return _proposal(asked, reading)._replace(metric=metric_name(metric))
    except _InvalidMetricError as error:
        fault = MetricFault(reason_of(metric), str(error))
        target = metric.target if metric.has_target else None
        return Proposal(metric_name(metric), None, target=target, fault=fault)


def _proposal(asked: Asked, reading: Reading) -> Proposal:
    """What a metric asks for, its name left empty."""
    metric = asked.metric
    if not metric.has_target:
        raise _InvalidMetricError(untargeted(metric))
    if isinstance(reading, MetricFault):
        raise _unobtainable(asked, reading.message)
    if not metric.kind.is_outside:
        if not isinstance(reading, Mapping):
            raise _wrong_reading(metric, reading, "samples by name of the pod")
        return _of_pods(asked, reading)
    if isinstance(reading, Mapping):
        raise _wrong_reading(metric, reading, "a sequence of thousandths")
    values = list(reading)
    _check_values(asked, enumerate(values), "value")
    if metric.kind is MetricKind.OBJECT and len(values) > 1:
        raise _wrong_reading(metric, reading, "one value for an object")
    if not values:
        raise _unobtainable(asked, NO_SERIES)
    if metric.target_type is TargetType.AVERAGE_VALUE:
        return _of_total_per_pod(asked, values)
    return _of_total(asked, values)


def _unobtainable(asked: Asked, message: str) -> _InvalidMetricError:
    return _InvalidMetricError(unobtainable(asked.spec, asked.metric, message))


def _wrong_reading(metric: MetricSpec, reading: object, allowed: str) -> InvalidInputError:
    return InvalidInputError(f"reading of {metric_name(metric)}", reading, allowed)


def _check_values(asked: Asked, values: Iterable[tuple[object, object]], noun: str) -> None:
    """Refuse what is no whole number of 64 bits; such a metric is invalid, never zero."""
    for key, value in values:
        if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
            raise _unobtainable(
                asked, f"{noun} {key} is {value!r}; allowed: whole thousandths in 64 bits"
            )


def _of_pods(asked: Asked, samples: PodSamples) -> Proposal:
    """What samples of pods ask for: their average by the target."""
    metric, pods = asked.metric, asked.seen.pods
    _check_values(asked, ((name, sample.value_milli) for name, sample in samples.items()), "sample")
    if not pods:
        raise _InvalidMetricError(uncountable(metric, NO_PODS))
    resource = "" if metric.kind is MetricKind.PODS else metric.name
    groups = group_pods(pods, samples, resource, asked.now, asked.options)
    dropped = {*groups.ignored, *groups.unready}
    kept = {name: sample.value_milli for name, sample in samples.items() if name not in dropped}
    if not kept:
        raise _InvalidMetricError(uncountable(metric, NO_SAMPLES))
    if metric.target_type is not TargetType.UTILIZATION:
        sums = _Sums(wrap_int64(sum(kept.values())), 0, len(kept), len(kept))
        return _of_sums(asked, groups, sums, {})
    try:
        requests = requests_of(pods, metric.name, metric.container)
    except MissingRequestError as error:
        raise _InvalidMetricError(uncountable(metric, str(error))) from error
    known = kept.keys() & requests.keys()
    usage = wrap_int64(sum(kept[name] for name in known))
    requested = wrap_int64(sum(requests[name] for name in known))
    return _of_sums(asked, groups, _Sums(usage, requested, len(known), len(kept)), requests)


def _of_sums(asked: Asked, groups: PodGroups, sums: _Sums, requests: Mapping[str, int]) -> Proposal:
    """What added-up samples ask for, with pods that have none weighed against a change."""
    current, metric = asked.seen.spec_replicas, asked.metric
    value, ratio = _ratio(metric, sums)
    pods = PodCounts(groups.ready, *map(len, groups[1:]))
    found = Proposal("", current, value, metric.target, ratio, pods=pods)
    unready_count = bool(groups.unready) and ratio > 1.0
    if not groups.missing and not unready_count:
        if asked.tolerance.holds(ratio):
            return found._replace(held_by=TOLERANCE)
        return found._replace(replicas=ceil_int32(ratio * float(groups.ready)))
    filled, note = _filled(metric, groups, sums, requests, ratio)
    _, weighed = _ratio(metric, filled)
    found = found._replace(ratio=weighed, note=note)
    if asked.tolerance.holds(weighed):
        return found._replace(held_by=TOLERANCE)
    replicas = ceil_int32(weighed * float(filled.samples))
    if (ratio < 1.0 < weighed) or (ratio > 1.0 > weighed):
        return found._replace(held_by=DIRECTION)
    if (weighed < 1.0 and replicas > current) or (weighed > 1.0 and replicas < current):
        return found._replace(held_by=DIRECTION)
    return found._replace(replicas=replicas)


def _ratio(metric: MetricSpec, sums: _Sums) -> tuple[int, float]:
    """The measured value, cut to a whole number, and by how much it is the target."""
    if metric.target_type is TargetType.UTILIZATION:
        if not sums.requests:
            raise _InvalidMetricError(uncountable(metric, NO_MATCH))
        value = wrap_int32(divide_int64(wrap_int64(sums.usage * 100), sums.requests))
    else:
        value = divide_int64(sums.usage, sums.entries)
    return value, divide_float(float(value), float(metric.target))


def _filled(
    metric: MetricSpec, groups: PodGroups, sums: _Sums, requests: Mapping[str, int], ratio: float
) -> tuple[_Sums, str]:
    """Sums with an assumed sample for each pod that has none, and the assumption in words.

    Pods without a sample are assumed to work when that keeps the count from falling, and to idle
    when that keeps it from rising; unready pods idle while the count would rise.
    """
    added: Collection[str] = ()
    usage, notes = 0, []
    if groups.missing and ratio < 1.0:
        added = groups.missing
        usage = _assumed_usage(metric, groups.missing, requests)
        notes.append(_note(len(added), "without a sample", "busy"))
    elif groups.missing and ratio > 1.0:
        added = groups.missing
        notes.append(_note(len(added), "without a sample", "idle"))
    if groups.unready and ratio > 1.0:
        notes.append(_note(len(groups.unready), "not ready", "idle"))
        added = (*added, *groups.unready)
    filled = _Sums(
        wrap_int64(sums.usage + usage),
        wrap_int64(sums.requests + sum(requests.get(name, 0) for name in added)),
        sums.entries + len(added),
        sums.samples + len(added),
    )
    return filled, ", ".join(notes)


def _assumed_usage(
    metric: MetricSpec, missing: Collection[str], requests: Mapping[str, int]
) -> int:
    """What pods without a sample are assumed to use while the others use less than wished."""
    if metric.target_type is not TargetType.UTILIZATION:
        return metric.target * len(missing)
    percent = max(100, metric.target)
    return sum(divide_int64(wrap_int64(requests[name] * percent), 100) for name in missing)


def _note(count: int, which: str, as_what: str) -> str:
    """`2 pods without a sample count as idle`."""
    noun, verb = ("pod", "counts") if count == 1 else ("pods", "count")
    return f"{count} {noun} {which} {verb} as {as_what}"


def _of_total(asked: Asked, values: list[int]) -> Proposal:
    """What one number for the whole workload asks for, times the pods that are ready."""
    target, current = asked.metric.target, asked.seen.spec_replicas
    total = sum_total(values)
    ratio = divide_float(float(total), float(target))
    found = Proposal("", current, total, target, ratio)
    if not current:
        return found._replace(replicas=ceil_int32(ratio))
    if asked.tolerance.holds(ratio):
        return found._replace(held_by=TOLERANCE)
    if not asked.seen.pods:
        raise _InvalidMetricError(NO_READY)
    ready = count_ready(asked.seen.pods)
    return found._replace(replicas=ceil_int32(ratio * float(ready)), pods=PodCounts(ready))


def _of_total_per_pod(asked: Asked, values: list[int]) -> Proposal:
    """What one number for the whole workload asks for, its target being for each pod."""
    metric, count = asked.metric, asked.seen.status_replicas
    external = metric.kind is MetricKind.EXTERNAL
    total = sum_per_pod(values) if external else values[0]
    ratio = divide_float(float(total), float(metric.target) * float(count))
    average = divide_float(float(total), float(count)) if count else float(total)
    found = Proposal("", count, min(ceil(average), INT64_MAX), metric.target, ratio)
    if asked.tolerance.holds(ratio):
        return found._replace(held_by=TOLERANCE)
    wanted = divide_float(float(total), float(metric.target))
    return found._replace(replicas=ceil_int32(wanted))


def sum_total(values: list[int]) -> int:
    """Sum of an external metric for the whole workload; what is too large stays the largest."""
    total = 0
    for value in values:
        if value > 0 and total > INT64_MAX - value:
            return INT64_MAX
        total = wrap_int64(total + value)
    return total


def sum_per_pod(values: list[int]) -> int:
    """Sum of an external metric; a sum below zero is taken for one that has overflowed."""
    total = 0
    for value in values:
        total = wrap_int64(total + value)
        if total < 0:
            return INT64_MAX
    return total
