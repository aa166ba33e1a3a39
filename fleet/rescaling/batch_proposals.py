"""What the metrics of thousands of workloads ask for, at once: `proposals` in columns.

Every step has its twin in `proposals` and `readiness`, which say why; tests hold the two against
each other. NumPy's integers wrap as the controller's do, so nothing is checked for overflow.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidInputError
from fleet.rescaling.batch_columns import (
    NO_CONDITION,
    NO_REQUEST,
    NOT_READY,
    PHASES,
    READY,
    ObservationBatch,
)
from fleet.rescaling.batch_specs import (
    KINDS,
    MICROS,
    NONE_US,
    TARGETS,
    Bools,
    Floats,
    Int8s,
    Int32s,
    Int64s,
    Places,
    SpecBatch,
)
from fleet.rescaling.batch_states import Told
from fleet.rescaling.go_integers import INT32_MAX, INT32_MIN, INT64_MAX
from fleet.rescaling.spec import MetricKind, TargetType

_PENDING, _RUNNING, _FAILED = (PHASES.index(name) for name in ("Pending", "Running", "Failed"))
_COUNTS, _IGNORED, _WAITS, _EARLY, _UNREADY = range(5)
"""What a pod counts as: with its sample; not; as unready; for CPU by the age of its sample; for CPU
as unready."""
_UTILIZATION = TARGETS.index(TargetType.UTILIZATION)
_AVERAGE = TARGETS.index(TargetType.AVERAGE_VALUE)
_EXTERNAL, _OBJECT = KINDS.index(MetricKind.EXTERNAL), KINDS.index(MetricKind.OBJECT)


class Proposed(NamedTuple):
    """What each slot asks for."""

    replicas: Int32s
    """Meaningless where the metric is invalid."""
    told: Int8s
    """`Told.VALID`, or why the metric is invalid."""
    one_by_one: Places
    """Slots whose error names a pod: their workloads are decided one by one."""


def propose_all(specs: SpecBatch, seen: ObservationBatch, now_us: int) -> Proposed:
    """What every metric of every workload asks for.

    Args:
        specs: the autoscalers.
        seen: their workloads, in the same order.
        now_us: time of the reconcile.
    """
    slots = len(specs.slot_kind)
    proposed = Proposed(
        np.zeros(slots, np.int32), np.full(slots, Told.VALID, np.int8), np.zeros(0, np.intp)
    )
    usable = np.ones(slots, np.bool_)
    faulty = list(seen.slot_faults)
    proposed.told[faulty] = Told.UNOBTAINABLE
    usable[faulty] = False
    proposed.told[~specs.slot_has_target] = Told.NO_TARGET
    usable &= specs.slot_has_target
    apart = [*seen.irregular, *seen.workload_faults]
    if apart:
        usable &= ~np.isin(specs.slot_workload, apart)
    outside = (specs.slot_kind == _EXTERNAL) | (specs.slot_kind == _OBJECT)
    totals = np.flatnonzero(usable & outside)
    if totals.size:
        _propose_totals(specs, seen, totals, proposed)
    samples = np.flatnonzero(usable & ~outside)
    if not samples.size:
        return proposed
    return proposed._replace(one_by_one=_propose_pods(specs, seen, samples, proposed, now_us))


class _Sums(NamedTuple):
    """Sums over rows, by slot; as `proposals._Sums`, where every sample is of a known pod."""

    usage: Int64s
    requests: Int64s
    entries: Int64s


class _Segments:
    """Rows of slots, one after the other; adds them up by slot."""

    def __init__(self, count: Int64s) -> None:
        """Take the number of rows of each slot."""
        self.count = count
        self.filled = np.flatnonzero(count)
        self.starts = (np.cumsum(count) - count)[self.filled]

    def sum(self, values: Int64s | Bools) -> Int64s:
        """Sum by slot; 0 for a slot without rows, which `reduceat` would give its neighbour's."""
        found = np.zeros(len(self.count), np.int64)
        if self.starts.size:
            found[self.filled] = np.add.reduceat(values, self.starts, dtype=np.int64)
        return found


