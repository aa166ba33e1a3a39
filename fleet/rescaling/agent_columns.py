"""What a look sees of thousands of workloads, straight from their agents into columns.

The same as a record of each pod and sample (`fleet.rescaling.pods`) and those in columns, without
the records: they are made for workloads that are looked at one by one (`LazyRecords`).

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple, overload

import numpy as np

from fleet.inventory import Agent, AgentPhase
from fleet.moments import microseconds
from fleet.rescaling.batch_columns import NO_REQUEST, PHASE_CODES, ObservationBatch, Rows
from fleet.rescaling.batch_columns import NOT_READY as _NOT_READY
from fleet.rescaling.batch_columns import READY as _READY
from fleet.rescaling.batch_specs import MICROS, NONE_US, Bools, Int64s, SpecBatch
from fleet.rescaling.go_integers import INT64_MAX
from fleet.rescaling.observation import Reading, WorkloadObservation
from fleet.rescaling.pods import (
    CPU,
    HEARTBEAT_MAX_S,
    MEMORY,
    POD_PHASES,
    WorkloadAgents,
    waits_for_node,
)
from fleet.rescaling.spec import MetricSpec, TargetType

_CODES = {phase: PHASE_CODES[name] for phase, name in POD_PHASES.items()}
_PENDING = PHASE_CODES["Pending"]


class LazyRecords(Sequence[WorkloadObservation]):
    """Observations that are made when they are asked for."""

    def __init__(self, makers: Sequence[Callable[[], WorkloadObservation]]) -> None:
        """One maker for each workload."""
        self._makers = makers

    def __len__(self) -> int:
        """As many as there are workloads."""
        return len(self._makers)

    @overload
    def __getitem__(self, index: int) -> WorkloadObservation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[WorkloadObservation]: ...
    def __getitem__(
        self, index: int | slice
    ) -> WorkloadObservation | Sequence[WorkloadObservation]:
        """One, made now."""
        if isinstance(index, slice):
            return [make() for make in self._makers[index]]
        return self._makers[index]()

    def __iter__(self) -> Iterator[WorkloadObservation]:
        """All, made one after another."""
        return (make() for make in self._makers)


class Look(NamedTuple):
    """What a look takes for true beside the agents."""

    now: datetime
    fresh: datetime
    """Samples of resources that are older count not at all."""


def agent_batch(
    specs: SpecBatch,
    workloads: Sequence[WorkloadAgents],
    readings: Sequence[Sequence[Reading | None]],
    records: Sequence[WorkloadObservation],
    look: Look,
) -> ObservationBatch:
    """Agents and readings in columns.

    Args:
        specs: the autoscalers.
        workloads: their agents, in the same order.
        readings: of each workload one for each metric; None: its agents' nodes report it, `cpu` or
            `memory` of each.
        records: the same as records, for explanations.
        look: the moment.
    """
    columns = _Columns(workloads, look)
    counts = np.array([len(one.wanted) for one in workloads], np.int32)
    parts = _Parts()
    slot = 0
    for index, per_metric in enumerate(readings):
        pods = slice(int(columns.offsets[index]), int(columns.offsets[index + 1]))
        for metric, reading in zip(specs.specs[index].metrics, per_metric, strict=True):
            if reading is None:
                wants = metric.target_type is TargetType.UTILIZATION
                parts.add(columns.rows(metric.name, index, pods, has_request=wants))
                if columns.is_irregular(metric.name, index):
                    parts.irregular.add(index)
            else:
                names = [one.agent.agent_id for one in workloads[index].wanted]
                parts.add_read(index, slot, metric, reading, names)
            slot += 1
    value, at_us, window_us, request = parts.joined()
    return ObservationBatch(
        spec_replicas=counts,
        status_replicas=counts,
        pod_offsets=columns.offsets,
        pod_phase=columns.phase,
        pod_deleting=np.zeros(len(columns.phase), np.bool_),
        pod_ready=np.where(columns.ready, _READY, _NOT_READY).astype(np.int8),
        pod_started_us=columns.started_us,
        pod_ready_changed_us=columns.changed_us,
        row_offsets=np.array([0, *accumulate(parts.lengths)], np.int64),
        row_value=value,
        row_at_us=at_us,
        row_window_us=window_us,
        row_request=request,
        slot_faults=parts.faults,
        irregular=frozenset(parts.irregular),
        records=records,
    )


class _Columns:
    """All wanted agents of all workloads, one after another."""

    def __init__(self, workloads: Sequence[WorkloadAgents], look: Look) -> None:
        wanted = [one for each in workloads for one in each.wanted]
        agents = [one.agent for one in wanted]
        self._agents = agents
        ends = [0, *accumulate(len(each.wanted) for each in workloads)]
        self.offsets = np.array(ends, np.int64)
        self.phase = np.array(
            [_PENDING if waits_for_node(one) else _CODES[one.agent.phase] for one in wanted],
            np.int8,
        )
        self._heard_us = _micros([one.heartbeat_at for one in agents])
        self.started_us = _micros([one.started_at for one in agents])
        self._runs: Bools = np.array([one.phase is AgentPhase.RUNNING for one in agents], np.bool_)
        oldest = look.now - timedelta(seconds=HEARTBEAT_MAX_S)
        heard = self._heard_us != NONE_US
        self.ready: Bools = self._runs & heard & (self._heard_us >= microseconds(oldest))
        changed = np.where(heard, self._heard_us, self.started_us)
        self.changed_us: Int64s = np.where(self.ready, self.started_us, changed)
        self._counts = self._runs & heard & (self._heard_us >= microseconds(look.fresh))
        self._resources: dict[str, _Resource] = {}

    def resource(self, name: str) -> _Resource:
        """One resource of all agents, made when the first workload asks for it."""
        found = self._resources.get(name)
        if found is None:
            found = _Resource(name, self._agents, self.offsets)
            self._resources[name] = found
        return found

    def is_irregular(self, name: str, index: int) -> bool:
        """Whether a workload has an amount that columns cannot hold."""
        return bool(self.resource(name).too_big[index])

    def rows(self, name: str, index: int, pods: slice, *, has_request: bool) -> _Row:
        """The rows of one slot: what each agent used of a resource, and what it was allocated."""
        resource = self.resource(name)
        sampled = self._counts[pods] & resource.known[pods]
        count = pods.stop - pods.start
        if not has_request:
            request = np.zeros(count, np.int64)
        elif resource.lacking[index]:
            request = np.full(count, NO_REQUEST)
        else:
            request = resource.request[pods]
        return (
            np.where(sampled, resource.used[pods], 0),
            np.where(sampled, self._heard_us[pods], NONE_US),
            np.where(sampled, MICROS, 0),
            request,
        )


_Row = tuple[Int64s, Int64s, Int64s, Int64s]
"""Values, moments, windows and requests of one slot."""


class _Resource:
    """CPU or memory of all agents: used and requested, in thousandths."""

    def __init__(self, name: str, agents: Sequence[Agent], offsets: Int64s) -> None:
        assert name in {CPU, MEMORY}, "nodes report these of agents"
        if name == CPU:
            shares = [one.cpu_percent for one in agents]
            values = [0 if one is None else round(one * 10) for one in shares]
            wished = [one.cpu_milli for one in agents]
            self.known: Bools = np.array([one is not None for one in shares], np.bool_)
        else:
            held = [one.rss_bytes for one in agents]
            values = [0 if one is None else one * 1000 for one in held]
            wished = [one.memory_bytes * 1000 for one in agents]
            self.known = np.array([one is not None for one in held], np.bool_)
        pairs = zip(values, wished, strict=True)
        big = [abs(used) > INT64_MAX or abs(asked) > INT64_MAX for used, asked in pairs]
        if any(big):
            values = [0 if wrong else one for one, wrong in zip(values, big, strict=True)]
            wished = [0 if wrong else one for one, wrong in zip(wished, big, strict=True)]
        self.used: Int64s = np.array(values, np.int64)
        self.request: Int64s = np.array(wished, np.int64)
        self.lacking = _any(self.request <= 0, offsets)
        """Workloads of which an agent asks for nothing of it."""
        self.too_big = _any(np.array(big, np.bool_), offsets)


def _any(flags: Bools, offsets: Int64s) -> Bools:
    """Of which workloads an agent has the flag."""
    sums = np.concatenate(([0], np.cumsum(flags)))
    found: Bools = sums[offsets[1:]] > sums[offsets[:-1]]
    return found


def _micros(moments: Sequence[datetime | None]) -> Int64s:
    """Moments in microseconds; agents of a node share theirs."""
    known: dict[datetime | None, int] = {None: NONE_US}
    for one in {*moments} - {None}:
        assert one is not None, "taken out"
        known[one] = microseconds(one)
    return np.fromiter(map(known.__getitem__, moments), np.int64, len(moments))


class _Parts:
    """The rows of all slots on their way into columns."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.faults = Rows().faults
        self.irregular: set[int] = set()
        self._rows: list[_Row] = []

    def add(self, row: _Row) -> None:
        """One slot."""
        self._rows.append(row)
        self.lengths.append(len(row[0]))

    def add_read(
        self, index: int, slot: int, metric: MetricSpec, reading: Reading, names: Sequence[str]
    ) -> None:
        """One slot that somebody else has answered."""
        rows = Rows()
        rows.add_slot(index, metric, reading, names, [0] * len(names))
        if rows.faults:
            self.faults[slot] = rows.faults[0]
        self.irregular |= rows.irregular
        columns = (rows.value, rows.at_us, rows.window_us, rows.request)
        value, at_us, window_us, request = (np.array(one, np.int64) for one in columns)
        self.add((value, at_us, window_us, request))

    def joined(self) -> _Row:
        """All of them."""
        if not self._rows:
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, nothing, nothing
        value, at_us, window_us, request = (
            np.concatenate(column) for column in zip(*self._rows, strict=True)
        )
        return value, at_us, window_us, request
