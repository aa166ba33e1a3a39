"""What a controller remembers of thousands of autoscalers, in columns.

Lists of unequal length stand in rows of one width, each with its length. Conditions are codes; the
words are made when they are asked for (`StateBatch.state`), for thousands of them are rarely read.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fleet.moments import microseconds, moment_of
from fleet.rescaling.batch_specs import NONE_US, Bools, Int8s, Int32s, Int64s, Places, SpecBatch
from fleet.rescaling.hpa_words import (
    ABLE_TO_SCALE,
    DISABLED,
    GOT_SCALE,
    READY_FOR_NEW_SCALE,
    SCALED_TO_ZERO,
    SCALING_ACTIVE,
    SCALING_LIMITED,
    STABILIZED_DOWN,
    STABILIZED_UP,
    Limit,
    invalid_metric,
    limited,
    rescaled,
    valid_metric,
    zero,
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
from fleet.rescaling.observation import (
    AutoscalerState,
    Condition,
    MetricFault,
    Recommendation,
    ScaleEvent,
)

_T = TypeVar("_T", bound=np.generic)
TYPES = (ABLE_TO_SCALE, SCALING_ACTIVE, SCALING_LIMITED, SCALED_TO_ZERO)
LIMITS = tuple(Limit)


class Told(IntEnum):
    """What a condition says, as a code; a number may go with it."""

    NOTHING = 0
    """There is no such condition."""
    TEXT = 1
    """What `StateBatch.texts` holds."""
    GOT_SCALE = 2
    READY = 3
    STABILIZED_UP = 4
    STABILIZED_DOWN = 5
    RESCALED = 6
    """With the new count."""
    DISABLED = 7
    VALID = 8
    """With the metric's place in its spec; so for the rest of the metrics."""
    UNOBTAINABLE = 9
    """The metric's source has told why, `StateBatch.faults`."""
    NO_PODS = 10
    NO_SAMPLES = 11
    NO_MATCH = 12
    NO_READY = 13
    NO_SERIES = 14
    NO_TARGET = 15
    LIMIT = 16
    """With the limit's place in LIMITS, and 100 more when it changes the count."""
    ZERO = 17
    NOT_ZERO = 18


_FIXED = {
    Told.GOT_SCALE: GOT_SCALE,
    Told.READY: READY_FOR_NEW_SCALE,
    Told.STABILIZED_UP: STABILIZED_UP,
    Told.STABILIZED_DOWN: STABILIZED_DOWN,
    Told.DISABLED: DISABLED,
    Told.ZERO: zero(by_controller=True),
    Told.NOT_ZERO: zero(by_controller=False),
}
_UNCOUNTABLE = {
    Told.NO_PODS: NO_PODS,
    Told.NO_SAMPLES: NO_SAMPLES,
    Told.NO_MATCH: NO_MATCH,
    Told.NO_READY: NO_READY,
}
CUTS = 100
"""Added to a limit's place where it changes the count."""


@dataclass(slots=True, eq=False)
class EventColumns:
    """Changes of one direction: workload x slot."""

    count: Int32s
    at_us: Int64s
    """NONE_US in a slot that is not used."""
    change: Int32s
    outdated: Bools

    def copy(self) -> EventColumns:
        """The same, apart."""
        return EventColumns(
            self.count.copy(), self.at_us.copy(), self.change.copy(), self.outdated.copy()
        )