class _Samples(NamedTuple):
    """Rows of samples, with what each counts as."""

    segments: _Segments
    value: Int64s
    request: Int64s
    kept: Bools
    missing: Bools
    unready: Bools

    def of(self, slots: Places) -> _Samples:
        """Only the rows of some slots, which stand in their order."""
        chosen = np.zeros(len(self.segments.count), np.bool_)
        chosen[slots] = True
        rows = np.flatnonzero(np.repeat(chosen, self.segments.count))
        return _Samples(
            _Segments(self.segments.count[slots]),
            self.value[rows],
            self.request[rows],
            self.kept[rows],
            self.missing[rows],
            self.unready[rows],
        )


def _propose_pods(
    specs: SpecBatch, seen: ObservationBatch, slots: Places, proposed: Proposed, now_us: int
) -> Places:
    """Fill in what samples of pods ask for; the slots whose error names a pod come back."""
    samples = _samples(specs, seen, slots, now_us)
    segments, kept = samples.segments, samples.kept
    is_percent = specs.slot_target_type[slots] == _UTILIZATION
    entries = segments.sum(kept)[slots]
    usage = segments.sum(np.where(kept, samples.value, 0))[slots]
    requests = segments.sum(np.where(kept, samples.request, 0))[slots]
    sums = _Sums(usage, requests, entries)
    told = np.full(len(slots), Told.VALID, np.int8)
    told[is_percent & (requests == 0)] = Told.NO_MATCH
    told[entries == 0] = Told.NO_SAMPLES
    told[segments.count[slots] == 0] = Told.NO_PODS
    replicas, again = _replicas(specs, seen, slots, samples, sums)
    told[(told == Told.VALID) & again] = Told.NO_MATCH
    proposed.replicas[slots] = replicas
    proposed.told[slots] = told
    absent = samples.request == NO_REQUEST
    if not absent.any():
        return np.zeros(0, np.intp)
    named: Places = slots[is_percent & (segments.sum(absent)[slots] > 0) & (entries > 0)]
    return named


def _samples(specs: SpecBatch, seen: ObservationBatch, slots: Places, now_us: int) -> _Samples:
    """What each row counts as; as `readiness.group_pods`.

    All rows are gone through, also those of other slots: what comes of them nobody looks at, and
    nothing has to be copied.
    """
    first = seen.row_offsets[:-1]
    segments = _Segments(seen.row_offsets[1:] - first)
    of_pods = np.zeros(len(first), np.bool_)
    of_pods[slots] = True
    pod_count = np.diff(seen.pod_offsets)[specs.slot_workload]
    wrong = np.flatnonzero(of_pods & (segments.count != pod_count))
    if wrong.size:
        found, allowed = int(segments.count[wrong[0]]), f"{pod_count[wrong[0]]}, one for each pod"
        raise InvalidInputError(f"rows of slot {wrong[0]}", found, allowed)
    shift = np.where(of_pods, seen.pod_offsets[specs.slot_workload], 0) - first
    pods = np.arange(len(seen.row_at_us), dtype=np.int64)
    pods += np.repeat(shift, segments.count)
    codes = np.append(_pod_codes(specs, seen, now_us), np.int8(_IGNORED))
    code = np.take(codes, pods, mode="clip")
    sampled = seen.row_at_us != NONE_US
    there = code != _IGNORED
    unready = code == _WAITS
    missing = there & ~sampled & ~unready
    starting = np.flatnonzero((code >= _EARLY) & sampled)
    if starting.size:
        slot = np.searchsorted(seen.row_offsets[1:], starting, side="right")
        starting = starting[(specs.slot_is_cpu & of_pods)[slot]]
        since = seen.pod_ready_changed_us[pods[starting]]
        early = seen.row_at_us[starting] < since + seen.row_window_us[starting]
        unready[starting[early | (code[starting] == _UNREADY)]] = True
    kept = there & sampled & ~unready
    return _Samples(segments, seen.row_value, seen.row_request, kept, missing, unready)


