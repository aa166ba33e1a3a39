"""What the past and the limits let through, for thousands of workloads at once.

`stabilization`, `rates` and `settling` in columns, step by step; tests hold the two together.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fleet.rescaling.batch_proposals import ceil_int32, cut_int32
from fleet.rescaling.batch_specs import (
    MICROS,
    NONE_US,
    SELECTS,
    Bools,
    Int32s,
    Int64s,
    Places,
    RulesColumns,
    SpecBatch,
)
from fleet.rescaling.batch_states import CUTS, LIMITS, EventColumns, StateBatch, Told, put
from fleet.rescaling.go_integers import INT32_MAX, INT32_MIN
from fleet.rescaling.hpa_words import Limit
from fleet.rescaling.rates import GROWTH_FACTOR, GROWTH_MIN
from fleet.rescaling.spec import SelectPolicy

_T = TypeVar("_T", bound=np.generic)
_ABLE, _LIMITED = 0, 2
_MIN, _DISABLED = SELECTS.index(SelectPolicy.MIN), SELECTS.index(SelectPolicy.DISABLED)
_GROWN_SLOTS = 8
"""So many slots are added at once where a list is full."""


def stabilize(
    specs: SpecBatch,
    state: StateBatch,
    where: Places,
    current: Int32s,
    proposed: Int32s,
    now_us: int,
) -> Int32s:
    """What the past lets through of what the metrics of some workloads ask for.

    Remembers the proposals, and sets the conditions that tell of it, in place.

    Args:
        specs: all autoscalers.
        state: of all.
        where: the workloads that are looked at.
        current: their replicas.
        proposed: what their metrics ask for, 0 or more.
        now_us: time of the reconcile.
    """
    with_rules = specs.has_rules[where]
    since = now_us - round(specs.options.downscale_stabilization_s * MICROS)
    down_since = np.where(with_rules, now_us - specs.down.window_us[where], since - 1)
    up_since = now_us - specs.up.window_us[where]
    at_us = _rows(state.recommendation_at_us, where)
    replicas = _rows(state.recommendation_replicas, where)
    recent = at_us > down_since[:, np.newaxis]  # at the edge as well where there are no rules
    highest = np.where(recent, replicas, INT32_MIN).max(axis=1, initial=INT32_MIN)
    highest = np.maximum(highest, proposed)
    risen = np.maximum(current, _lowest(state, where, with_rules, proposed, up_since))
    found: Int32s = np.where(with_rules, np.minimum(risen, highest), highest).astype(np.int32)
    forgotten = np.where(with_rules, np.minimum(up_since, down_since), since)
    old = (at_us < forgotten[:, np.newaxis]) & (at_us != NONE_US)
    _remember(state, where, old, proposed, now_us)
    rises = with_rules & (proposed >= current)
    told = np.where(rises, Told.STABILIZED_UP, Told.STABILIZED_DOWN)
    put(state, where, _ABLE, np.where(found == proposed, Told.READY, told).astype(np.int8))
    return found


def _rows(columns: npt.NDArray[_T], where: Places) -> npt.NDArray[_T]:
    """Some rows; all of them are not copied."""
    return columns if len(where) == len(columns) else columns[where]


def _lowest(
    state: StateBatch, where: Places, with_rules: Bools, proposed: Int32s, up_since: Int64s
) -> Int32s:
    """The lowest proposal of the window for rising; most have none."""
    found = proposed.copy()
    rows = np.flatnonzero(
        with_rules & (up_since < np.max(state.recommendation_at_us, initial=NONE_US))
    )
    if rows.size:
        recent = state.recommendation_at_us[where[rows]] > up_since[rows][:, np.newaxis]
        replicas = np.where(recent, state.recommendation_replicas[where[rows]], INT32_MAX)
        found[rows] = np.minimum(found[rows], replicas.min(axis=1, initial=INT32_MAX))
    return found


def _remember(state: StateBatch, where: Places, old: Bools, proposed: Int32s, now_us: int) -> None:
    """Put each proposal where the last old one stands, else at the end."""
    count = state.recommendation_count[where]
    slot = _last(old, count)
    grown = slot == count
    if grown.any() and int(np.max(slot)) >= state.recommendation_at_us.shape[1]:
        state.recommendation_at_us = _widened(state.recommendation_at_us, NONE_US)
        state.recommendation_replicas = _widened(state.recommendation_replicas)
    state.recommendation_at_us[where, slot] = now_us
    state.recommendation_replicas[where, slot] = proposed
    state.recommendation_count[where[grown]] += 1


def _last(marked: Bools, count: Int32s) -> Int32s:
    """Column of the last mark of each row; `count` where there is none."""
    width = marked.shape[1]
    if not width:
        return count.copy()
    last = width - 1 - marked[:, ::-1].argmax(axis=1)
    return np.where(marked.any(axis=1), last, count).astype(np.int32)


def _widened(columns: npt.NDArray[_T], unused: int = 0) -> npt.NDArray[_T]:
    """The same with room for more."""
    return np.pad(columns, ((0, 0), (0, _GROWN_SLOTS)), constant_values=unused)


def limit(
    specs: SpecBatch, state: StateBatch, where: Places, current: Int32s, wished: Int32s, now_us: int
) -> Int32s:
    """What minimum, maximum and rates leave of a wish; sets the conditions that tell of it.

    Args:
        specs: all autoscalers.
        state: of all; its events are those before the change.
        where: the workloads that are looked at.
        current: their replicas.
        wished: what the past lets through.
        now_us: time of the reconcile.
    """
    allowed, place = wished.copy(), np.full(len(where), LIMITS.index(Limit.NONE), np.int32)
    with_rules = specs.has_rules[where]
    plain = np.flatnonzero(~with_rules)
    if plain.size:
        allowed[plain], place[plain] = _simple(specs, where[plain], current[plain], wished[plain])
    for rising in (True, False):
        moves = wished > current if rising else wished < current
        rows = np.flatnonzero(with_rules & moves)
        if rows.size:
            allowed[rows], place[rows] = _by_rates(
                specs, state, where[rows], current[rows], wished[rows], now_us, rising=rising
            )
    put(state, where, _LIMITED, Told.LIMIT, place + CUTS * (allowed != wished))
    return allowed


def _simple(
    specs: SpecBatch, where: Places, current: Int32s, wished: Int32s
) -> tuple[Int32s, Int32s]:
    """Limits of autoscalers without rules; as `settling._simple_limit`."""
    least, most = specs.min_replicas[where], specs.max_replicas[where]
    growth = cut_int32(np.maximum(GROWTH_FACTOR * current.astype(np.float64), GROWTH_MIN))
    high = np.minimum(growth, most)
    too_few, too_many = wished < least, wished > high
    allowed = np.where(too_few, least, np.where(too_many, high, wished))
    reason = np.where(most > growth, LIMITS.index(Limit.RATE_UP), LIMITS.index(Limit.MAX))
    reason = np.where(too_many, reason, LIMITS.index(Limit.NONE))
    return allowed, np.where(too_few, LIMITS.index(Limit.MIN), reason)


def _by_rates(
    specs: SpecBatch,
    state: StateBatch,
    where: Places,
    current: Int32s,
    wished: Int32s,
    now_us: int,
    *,
    rising: bool,
) -> tuple[Int32s, Int32s]:
    """Limits of autoscalers with rules, in one direction; as `settling._rate_limit`."""
    none = LIMITS.index(Limit.NONE)
    rules = specs.up if rising else specs.down
    rate = _rate(rules, state, where, current, now_us, rising=rising)
    if rising:
        bound = specs.max_replicas[where]
        by_rate = bound > rate
        edge = np.minimum(bound, rate)
        passed = wished > edge
        reason = np.where(by_rate, LIMITS.index(Limit.RATE_UP), LIMITS.index(Limit.MAX))
    else:
        bound = specs.min_replicas[where]
        by_rate = bound < rate
        edge = np.maximum(bound, rate)
        passed = wished < edge
        reason = np.where(by_rate, LIMITS.index(Limit.RATE_DOWN), LIMITS.index(Limit.MIN))
    return np.where(passed, edge, wished), np.where(passed, reason, none)


def _rate(
    rules: RulesColumns,
    state: StateBatch,
    where: Places,
    current: Int32s,
    now_us: int,
    *,
    rising: bool,
) -> Int32s:
    """The most, or the fewest, replicas that rules allow; as `rates.upper_limit`, `lower_limit`."""
    select = rules.select[where]
    of_highest = (select != _MIN) if rising else (select == _MIN)
    found = np.where(of_highest, INT32_MIN, INT32_MAX).astype(np.int32)
    for policy in range(rules.period_us.shape[1]):
        period_us = rules.period_us[where, policy]
        since = now_us - period_us
        added, removed = _changed(state.ups, where, since), _changed(state.downs, where, since)
        start = (current - added + removed).astype(np.int32)
        value = rules.value[where, policy]
        share = value.astype(np.float64) / 100
        if rising:
            by_percent = ceil_int32(start.astype(np.float64) * (1 + share))
            by_pods = start + value
        else:
            by_percent = cut_int32(start.astype(np.float64) * (1 - share))
            by_pods = start - value
        proposed = np.where(rules.is_percent[where, policy], by_percent, by_pods)
        chosen = np.where(of_highest, np.maximum(found, proposed), np.minimum(found, proposed))
        found = np.where(period_us > 0, chosen, found)
    found = np.where(select == _DISABLED, current, found)
    bounded: Int32s = np.maximum(found, current) if rising else np.minimum(found, current)
    return bounded


def _changed(events: EventColumns, where: Places, since_us: Int64s) -> Int64s:
    """Replicas changed after a moment, by workload."""
    found = np.zeros(len(where), np.int64)
    some = np.flatnonzero(events.count[where])
    if not some.size:
        return found
    rows, used = where[some], int(np.max(events.count))
    recent = events.at_us[rows, :used] > since_us[some][:, np.newaxis]
    found[some] = np.where(recent, events.change[rows, :used], 0).sum(axis=1, dtype=np.int64)
    return found


def record_changes(
    events: EventColumns, rules: RulesColumns, where: Places, change: Int32s, now_us: int
) -> None:
    """Remember changes of one direction, in place; as `rates.record_change`."""
    at_us, since = events.at_us[where], now_us - rules.longest_us[where]
    there = at_us != NONE_US
    outdated = events.outdated[where] | (there & (at_us < since[:, np.newaxis]))
    events.outdated[where] = outdated
    count = events.count[where]
    slot = _last(outdated, count)
    grown = slot == count
    if grown.any() and int(np.max(slot)) >= events.at_us.shape[1]:
        events.at_us, events.change = _widened(events.at_us, NONE_US), _widened(events.change)
        events.outdated = _widened(events.outdated)
    events.at_us[where, slot] = now_us
    events.change[where, slot] = change
    events.outdated[where, slot] = False
    events.count[where[grown]] += 1
