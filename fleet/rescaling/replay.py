"""Recorded load through the scaler: replicas, cost and violations of a day that was.

Each step the engine sees the load that a metric source would have shown it by then, and its change
is made at once; a new replica serves after its start. Two measures of what went wrong are taken,
the same ones of a static fleet, which is the comparison:

* shortage: load above what the ready replicas serve;
* late work: what a step brings is late when its last task waits for longer than is allowed. Tasks
  of a rate queue up and are worked off in their order; load that is a length (sessions, slots)
  cannot wait, so there any shortage is late.

The engine is the one that decides for the fleet (`decide_scaling`), step by step with its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from math import ceil, floor, inf

from fleet.errors import InvalidInputError
from fleet.rescaling.context import ScalingContext
from fleet.rescaling.engine import decide_scaling
from fleet.rescaling.go_integers import INT64_MAX
from fleet.rescaling.load_trace import LoadTrace
from fleet.rescaling.observation import (
    AutoscalerState,
    Pod,
    PodSample,
    PodSamples,
    Reading,
    WorkloadObservation,
)
from fleet.rescaling.policy import WorkloadScaling
from fleet.rescaling.spec import MetricSpec

FLAP_S = 600
"""A change that is turned around within ten minutes was for nothing."""
REPLICAS_MAX = 20_000
"""Of a replay: each is looked at in each step."""
_CPU = "cpu"
_REQUEST_MILLI = 1000
_REQUESTS = {"agent": {_CPU: _REQUEST_MILLI}}
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """What a replica serves, and what it takes to have one."""

    replica_capacity: float
    """Load that one ready replica serves, in the unit of the trace."""
    start_s: float = 30.0
    """From the order to readiness."""
    metric_delay_s: float = 15.0
    """Age of what a metric source shows, beyond the time that it covers."""
    metric_window_s: float = 60.0
    """Time that it averages, as `rate(...[1m])` does."""
    price_per_hour: float = 1.0
    """Of one replica, from its order to its end."""
    wait_max_s: float = 30.0
    """Longest wait that is no violation."""
    queues: bool = True
    """The load is a rate (requests/s), and waits; else a length that is there or not."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One fleet over a trace."""

    name: str
    step_s: int
    replicas: tuple[int, ...]
    """Paid for, by step."""
    ready: tuple[int, ...]
    """Serving, by step."""
    cost: float
    short_s: int
    """Seconds in which there was more load than the ready replicas serve."""
    violated_s: int
    """Seconds whose work was late."""
    late: float
    """Work that was late, added up: requests of a rate, unit-seconds of a length."""
    offered: float
    """All work, in the same unit."""
    wait_s: float
    """The longest wait; 0 where nothing queues."""
    changes: int
    flaps: int
    """Changes that were turned around within `FLAP_S`."""

    @property
    def replica_hours(self) -> float:
        """Replicas times hours."""
        return sum(self.replicas) * self.step_s / 3600


def replay(
    wish: WorkloadScaling,
    trace: LoadTrace,
    model: ServiceModel,
    context: ScalingContext | None = None,
    name: str = "",
    first_replicas: int | None = None,
) -> Replayed:
    """What the engine would have made of a trace.

    Args:
        wish: the autoscaler and its rules. All its metrics follow the load: those from outside and
            of pods in its unit, CPU as the share of the capacity (never above all of it).
        trace: the load.
        model: of the service.
        context: what else is known; starts and price are the model's where it does not say.
        name: of the result; else the autoscaler's.
        first_replicas: that are ready at the begin; None: those that the peak needs, since nobody
            knows what came before. Within the limits in any case.

    Raises:
        InvalidInputError: a metric that does not follow load (memory), a model that cannot be, or
            what `decide_scaling` refuses.
    """
    _check_model(model)
    _check_wish(wish)
    context = ScalingContext() if context is None else context
    starts = context.start_times_s or (model.start_s,)
    price = model.price_per_hour if context.price_per_hour is None else context.price_per_hour
    context = replace(context, start_times_s=starts, price_per_hour=price)
    first = peak_replicas(trace, model) if first_replicas is None else first_replicas
    first = min(max(first, wish.spec.min_replicas), wish.spec.max_replicas)
    shown = _shown(trace, model)
    fleet = _Fleet(model.start_s, trace.start, first)
    state = AutoscalerState()
    replicas, ready = [], []
    for index in range(len(trace.load)):
        now = trace.start + timedelta(seconds=index * trace.step_s)
        fleet.advance(now)
        seen = fleet.observed(wish.spec.metrics, shown[index], model.replica_capacity, now)
        decision = decide_scaling(wish, seen, context, state, now)
        state = decision.state
        fleet.scale(decision.desired, now)
        replicas.append(fleet.wanted)
        ready.append(fleet.ready)
    return _measured(name or wish.spec.name, trace, model, replicas, ready)