def _pod_codes(specs: SpecBatch, seen: ObservationBatch, now_us: int) -> Int8s:
    """What each pod counts as, whatever the metric; as `readiness.group_pods`, `_is_unready`."""
    options, ready = specs.options, seen.pod_ready
    codes = np.full(len(ready), _COUNTS, np.int8)
    started = seen.pod_started_us
    young_us = now_us - round(options.cpu_initialization_period_s * MICROS)
    some = np.flatnonzero((ready != READY) | (started > young_us) | (started == NONE_US))
    if some.size:
        unknown = (ready[some] == NO_CONDITION) | (started[some] == NONE_US)
        not_ready = ready[some] == NOT_READY
        began, changed = np.where(unknown, 0, started[some]), seen.pod_ready_changed_us[some]
        delay_us = round(options.initial_readiness_delay_s * MICROS)
        never = (changed == NONE_US) | (began + delay_us > changed)
        is_young = began > young_us
        codes[some[is_young & (changed != NONE_US)]] = _EARLY
        codes[some[unknown | (not_ready & (is_young | never))]] = _UNREADY
    waits = seen.pod_phase == _PENDING
    codes[waits] = _WAITS
    codes[seen.pod_deleting | (seen.pod_phase == _FAILED)] = _IGNORED
    return codes


def _replicas(
    specs: SpecBatch, seen: ObservationBatch, slots: Places, samples: _Samples, sums: _Sums
) -> tuple[Int32s, Bools]:
    """Replicas by slot, and where requests add up to 0 once pods without a sample are added.

    As `proposals._of_sums`.
    """
    workload = specs.slot_workload[slots]
    current = seen.spec_replicas[workload]
    low, high = specs.tolerance_low[workload], specs.tolerance_high[workload]
    is_percent = specs.slot_target_type[slots] == _UTILIZATION
    target = specs.slot_target[slots]
    ratio = _ratio(is_percent, target, sums)
    replicas = ceil_int32(ratio * sums.entries)
    held = (low <= ratio) & (ratio <= high)
    again = np.zeros(len(slots), np.bool_)
    missing = samples.segments.sum(samples.missing)[slots] > 0
    unready = samples.segments.sum(samples.unready)[slots] > 0
    weighed = missing | (unready & (ratio > 1.0))
    if weighed.any():
        first, kind = ratio[weighed], is_percent[weighed]
        some = _Sums(*(column[weighed] for column in sums))
        filled = _filled(samples.of(slots[weighed]), some, first, target[weighed], kind)
        again[weighed] = kind & (filled.requests == 0)
        second = _ratio(kind, target[weighed], filled)
        wanted = ceil_int32(second * filled.entries)
        turned = ((first < 1.0) & (second > 1.0)) | ((first > 1.0) & (second < 1.0))
        now = current[weighed]
        turned |= ((second < 1.0) & (wanted > now)) | ((second > 1.0) & (wanted < now))
        held[weighed] = ((low[weighed] <= second) & (second <= high[weighed])) | turned
        replicas[weighed] = wanted
    return np.where(held, current, replicas).astype(np.int32), again


