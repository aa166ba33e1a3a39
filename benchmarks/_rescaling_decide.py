"""What one reconcile of 10,000 workloads with 100,000 pods costs; part of `rescaling.py`.

Columns are decided as a source hands them over; what it costs to build them from records, and to
decide one by one, stands beside it. The raw limit, measured in the same run, is NumPy adding up
the same samples and requests by workload, dividing and rounding up: no pod is told from another,
no past, no limit. A reconcile is one thread that waits for nothing, so its CPU is what it takes on
a quiet machine; beside other work the wall clock shows the other work.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np

from fleet.rescaling.batch import decide_many
from fleet.rescaling.batch_columns import ObservationBatch, observation_batch
from fleet.rescaling.batch_specs import SpecBatch, spec_batch
from fleet.rescaling.batch_states import StateBatch, empty_state_batch
from fleet.rescaling.hpa import decide_replicas
from fleet.rescaling.observation import (
    AutoscalerState,
    MetricFault,
    Pod,
    PodSample,
    Reading,
    WorkloadObservation,
)
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.spec import (
    AutoscalerSpec,
    Behavior,
    MetricKind,
    MetricSpec,
    TargetType,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PERIOD_S = 15
_CPU = MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 60)
_SESSIONS = MetricSpec(MetricKind.PODS, "sessions", TargetType.AVERAGE_VALUE, 8000)
_QUEUE = MetricSpec(MetricKind.EXTERNAL, "queue", TargetType.AVERAGE_VALUE, 10_000)
_METRICS = ((_CPU,), (_CPU, _QUEUE), (_SESSIONS,), (_CPU, _SESSIONS, _QUEUE))
_WARM_TICKS = 25
"""Reconciles before the measured ones: lists of proposals are then as long as they get."""


def measure(*, quick: bool) -> None:
    """Print what decisions cost, in columns and one by one."""
    workloads, rounds = (1_000, 3) if quick else (10_000, 11)
    specs = [_spec(index) for index in range(workloads)]
    batch = spec_batch(specs)
    rng = Random(1)
    seen = [_observation(rng, spec, 10, NOW) for spec in specs]
    columns = observation_batch(batch, seen)
    pods = int(columns.pod_offsets[-1])
    print(f"{workloads:,} workloads, {pods:,} pods, {len(batch.slot_kind):,} metrics:")
    built = _median(rounds, lambda: observation_batch(batch, seen))
    state, now = _warm(batch, columns)
    _print("reconcile, from columns", *_timed(batch, columns, state, now, rounds))
    new = empty_state_batch(workloads)
    _print("reconcile of a new controller", *_timed(batch, columns, new, NOW, rounds))
    missing = _with_missing(columns)
    _print("... 10 % of the samples missing", *_timed(batch, missing, state, now, rounds))
    away = _without_metrics(batch, columns)
    _print("... no metric to be had at all", *_timed(batch, away, state, now, rounds))
    _print("columns from records", *built)
    raw = _median(rounds, lambda: _raw(columns))
    _print("raw limit: sums by workload", *raw)
    some = min(workloads, 1_000)
    single = _median(
        3, lambda: [_single(spec, one) for spec, one in zip(specs[:some], seen, strict=False)]
    )
    factor = workloads / some
    _print("one by one (of 1,000, multiplied)", single[0] * factor, single[1] * factor)
    whole = _timed(batch, columns, state, now, rounds)[1]
    print(f"  ratio (CPU): {whole / raw[1]:.0f} x the raw limit; ", end="")
    print(f"1 / {single[1] * factor / whole:.0f} of one by one")


def _spec(index: int) -> AutoscalerSpec:
    """Half of the workloads have rules; metrics take turns."""
    behavior = Behavior(DEFAULT_UP, DEFAULT_DOWN) if index % 2 else None
    metrics = _METRICS[index % len(_METRICS)]
    return AutoscalerSpec(f"web-{index}", metrics, 2, 40, behavior, target_name=f"web-{index}")


def _observation(
    rng: Random, spec: AutoscalerSpec, replicas: int, now: datetime
) -> WorkloadObservation:
    """A workload whose pods are ready, but for one in fifty."""
    started = now - timedelta(hours=3)
    pods = [
        Pod(
            f"{spec.name}-{index}",
            ready=rng.random() > 0.02,
            started_at=started,
            ready_changed_at=started + timedelta(seconds=20),
            requests={"main": {"cpu": 1000}},
        )
        for index in range(replicas)
    ]
    level = rng.uniform(0.5, 1.5)
    readings: list[Reading] = []
    for metric in spec.metrics:
        if metric is _QUEUE:
            readings.append([round(level * metric.target * replicas)])
            continue
        usual = 600 if metric is _CPU else metric.target
        readings.append(
            {pod.name: PodSample(round(usual * level * rng.uniform(0.8, 1.2)), now) for pod in pods}
        )
    return WorkloadObservation(replicas, replicas, pods, readings)


def _warm(batch: SpecBatch, columns: ObservationBatch) -> tuple[StateBatch, datetime]:
    """What is remembered after some minutes, and the time by then."""
    state, now = empty_state_batch(len(batch)), NOW
    for _ in range(_WARM_TICKS):
        state = decide_many(batch, columns, state, now).state
        now += timedelta(seconds=PERIOD_S)
    return state, now


def _with_missing(columns: ObservationBatch) -> ObservationBatch:
    """Every tenth pod's sample taken away."""
    at_us = columns.row_at_us.copy()
    at_us[::10] = np.iinfo(np.int64).min
    return replace(columns, row_at_us=at_us, records=())


def _without_metrics(batch: SpecBatch, columns: ObservationBatch) -> ObservationBatch:
    """Every metric's source away."""
    fault = MetricFault("any", "the metrics API does not answer")
    return replace(columns, slot_faults=dict.fromkeys(range(len(batch.slot_kind)), fault))


def _raw(columns: ObservationBatch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Sums of usage and requests by slot, and a rounded quotient."""
    starts = columns.row_offsets[:-1]
    usage = np.add.reduceat(columns.row_value, starts)
    requests = np.add.reduceat(columns.row_request, starts)
    return np.ceil(usage * 100 / np.maximum(requests, 1) / 60.0 * 10)


def _single(spec: AutoscalerSpec, seen: WorkloadObservation) -> int:
    return decide_replicas(spec, seen, AutoscalerState(), NOW).desired


def _timed(
    batch: SpecBatch, columns: ObservationBatch, state: StateBatch, now: datetime, rounds: int
) -> tuple[float, float]:
    return _median(rounds, lambda: decide_many(batch, columns, state, now))


def _median(rounds: int, action: Callable[[], object]) -> tuple[float, float]:
    """Median of wall and of CPU time, in seconds."""
    walls, cpus = [], []
    gc.collect()
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def _print(what: str, wall_s: float, cpu_s: float) -> None:
    print(f"  {what:36} {wall_s * 1000:9.1f} ms   (CPU {cpu_s * 1000:9.1f} ms)")