def replay_static(trace: LoadTrace, model: ServiceModel, replicas: int, name: str) -> Replayed:
    """A fleet of one size over a trace: the comparison.

    Args:
        trace: the load.
        model: of the service.
        replicas: how many, all ready from the begin.
        name: of the result.
    """
    _check_model(model)
    counts = [replicas] * len(trace.load)
    return _measured(name, trace, model, counts, counts)


def peak_replicas(trace: LoadTrace, model: ServiceModel) -> int:
    """The fewest replicas that serve the highest load of a trace."""
    _check_model(model)
    return max(1, ceil(trace.peak / model.replica_capacity - _ROUNDING))


def smallest_static(trace: LoadTrace, model: ServiceModel) -> int:
    """The fewest replicas, always there, without late work: a queue needs fewer than the peak."""
    low, high = 1, peak_replicas(trace, model)
    while low < high:
        middle = (low + high) // 2
        if replay_static(trace, model, middle, "").violated_s:
            low = middle + 1
        else:
            high = middle
    return low


def _check_model(model: ServiceModel) -> None:
    if not 0 < model.replica_capacity < float("inf"):
        raise InvalidInputError("replica_capacity", model.replica_capacity, "more than 0")
    for field in ("start_s", "metric_delay_s", "metric_window_s", "price_per_hour", "wait_max_s"):
        value = getattr(model, field)
        if not 0 <= value < float("inf"):
            raise InvalidInputError(field, value, "0 or more")


def _check_wish(wish: WorkloadScaling) -> None:
    """Refuse what a load alone cannot tell."""
    spec = wish.spec
    if spec.max_replicas > REPLICAS_MAX:
        allowed = f"{REPLICAS_MAX} or less in a replay"
        raise InvalidInputError(f"maxReplicas of {spec.name}", spec.max_replicas, allowed)
    for metric in spec.metrics:
        if metric.kind.is_resource and metric.name != _CPU:
            hint = "Replay with cpu, or a metric of pods, an object or from outside."
            raise InvalidInputError(
                f"metrics of {spec.name}", metric.name, "what follows load", hint=hint
            )


def _shown(trace: LoadTrace, model: ServiceModel) -> list[float]:
    """What a metric source shows at the begin of each step; before the trace its first value."""
    late = ceil(model.metric_delay_s / trace.step_s)
    width = max(1, round(model.metric_window_s / trace.step_s))
    before = [trace.load[0]] * (late + width)
    sums = [0.0, *accumulate([*before, *trace.load])]
    return [
        (sums[end] - sums[end - width]) / width for end in range(width, width + len(trace.load))
    ]


