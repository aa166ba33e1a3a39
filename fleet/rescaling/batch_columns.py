"""Thousands of workloads in columns, as one reconcile sees them.

Three kinds of rows: workloads in the order of their specs; pods, those of one workload together;
and readings, those of one slot (a metric of a workload) together. A slot that reads samples of pods
has one row for each pod of its workload, in the order of the pods, whether it has a sample or not;
any other slot has one row for each of its values.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

import numpy as np

from fleet.errors import InvalidInputError
from fleet.moments import microseconds, moment_of
from fleet.rescaling.batch_specs import MICROS, NONE_US, Bools, Int8s, Int32s, Int64s, SpecBatch
from fleet.rescaling.go_integers import INT64_MAX, INT64_MIN
from fleet.rescaling.observation import (
    MetricFault,
    Pod,
    PodSample,
    Reading,
    WorkloadObservation,
)
from fleet.rescaling.readiness import MissingRequestError, requests_of
from fleet.rescaling.spec import MetricKind, MetricSpec, TargetType

NO_REQUEST = INT64_MIN
"""A request that is missing."""
PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
PHASE_CODES = {phase: code for code, phase in enumerate(PHASES)}
_OTHER_PHASE = PHASES.index("Unknown")
NOT_READY, READY, READY_UNKNOWN, NO_CONDITION = 0, 1, 2, 3
"""Codes of a pod's Ready condition."""


@dataclass(frozen=True, slots=True, eq=False)
class ObservationBatch:
    """What is seen of workloads, in columns; `observation_batch` builds one from records.

    A source that has columns already builds it directly: moments are microseconds since 1970
    (`NONE_US` where there is none), values and requests thousandths.
    """

    spec_replicas: Int32s
    status_replicas: Int32s
    pod_offsets: Int64s
    """Pods of workload i: from the i-th to the next; one more than workloads."""
    pod_phase: Int8s
    """Index in PHASES."""
    pod_deleting: Bools
    pod_ready: Int8s
    pod_started_us: Int64s
    pod_ready_changed_us: Int64s
    row_offsets: Int64s
    """Rows of slot s: from the s-th to the next; one more than slots."""
    row_value: Int64s
    row_at_us: Int64s
    """Time of a pod's sample; NONE_US where the pod has none."""
    row_window_us: Int64s
    row_request: Int64s
    """What the pod requests of the metric's resource; NO_REQUEST where that is missing. Read for
    utilizations only."""
    slot_faults: Mapping[int, MetricFault] = field(default_factory=dict)
    """By slot: why the metric could not be had; its rows are not looked at."""
    workload_faults: Mapping[int, MetricFault] = field(default_factory=dict)
    """By workload: why it could not be looked at."""
    irregular: frozenset[int] = frozenset()
    """Workloads with what columns cannot hold: samples of unknown pods, values that are no whole
    numbers. They are decided one by one, from `records`."""
    records: Sequence[WorkloadObservation] = ()
    """The records that the columns were built from, for explanations; may be empty."""
    pod_names: Sequence[str] = ()
    """Names for explanations where there are no records; may be empty."""

    def __len__(self) -> int:
        """Number of workloads."""
        return len(self.spec_replicas)

    def record(self, specs: SpecBatch, index: int) -> WorkloadObservation:
        """One workload as a record; rebuilt where there are only columns."""
        if self.records:
            return self.records[index]
        return _rebuilt(self, specs, index)


