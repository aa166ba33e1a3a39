"""One call decides thousands of workloads: the same decisions as one by one, in columns.

Counts and what is remembered come out as columns at once; a decision with its words is made when
it is asked for (`BatchDecision.decision`), by the code that decides one workload. Few workloads,
those whose readings columns cannot hold, are decided one by one in between.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from fleet.errors import InvalidInputError
from fleet.moments import microseconds
from fleet.rescaling.batch_columns import ObservationBatch
from fleet.rescaling.batch_proposals import Proposed, propose_all
from fleet.rescaling.batch_settling import limit, record_changes, stabilize
from fleet.rescaling.batch_specs import NONE_US, Bools, Int8s, Int32s, Places, SpecBatch
from fleet.rescaling.batch_states import (
    TYPES,
    StateBatch,
    Told,
    copy_of,
    put,
    remove,
    replace_states,
    restore_events,
)
from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.hpa import decide_replicas, unapplied
from fleet.rescaling.hpa_words import SCALED_TO_ZERO

_ABLE, _ACTIVE, _ZERO = 0, 1, TYPES.index(SCALED_TO_ZERO)


@dataclass(frozen=True, slots=True, eq=False)
class BatchDecision:
    """What one reconcile of thousands of workloads decides."""

    specs: SpecBatch
    seen: ObservationBatch
    before: StateBatch
    at: datetime
    desired: Int32s
    state: StateBatch
    """To hand to the next reconcile of those whose change was made."""
    able: tuple[Int8s, Int32s]
    """Codes and numbers of AbleToScale before changes were told as made."""
    single: frozenset[int]
    """Workloads that columns could not hold."""

    @property
    def current(self) -> Int32s:
        """Replicas wanted so far."""
        return self.seen.spec_replicas

    @property
    def is_change(self) -> Bools:
        """Where the count is to change."""
        found: Bools = self.desired != self.seen.spec_replicas
        return found

    def decision(self, index: int) -> ReplicaDecision:
        """One decision with all that led to it, in words."""
        return decide_replicas(
            self.specs.specs[index],
            self.seen.record(self.specs, index),
            self.before.state(self.specs, index),
            self.at,
            self.specs.options,
        )


def decide_many(
    specs: SpecBatch, seen: ObservationBatch, state: StateBatch, now: datetime
) -> BatchDecision:
    """What one reconcile of many autoscalers decides; as `decide_replicas` for each of them.

    Args:
        specs: the autoscalers, with the controller's flags.
        seen: their workloads, in the same order.
        state: what is remembered of them, in the same order; it is left as it is.
        now: time of the reconcile, aware; the same for all.

    Raises:
        InvalidInputError: columns of other lengths, or a count below 0.
    """
    _check(specs, seen, state)
    if now.tzinfo is None:
        raise InvalidInputError("now", now.isoformat(), "a time with its zone")
    now_us = microseconds(now)
    after = copy_of(state)
    current = seen.spec_replicas
    desired = current.copy()
    looked = np.ones(len(specs), np.bool_)
    single = set(seen.irregular) | set(seen.workload_faults)
    proposed = propose_all(specs, seen, now_us)
    single.update(specs.slot_workload[proposed.one_by_one].tolist())
    looked[list(single)] = False
    _begin(after, np.flatnonzero(looked), current, now_us)
    was_zeroed = _was_scaled_to_zero(specs, state)
    disabled = (current == 0) & ~(was_zeroed & ((specs.min_replicas != 0) | specs.has_outside))
    _disable(specs, after, np.flatnonzero(looked & disabled))
    looked &= ~disabled
    for outside, bound in (
        (current > specs.max_replicas, specs.max_replicas),
        ((current > 0) & (current < specs.min_replicas), specs.min_replicas),
    ):
        forced = looked & outside
        desired[forced] = bound[forced]
        looked &= ~outside
    _by_metrics(specs, seen, after, (np.flatnonzero(looked), proposed, desired), now_us)
    changed = np.ones(len(specs), np.bool_)
    changed[list(single)] = False
    able = (after.told[:, _ABLE].copy(), after.argument[:, _ABLE].copy())
    _change(
        specs, after, np.flatnonzero(changed & (desired != current)), (current, desired), now_us
    )
    decided = BatchDecision(specs, seen, state, now, desired, after, able, frozenset(single))
    _decide_singly(decided, sorted(single))
    return decided


def unapplied_many(decided: BatchDecision, errors: Mapping[int, str]) -> StateBatch:
    """What is remembered where some changes were not made; as `unapplied` for each of them.

    Args:
        decided: by `decide_many`.
        errors: by workload, why its change failed; empty where nobody tried.
    """
    state = copy_of(decided.state)
    indices = sorted(errors)
    kept = [
        unapplied(
            decided.specs.specs[index],
            decided.decision(index),
            decided.before.state(decided.specs, index),
            errors[index],
        ).state
        for index in indices
    ]
    replace_states(state, indices, kept)
    return state


def unapplied_all(decided: BatchDecision) -> StateBatch:
    """What is remembered where no change was made; as `unapplied` without an error for each.

    Args:
        decided: by `decide_many`.
    """
    state, before = copy_of(decided.state), decided.before
    zeroed = before.told[:, _ZERO] != Told.NOTHING
    rows = np.flatnonzero(decided.is_change & ~zeroed)
    for events, earlier in ((state.ups, before.ups), (state.downs, before.downs)):
        restore_events(events, earlier, rows)
    state.told[rows, _ABLE], state.argument[rows, _ABLE] = (part[rows] for part in decided.able)
    remove(state, rows, _ZERO)
    alone = [
        index
        for index in np.flatnonzero(decided.is_change).tolist()
        if zeroed[index] or index in decided.single
    ]
    kept = [
        unapplied(
            decided.specs.specs[index],
            decided.decision(index),
            before.state(decided.specs, index),
        ).state
        for index in alone
    ]
    replace_states(state, alone, kept)
    return state


def _check(specs: SpecBatch, seen: ObservationBatch, state: StateBatch) -> None:
    """Refuse columns that do not belong together."""
    sizes = (len(specs), len(seen), len(state), len(seen.pod_offsets) - 1)
    if len(set(sizes)) != 1:
        raise InvalidInputError(
            "workloads in specs, observations, states and offsets of pods", sizes, "the same number"
        )
    if len(seen.row_offsets) != len(specs.slot_kind) + 1:
        raise InvalidInputError(
            "slots of readings",
            len(seen.row_offsets) - 1,
            f"{len(specs.slot_kind)}, one per metric",
        )
    lengths = (len(seen.row_value), len(seen.pod_phase))
    ends = (int(seen.row_offsets[-1]), int(seen.pod_offsets[-1]))
    if lengths != ends:
        raise InvalidInputError("ends of rows and pods", ends, f"{lengths}, as many as there are")
    for name, counts in (("spec", seen.spec_replicas), ("status", seen.status_replicas)):
        if (counts < 0).any():
            raise InvalidInputError(f"{name}_replicas", int(np.min(counts)), "0 or more")


def _begin(state: StateBatch, where: Places, current: Int32s, now_us: int) -> None:
    """The counts are known; first ones are remembered. As `Course.begin`."""
    put(state, where, _ABLE, Told.GOT_SCALE)
    first = where[~state.seen[where] & (state.recommendation_count[where] == 0)]
    state.seen[where] = True
    if not first.size:
        return
    if not state.recommendation_at_us.shape[1]:
        state.recommendation_at_us = np.full((len(state), 1), NONE_US)
        state.recommendation_replicas = np.zeros((len(state), 1), np.int32)
    state.recommendation_at_us[first, 0] = now_us
    state.recommendation_replicas[first, 0] = current[first]
    state.recommendation_count[first] = 1


def _was_scaled_to_zero(specs: SpecBatch, state: StateBatch) -> Bools:
    """Where the autoscaler itself has removed the last replica."""
    if not specs.options.scale_to_zero:
        return np.zeros(len(specs), np.bool_)
    found: Bools = state.told[:, _ZERO] == Told.ZERO
    for index in np.flatnonzero(state.told[:, _ZERO] == Told.TEXT):
        found[index] = state.texts[int(index), _ZERO].status
    return found


def _disable(specs: SpecBatch, state: StateBatch, where: Places) -> None:
    """Counts of 0 that are left alone."""
    put(state, where, _ACTIVE, Told.DISABLED)
    if not specs.options.scale_to_zero:
        remove(state, where, _ZERO)


def _by_metrics(
    specs: SpecBatch,
    seen: ObservationBatch,
    state: StateBatch,
    course: tuple[Places, Proposed, Int32s],
    now_us: int,
) -> None:
    """Decide workloads by their metrics: fills in the desired counts of `course`."""
    where, proposed, desired = course
    first = specs.slot_offsets[where]
    metrics = specs.slot_offsets[where + 1] - first
    highest, chosen = np.zeros(len(where), np.int32), np.zeros(len(where), np.int32)
    invalid, first_invalid = np.zeros(len(where), np.int32), np.full(len(where), -1, np.int32)
    for place in range(int(np.max(metrics, initial=0))):
        rows = np.flatnonzero(metrics > place)
        slot = first[rows] + place
        valid = proposed.told[slot] == Told.VALID
        bad, good = rows[~valid], rows[valid]
        invalid[bad] += 1
        new = bad[first_invalid[bad] < 0]
        first_invalid[new] = place
        replicas = proposed.replicas[slot[valid]]
        higher = (highest[good] == 0) | (replicas > highest[good])
        highest[good[higher]] = replicas[higher]
        chosen[good[higher]] = place
    current = seen.spec_replicas[where]
    fails = (invalid >= metrics) | ((invalid > 0) & (highest < current))
    _fail(seen, state, where[fails], (first + first_invalid)[fails], proposed, first_invalid[fails])
    rows = np.flatnonzero(~fails)
    where, current = where[rows], current[rows]
    put(state, where, _ACTIVE, Told.VALID, chosen[rows])
    asked = np.maximum(highest[rows], 0)
    wished = stabilize(specs, state, where, current, asked, now_us)
    allowed = limit(specs, state, where, current, wished, now_us)
    desired[where] = np.where(current == 0, np.maximum(allowed, specs.min_replicas[where]), allowed)


def _fail(
    seen: ObservationBatch,
    state: StateBatch,
    where: Places,
    slots: Places,
    proposed: Proposed,
    places: Int32s,
) -> None:
    """Workloads without a count: their first invalid metric tells why."""
    put(state, where, _ACTIVE, proposed.told[slots], places)
    told = {
        int(index): seen.slot_faults[int(slot)]
        for index, slot in zip(where, slots, strict=True)
        if int(slot) in seen.slot_faults
    }
    if told:
        state.faults = {**state.faults, **told}


def _change(
    specs: SpecBatch, state: StateBatch, where: Places, counts: tuple[Int32s, Int32s], now_us: int
) -> None:
    """Remember changes as made now; as `Course.changes`."""
    current, desired = counts[0][where], counts[1][where]
    put(state, where, _ABLE, Told.RESCALED, desired)
    if specs.options.scale_to_zero:
        zeroed = (desired == 0) & (specs.min_replicas[where] == 0) & specs.has_outside[where]
        put(state, where, _ZERO, np.where(zeroed, Told.ZERO, Told.NOT_ZERO).astype(np.int8))
    else:
        remove(state, where, _ZERO)
    for events, rules, change in (
        (state.ups, specs.up, desired - current),
        (state.downs, specs.down, current - desired),
    ):
        moves = specs.has_rules[where] & (change > 0)
        if moves.any():
            record_changes(events, rules, where[moves], change[moves], now_us)


def _decide_singly(decided: BatchDecision, indices: Sequence[int]) -> None:
    """Decide what columns cannot hold, and put it into them."""
    decisions = [decided.decision(index) for index in indices]
    for index, decision in zip(indices, decisions, strict=True):
        decided.desired[index] = decision.desired
    replace_states(decided.state, indices, [decision.state for decision in decisions])


def changes(decided: BatchDecision) -> Iterable[int]:
    """The workloads whose count is to change, in their order."""
    return (int(index) for index in np.flatnonzero(decided.is_change))