@dataclass(slots=True, eq=False)
class StateBatch:
    """What is remembered of autoscalers, in the order of their specs; `state_batch` builds one."""

    seen: Bools
    recommendation_count: Int32s
    recommendation_at_us: Int64s
    """Workload x slot; NONE_US in one that is not used."""
    recommendation_replicas: Int32s
    ups: EventColumns
    downs: EventColumns
    told: Int8s
    """Workload x TYPES: what each condition says (`Told`)."""
    argument: Int32s
    """Workload x TYPES: the number that goes with it."""
    place: Int8s
    """Workload x TYPES: the order in which conditions were first set; -1 for none."""
    texts: Mapping[tuple[int, int], Condition] = field(default_factory=dict)
    """By workload and place in TYPES."""
    faults: Mapping[int, MetricFault] = field(default_factory=dict)
    """By workload: what the source of its first invalid metric has told."""
    details: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """By workload: what the rules beyond Kubernetes remember."""

    def __len__(self) -> int:
        """Number of workloads."""
        return len(self.seen)

    def state(self, specs: SpecBatch, index: int) -> AutoscalerState:
        """What is remembered of one autoscaler, as a record."""
        count = int(self.recommendation_count[index])
        return AutoscalerState(
            recommendations=tuple(
                Recommendation(moment_of(int(at_us)), int(replicas))
                for at_us, replicas in zip(
                    self.recommendation_at_us[index, :count],
                    self.recommendation_replicas[index, :count],
                    strict=True,
                )
            ),
            scale_ups=_events(self.ups, index),
            scale_downs=_events(self.downs, index),
            conditions=self.conditions(specs, index),
            seen=bool(self.seen[index]),
            details=self.details.get(index, {}),
        )

    def conditions(self, specs: SpecBatch, index: int) -> tuple[Condition, ...]:
        """The conditions of one autoscaler, in the order in which they were first set."""
        places = self.place[index]
        order = sorted(kind for kind in range(len(TYPES)) if self.told[index, kind])
        return tuple(
            self._condition(specs, index, kind)
            for kind in sorted(order, key=lambda kind: int(places[kind]))
        )

    def _condition(self, specs: SpecBatch, index: int, kind: int) -> Condition:
        """One condition in words."""
        told, argument = Told(self.told[index, kind]), int(self.argument[index, kind])
        if told is Told.TEXT:
            return self.texts[index, kind]
        if told in _FIXED:
            return _FIXED[told]
        if told is Told.RESCALED:
            return rescaled(argument)
        if told is Told.LIMIT:
            return limited(LIMITS[argument % CUTS], cuts=argument >= CUTS)
        spec = specs.specs[index]
        metric = spec.metrics[argument]
        if told is Told.VALID:
            return valid_metric(metric_name(metric))
        if told is Told.NO_TARGET:
            message = untargeted(metric)
        elif told in _UNCOUNTABLE:
            message = uncountable(metric, _UNCOUNTABLE[told])
        else:
            told_by = NO_SERIES if told is Told.NO_SERIES else self.faults[index].message
            message = unobtainable(spec, metric, told_by)
        return invalid_metric(MetricFault(reason_of(metric), message))


def _events(columns: EventColumns, index: int) -> tuple[ScaleEvent, ...]:
    """Changes of one workload as records."""
    return tuple(
        ScaleEvent(
            moment_of(int(columns.at_us[index, slot])),
            int(columns.change[index, slot]),
            bool(columns.outdated[index, slot]),
        )
        for slot in range(int(columns.count[index]))
    )


def empty_state_batch(count: int) -> StateBatch:
    """What a controller remembers that has just begun: nothing of `count` autoscalers."""
    return state_batch([AutoscalerState()] * count)


def state_batch(states: Sequence[AutoscalerState]) -> StateBatch:
    """Records in columns, in their order."""
    size = len(states)
    width = max((len(state.recommendations) for state in states), default=0)
    at_us, replicas = np.full((size, width), NONE_US), np.zeros((size, width), np.int32)
    told, place = np.zeros((size, len(TYPES)), np.int8), np.full((size, len(TYPES)), -1, np.int8)
    texts: dict[tuple[int, int], Condition] = {}
    for row, state in enumerate(states):
        for slot, earlier in enumerate(state.recommendations):
            at_us[row, slot] = microseconds(earlier.at)
            replicas[row, slot] = earlier.replicas
        for order, condition in enumerate(state.conditions):
            kind = TYPES.index(condition.type)
            told[row, kind], place[row, kind] = _code(condition), order
            texts[row, kind] = condition
    return StateBatch(
        seen=np.array([state.seen for state in states], np.bool_),
        recommendation_count=np.array([len(one.recommendations) for one in states], np.int32),
        recommendation_at_us=at_us,
        recommendation_replicas=replicas,
        ups=_event_columns([state.scale_ups for state in states]),
        downs=_event_columns([state.scale_downs for state in states]),
        told=told,
        argument=np.zeros((size, len(TYPES)), np.int32),
        place=place,
        texts=texts,
        details={row: state.details for row, state in enumerate(states) if state.details},
    )


def _code(condition: Condition) -> Told:
    """The code of a condition: its text, but for the one that decides something."""
    if condition.type == SCALED_TO_ZERO and condition == zero(by_controller=condition.status):
        return Told.ZERO if condition.status else Told.NOT_ZERO
    return Told.TEXT