def observation_batch(
    specs: SpecBatch, observations: Sequence[WorkloadObservation]
) -> ObservationBatch:
    """Records in columns.

    Args:
        specs: the autoscalers.
        observations: one for each of them, in their order.

    Raises:
        InvalidInputError: another number of observations, of readings, or a reading of another
            kind of metric.
    """
    if len(observations) != len(specs):
        raise InvalidInputError("observations", len(observations), f"{len(specs)}, one per spec")
    pods = [pod for seen in observations for pod in seen.pods]
    rows = Rows()
    for index, seen in enumerate(observations):
        rows.add_workload(index, specs.specs[index].metrics, seen)
    return ObservationBatch(
        spec_replicas=np.array([seen.spec_replicas for seen in observations], np.int32),
        status_replicas=np.array([seen.status_replicas for seen in observations], np.int32),
        pod_offsets=np.array([0, *accumulate(len(seen.pods) for seen in observations)], np.int64),
        pod_phase=np.array([PHASE_CODES.get(pod.phase, _OTHER_PHASE) for pod in pods], np.int8),
        pod_deleting=np.array([pod.deleting for pod in pods], np.bool_),
        pod_ready=np.array([_ready_code(pod) for pod in pods], np.int8),
        pod_started_us=np.array([rows.micros(pod.started_at) for pod in pods], np.int64),
        pod_ready_changed_us=np.array(
            [rows.micros(pod.ready_changed_at) for pod in pods], np.int64
        ),
        row_offsets=np.array(rows.offsets, np.int64),
        row_value=np.array(rows.value, np.int64),
        row_at_us=np.array(rows.at_us, np.int64),
        row_window_us=np.array(rows.window_us, np.int64),
        row_request=np.array(rows.request, np.int64),
        slot_faults=rows.faults,
        workload_faults={
            index: seen.fault for index, seen in enumerate(observations) if seen.fault is not None
        },
        irregular=frozenset(rows.irregular),
        records=observations,
    )


class Rows:
    """Rows of readings on their way into columns."""

    def __init__(self) -> None:
        """Begin with no slot."""
        self.offsets = [0]
        self.value: list[int] = []
        self.at_us: list[int] = []
        self.window_us: list[int] = []
        self.request: list[int] = []
        self.faults: dict[int, MetricFault] = {}
        self.irregular: set[int] = set()
        self._micros: dict[datetime | None, int] = {None: NONE_US}

    def micros(self, moment: datetime | None) -> int:
        """A moment in microseconds; most samples share theirs with others."""
        found = self._micros.get(moment)
        if found is None and moment is not None:
            found = self._micros[moment] = microseconds(moment)
        return NONE_US if found is None else found

    def add_workload(
        self, index: int, metrics: Sequence[MetricSpec], seen: WorkloadObservation
    ) -> None:
        """The slots of one workload."""
        if seen.fault is not None and not seen.readings:
            for _ in metrics:
                self.offsets.append(len(self.value))
            return
        if len(seen.readings) != len(metrics):
            raise InvalidInputError(
                f"readings of workload {index}", len(seen.readings), f"{len(metrics)}"
            )
        for metric, reading in zip(metrics, seen.readings, strict=True):
            self._add_slot(index, metric, reading, seen.pods)
            self.offsets.append(len(self.value))

    def _add_slot(
        self, index: int, metric: MetricSpec, reading: Reading, pods: Sequence[Pod]
    ) -> None:
        """The rows of one slot."""
        requests = [] if metric.kind.is_outside else _requests(metric, pods)
        self.add_slot(index, metric, reading, [pod.name for pod in pods], requests)

    def add_slot(
        self,
        index: int,
        metric: MetricSpec,
        reading: Reading,
        names: Sequence[str],
        requests: Sequence[int],
    ) -> None:
        """The rows of one slot; `requests` of its pods, called `names`."""
        if isinstance(reading, MetricFault):
            self.faults[len(self.offsets) - 1] = reading
            return
        if metric.kind.is_outside:
            values = () if isinstance(reading, Mapping) else tuple(reading)
            several = metric.kind is MetricKind.OBJECT and len(values) > 1
            if isinstance(reading, Mapping) or several or not all(map(_is_int64, values)):
                self.irregular.add(index)
                return
            self._extend(values, [NONE_US] * len(values), [0] * len(values), [0] * len(values))
            return
        samples = [reading.get(name) if isinstance(reading, Mapping) else None for name in names]
        found = [sample for sample in samples if sample is not None]
        if (
            not isinstance(reading, Mapping)
            or len(found) != len(reading)
            or not all(map(_is_int64, requests))
            or not all(_is_int64(sample.value_milli) for sample in found)
        ):
            self.irregular.add(index)
            return
        self._extend(
            [0 if sample is None else sample.value_milli for sample in samples],
            [NONE_US if sample is None else self.micros(sample.at) for sample in samples],
            [0 if sample is None else round(sample.window_s * MICROS) for sample in samples],
            requests,
        )

    def _extend(
        self,
        value: Sequence[int],
        at_us: Sequence[int],
        window_us: Sequence[int],
        request: Sequence[int],
    ) -> None:
        """Append rows."""
        self.value.extend(value)
        self.at_us.extend(at_us)
        self.window_us.extend(window_us)
        self.request.extend(request)