def _ratio(is_percent: Bools, target: Int64s, sums: _Sums) -> Floats:
    """By how much the cut value is the target; as `proposals._ratio`."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        percent = divide(sums.usage * 100, np.where(sums.requests == 0, 1, sums.requests))
        average = divide(sums.usage, np.maximum(sums.entries, 1))
        value = np.where(is_percent, percent.astype(np.int32), average)
        found: Floats = value.astype(np.float64) / target.astype(np.float64)
    return found


def _filled(
    samples: _Samples, sums: _Sums, ratio: Floats, target: Int64s, is_percent: Bools
) -> _Sums:
    """Sums with an assumed sample for each pod that has none; as `proposals._filled`."""
    segments = samples.segments
    requests = np.where(samples.missing, samples.request, 0)
    missing, requested = segments.sum(samples.missing), segments.sum(requests)
    percent = np.repeat(np.maximum(target, 100), segments.count)
    share = segments.sum(divide(requests * percent, np.int64(100)))
    busy = np.where(is_percent, share, target * missing)
    above = ratio > 1.0
    added = (ratio < 1.0) | above
    unready = segments.sum(samples.unready)
    unready_requested = segments.sum(np.where(samples.unready, samples.request, 0))
    return _Sums(
        sums.usage + np.where(ratio < 1.0, busy, 0),
        sums.requests + np.where(added, requested, 0) + np.where(above, unready_requested, 0),
        sums.entries + np.where(added, missing, 0) + np.where(above, unready, 0),
    )


def _propose_totals(
    specs: SpecBatch, seen: ObservationBatch, slots: Places, proposed: Proposed
) -> None:
    """Fill in what single numbers ask for; as `proposals._of_total`, `_of_total_per_pod`."""
    workload = specs.slot_workload[slots]
    counts = seen.row_offsets[slots + 1] - seen.row_offsets[slots]
    per_pod = specs.slot_target_type[slots] == _AVERAGE
    external = specs.slot_kind[slots] == _EXTERNAL
    total = _totals(seen, slots, counts, per_pod & external)
    target = specs.slot_target[slots].astype(np.float64)
    current, status = seen.spec_replicas[workload], seen.status_replicas[workload]
    low, high = specs.tolerance_low[workload], specs.tolerance_high[workload]
    value = total.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        whole = value / target
        ratio = np.where(per_pod, value / (target * status), whole)
        wanted = np.where(per_pod | (current == 0), whole, whole * _ready(seen)[workload])
    replicas = ceil_int32(wanted)
    held = (low <= ratio) & (ratio <= high) & (per_pod | (current != 0))
    proposed.replicas[slots] = np.where(held, np.where(per_pod, status, current), replicas)
    no_pods = seen.pod_offsets[workload + 1] == seen.pod_offsets[workload]
    proposed.told[slots[~per_pod & (current != 0) & no_pods & ~held]] = Told.NO_READY
    proposed.told[slots[counts == 0]] = Told.NO_SERIES


def _totals(seen: ObservationBatch, slots: Places, counts: Int64s, per_pod: Bools) -> Int64s:
    """The sum of each slot's values; few are more than one, and those are added one by one."""
    from fleet.rescaling.proposals import sum_per_pod, sum_total

    first = seen.row_offsets[slots]
    rows = np.minimum(first, max(len(seen.row_value) - 1, 0))
    total = seen.row_value[rows].copy() if len(seen.row_value) else np.zeros(len(slots), np.int64)
    total[per_pod & (total < 0)] = INT64_MAX
    for place in np.flatnonzero(counts > 1):
        values = seen.row_value[first[place] : first[place] + counts[place]].tolist()
        total[place] = sum_per_pod(values) if per_pod[place] else sum_total(values)
    return total


def _ready(seen: ObservationBatch) -> Int64s:
    """Running and ready pods of each workload; as `readiness.count_ready`."""
    running = np.zeros(len(seen.pod_phase) + 1, np.int64)
    np.cumsum((seen.pod_phase == _RUNNING) & (seen.pod_ready == READY), out=running[1:])
    found: Int64s = running[seen.pod_offsets[1:]] - running[seen.pod_offsets[:-1]]
    return found


def divide(dividend: Int64s, divisor: Int64s | np.int64) -> Int64s:
    """Quotients cut towards zero; as `go_integers.divide_int64`."""
    quotient = dividend // divisor
    quotient += (quotient * divisor != dividend) & ((dividend < 0) != (divisor < 0))
    return quotient


def ceil_int32(numbers: Floats) -> Int32s:
    """Next whole numbers in 32 bits; as `go_integers.ceil_int32`."""
    return cut_int32(np.ceil(numbers))


def cut_int32(numbers: Floats) -> Int32s:
    """Whole parts in 32 bits; as `go_integers.int32_of_float`."""
    fitting = np.clip(numbers, INT32_MIN, INT32_MAX)
    return np.where(np.isnan(fitting), 0.0, fitting).astype(np.int32)