def _event_columns(events: Sequence[Sequence[ScaleEvent]]) -> EventColumns:
    """Changes of one direction in columns."""
    width = max((len(one) for one in events), default=0)
    shape = (len(events), width)
    columns = EventColumns(
        np.array([len(one) for one in events], np.int32),
        np.full(shape, NONE_US),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.bool_),
    )
    for row, one in enumerate(events):
        for slot, event in enumerate(one):
            columns.at_us[row, slot] = microseconds(event.at)
            columns.change[row, slot] = event.change
            columns.outdated[row, slot] = event.outdated
    return columns


def put(
    state: StateBatch,
    where: Places,
    kind: int,
    told: Int8s | int,
    argument: Int32s | int = 0,
) -> None:
    """Set a condition of some workloads in place; as `Course.set`."""
    new = where[state.told[where, kind] == Told.NOTHING]
    state.place[new, kind] = state.place[new].max(axis=1, initial=-1) + 1
    state.told[where, kind] = told
    state.argument[where, kind] = argument


def remove(state: StateBatch, where: Places, kind: int) -> None:
    """Take a condition from some workloads in place."""
    state.told[where, kind] = Told.NOTHING
    state.place[where, kind] = -1


def copy_of(state: StateBatch) -> StateBatch:
    """The same, apart, without words that no code asks for any more."""
    unobtainable_now = state.told[:, TYPES.index(SCALING_ACTIVE)] == Told.UNOBTAINABLE
    return StateBatch(
        seen=state.seen.copy(),
        recommendation_count=state.recommendation_count.copy(),
        recommendation_at_us=state.recommendation_at_us.copy(),
        recommendation_replicas=state.recommendation_replicas.copy(),
        ups=state.ups.copy(),
        downs=state.downs.copy(),
        told=state.told.copy(),
        argument=state.argument.copy(),
        place=state.place.copy(),
        texts={key: text for key, text in state.texts.items() if state.told[key] == Told.TEXT},
        faults={key: fault for key, fault in state.faults.items() if unobtainable_now[key]},
        details=state.details,
    )


def replace_states(
    state: StateBatch, indices: Sequence[int], states: Sequence[AutoscalerState]
) -> None:
    """Put records in the place of some workloads."""
    if not indices:
        return
    part = state_batch(states)
    state.recommendation_at_us, part_at_us = _same_width(
        state.recommendation_at_us, part.recommendation_at_us, NONE_US
    )
    state.recommendation_replicas, part_replicas = _same_width(
        state.recommendation_replicas, part.recommendation_replicas
    )
    state.recommendation_at_us[indices] = part_at_us
    state.recommendation_replicas[indices] = part_replicas
    state.recommendation_count[indices] = part.recommendation_count
    for whole, some in ((state.ups, part.ups), (state.downs, part.downs)):
        whole.at_us, at_us = _same_width(whole.at_us, some.at_us, NONE_US)
        whole.change, change = _same_width(whole.change, some.change)
        whole.outdated, outdated = _same_width(whole.outdated, some.outdated)
        whole.at_us[indices], whole.change[indices] = at_us, change
        whole.outdated[indices], whole.count[indices] = outdated, some.count
    for name in ("seen", "told", "argument", "place"):
        getattr(state, name)[indices] = getattr(part, name)
    moved = {(indices[row], kind): text for (row, kind), text in part.texts.items()}
    state.texts = {**state.texts, **moved}
    kept = state.details.keys() - set(indices)
    details = {indices[row]: one for row, one in part.details.items()}
    state.details = {**{row: state.details[row] for row in kept}, **details}


def restore_events(events: EventColumns, earlier: EventColumns, rows: Places) -> None:
    """Put the changes of some workloads back to what they were."""
    events.at_us, at_us = _same_width(events.at_us, earlier.at_us, NONE_US)
    events.change, change = _same_width(events.change, earlier.change)
    events.outdated, outdated = _same_width(events.outdated, earlier.outdated)
    events.at_us[rows], events.change[rows] = at_us[rows], change[rows]
    events.outdated[rows], events.count[rows] = outdated[rows], earlier.count[rows]


def _same_width(
    one: npt.NDArray[_T], other: npt.NDArray[_T], unused: int = 0
) -> tuple[npt.NDArray[_T], npt.NDArray[_T]]:
    """Both with room for as many slots as the wider one has."""
    width = max(one.shape[1], other.shape[1])
    pad = ((0, 0), (0, width - one.shape[1])), ((0, 0), (0, width - other.shape[1]))
    return (
        np.pad(one, pad[0], constant_values=unused),
        np.pad(other, pad[1], constant_values=unused),
    )