def _requests(metric: MetricSpec, pods: Sequence[Pod]) -> list[int]:
    """What pods request of a metric's resource, where the target is a utilization."""
    if metric.target_type is not TargetType.UTILIZATION:
        return [0] * len(pods)
    try:
        requests = requests_of(pods, metric.name, metric.container)
    except MissingRequestError:
        return [NO_REQUEST] * len(pods)
    return [requests[pod.name] for pod in pods]


def _is_int64(value: object) -> bool:
    """Whether a value is a whole number that 64 bits hold."""
    return type(value) is int and INT64_MIN <= value <= INT64_MAX


def _ready_code(pod: Pod) -> int:
    """The code of a pod's Ready condition."""
    if pod.ready is None:
        return NO_CONDITION if pod.ready_changed_at is None else READY_UNKNOWN
    return READY if pod.ready else NOT_READY


def _rebuilt(batch: ObservationBatch, specs: SpecBatch, index: int) -> WorkloadObservation:
    """A record from columns; what the columns do not hold is named plainly."""
    first, last = (int(batch.pod_offsets[index + step]) for step in (0, 1))
    slots = range(int(specs.slot_offsets[index]), int(specs.slot_offsets[index + 1]))
    metrics = specs.specs[index].metrics
    names = [
        batch.pod_names[row] if batch.pod_names else f"pod-{row - first}"
        for row in range(first, last)
    ]
    rows = {slot: int(batch.row_offsets[slot]) for slot in slots}
    pods = []
    for place, row in enumerate(range(first, last)):
        whole: dict[str, int] = {}
        containers: dict[str, dict[str, int]] = {}
        for slot, metric in zip(slots, metrics, strict=True):
            if metric.target_type is not TargetType.UTILIZATION or slot in batch.slot_faults:
                continue
            request = int(batch.row_request[rows[slot] + place])
            target = containers.setdefault(metric.container, {}) if metric.container else whole
            if request != NO_REQUEST:
                target[metric.name] = request
        pods.append(_pod(batch, row, names[place], whole, containers))
    readings = [
        _reading(batch, slot, metric, names) for slot, metric in zip(slots, metrics, strict=True)
    ]
    return WorkloadObservation(
        int(batch.spec_replicas[index]),
        int(batch.status_replicas[index]),
        pods,
        readings,
        batch.workload_faults.get(index),
    )


def _pod(
    batch: ObservationBatch,
    row: int,
    name: str,
    whole: Mapping[str, int],
    containers: Mapping[str, Mapping[str, int]],
) -> Pod:
    """One pod from its columns."""
    code = int(batch.pod_ready[row])
    changed_us = int(batch.pod_ready_changed_us[row])
    if code == READY_UNKNOWN and changed_us == NONE_US:
        changed_us = 0  # a condition that is there has changed at some time
    return Pod(
        name,
        PHASES[int(batch.pod_phase[row])],
        bool(batch.pod_deleting[row]),
        {NOT_READY: False, READY: True}.get(code),
        _moment(int(batch.pod_started_us[row])),
        _moment(changed_us) if code != NO_CONDITION else None,
        containers or {"main": {}},
        whole,
    )


def _reading(
    batch: ObservationBatch, slot: int, metric: MetricSpec, names: Sequence[str]
) -> Reading:
    """One reading from its rows."""
    if slot in batch.slot_faults:
        return batch.slot_faults[slot]
    rows = range(int(batch.row_offsets[slot]), int(batch.row_offsets[slot + 1]))
    if metric.kind in {MetricKind.OBJECT, MetricKind.EXTERNAL}:
        return [int(batch.row_value[row]) for row in rows]
    samples = {}
    for name, row in zip(names, rows, strict=True):
        at = _moment(int(batch.row_at_us[row]))
        if at is not None:
            window_s = int(batch.row_window_us[row]) / MICROS
            samples[name] = PodSample(int(batch.row_value[row]), at, window_s)
    return samples


def _moment(micros: int) -> datetime | None:
    return None if micros == NONE_US else moment_of(micros)