class _Fleet:
    """Replicas in the order of their start; the youngest go first, so those that start yet."""

    def __init__(self, start_s: float, begin: datetime, count: int) -> None:
        """Begin with replicas that are ready for long."""
        self._start = timedelta(seconds=start_s)
        long_ago = begin - timedelta(days=1)
        self._pods = [_pod(index, long_ago, long_ago) for index in range(count)]
        self._ready_at = [long_ago] * count
        self.ready = count

    @property
    def wanted(self) -> int:
        """Replicas that are paid for."""
        return len(self._pods)

    def advance(self, now: datetime) -> None:
        """Let those be ready whose start is over."""
        while self.ready < len(self._pods) and self._ready_at[self.ready] <= now:
            index = self.ready
            started_at = self._pods[index].started_at
            self._pods[index] = _pod(index, started_at, self._ready_at[index])
            self.ready += 1

    def scale(self, desired: int, now: datetime) -> None:
        """Start or end replicas."""
        del self._pods[desired:], self._ready_at[desired:]
        self.ready = min(self.ready, desired)
        for index in range(len(self._pods), desired):
            self._pods.append(_pod(index, now, None))
            self._ready_at.append(now + self._start)
        if not self._start:
            self.advance(now)

    def observed(
        self, metrics: Sequence[MetricSpec], load: float, capacity: float, now: datetime
    ) -> WorkloadObservation:
        """What a controller sees of them under a load."""
        readings = [self._reading(metric, load, capacity, now) for metric in metrics]
        return WorkloadObservation(self.wanted, self.wanted, self._pods, readings)

    def _reading(self, metric: MetricSpec, load: float, capacity: float, now: datetime) -> Reading:
        if metric.kind.is_outside:
            return [_milli(load)]
        if metric.kind.is_resource:
            share = min(load / (self.ready * capacity), 1.0) if self.ready else 0.0
            return self._samples(_milli(share * _REQUEST_MILLI / 1000), now)
        return self._samples(_milli(load / self.ready) if self.ready else 0, now)

    def _samples(self, value_milli: int, now: datetime) -> PodSamples:
        names = [pod.name for pod in self._pods[: self.ready]]
        return dict.fromkeys(names, PodSample(value_milli, now))


def _pod(index: int, started_at: datetime | None, ready_at: datetime | None) -> Pod:
    return Pod(
        f"replica-{index}",
        ready=ready_at is not None,
        started_at=started_at,
        ready_changed_at=ready_at or started_at,
        requests=_REQUESTS,
    )


def _milli(value: float) -> int:
    return min(floor(value * 1000 + _ROUNDING), INT64_MAX)


def _measured(
    name: str,
    trace: LoadTrace,
    model: ServiceModel,
    replicas: Sequence[int],
    ready: Sequence[int],
) -> Replayed:
    """Cost and violations of a fleet over a trace."""
    step_s, capacity = trace.step_s, model.replica_capacity
    least = _ROUNDING * capacity
    waiting = late = longest_s = 0.0
    short_s = violated_s = 0
    for load, serving in zip(trace.load, ready, strict=True):
        served = serving * capacity
        if load > served + least:
            short_s += step_s
        waiting = max(waiting + (load - served) * step_s, 0.0) if model.queues else 0.0
        wait_s = waiting / served if served else inf if waiting else 0.0
        longest_s = max(longest_s, wait_s)
        if model.queues and wait_s > model.wait_max_s + _ROUNDING:
            violated_s += step_s
            late += load * step_s
        elif not model.queues and load > served + least:
            violated_s += step_s
            late += (load - served) * step_s
    changes, flaps = count_changes(replicas, step_s)
    return Replayed(
        name=name,
        step_s=step_s,
        replicas=tuple(replicas),
        ready=tuple(ready),
        cost=sum(replicas) * step_s / 3600 * model.price_per_hour,
        short_s=short_s,
        violated_s=violated_s,
        late=late,
        offered=sum(trace.load) * step_s,
        wait_s=longest_s,
        changes=changes,
        flaps=flaps,
    )


def count_changes(replicas: Sequence[int], step_s: int) -> tuple[int, int]:
    """How often a count changes, and how often that is turned around within `FLAP_S`."""
    moves = [
        (index * step_s, after > before)
        for index, (before, after) in enumerate(pairwise(replicas))
        if after != before
    ]
    flaps = sum(
        1 for one, other in pairwise(moves) if one[1] != other[1] and other[0] - one[0] <= FLAP_S
    )
    return len(moves), flaps
