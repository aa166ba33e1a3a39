"""What the past and the limits let through, for thousands of workloads at once.

`stabilization`, `rates` and `settling` in columns, step by step; tests hold the two together.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fleet.rescaling.batch_columns import NONE_US
from fleet.rescaling.batch_proposals import ceil_int32, cut_int32
from fleet.rescaling.batch_specs import (
    MICROS,
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
    found, told = proposed.copy(), np.full(len(where), Told.READY, np.int8)
    with_rules = specs.has_rules[where]
    rows = np.flatnonzero(~with_rules)
    if rows.size:
        past = _Past.of(state, where[rows])
        found[rows], old = _highest_of_window(specs, past, proposed[rows], now_us)
        told[rows] = Told.STABILIZED_DOWN
        _remember(state, where[rows], old, proposed[rows], now_us)
    rows = np.flatnonzero(with_rules)
    if rows.size:
        past = _Past.of(state, where[rows])
        found[rows], old = _agreed_by_rules(
            specs, past, where[rows], (current[rows], proposed[rows]), now_us
        )
        falls = proposed[rows] < current[rows]
        told[rows] = np.where(falls, Told.STABILIZED_DOWN, Told.STABILIZED_UP)
        _remember(state, where[rows], old, proposed[rows], now_us)
    put(state, where, _ABLE, np.where(found == proposed, Told.READY, told).astype(np.int8))
    return found


class _Past(NamedTuple):
    """Earlier proposals of some workloads; a slot that is not used is older than anything."""

    at_us: Int64s
    replicas: Int32s
    used: Bools

    @classmethod
    def of(cls, state: StateBatch, where: Places) -> _Past:
        """Those of some workloads."""
        at_us = state.recommendation_at_us[where]
        used = np.arange(at_us.shape[1]) < state.recommendation_count[where][:, np.newaxis]
        return cls(np.where(used, at_us, NONE_US), state.recommendation_replicas[where], used)


def _highest_of_window(
    specs: SpecBatch, past: _Past, proposed: Int32s, now_us: int
) -> tuple[Int32s, Bools]:
    """The highest proposal of the controller's window; as `stabilize_by_window`."""
    since = now_us - round(specs.options.downscale_stabilization_s * MICROS)
    too_old = past.at_us < since
    highest = np.where(too_old, INT32_MIN, past.replicas).max(axis=1, initial=INT32_MIN)
    return np.maximum(highest, proposed), too_old & past.used


def _agreed_by_rules(
    specs: SpecBatch, past: _Past, where: Places, counts: tuple[Int32s, Int32s], now_us: int
) -> tuple[Int32s, Bools]:
    """The change that all proposals of a direction's window agree to; as `stabilize_by_rules`."""
    current, proposed = counts
    up_since = (now_us - specs.up.window_us[where])[:, np.newaxis]
    down_since = (now_us - specs.down.window_us[where])[:, np.newaxis]
    for_down = past.at_us > down_since
    highest = np.where(for_down, past.replicas, INT32_MIN).max(axis=1, initial=INT32_MIN)
    for_up = past.at_us > up_since
    lowest = np.where(for_up, past.replicas, INT32_MAX).min(axis=1, initial=INT32_MAX)
    highest, lowest = np.maximum(highest, proposed), np.minimum(lowest, proposed)
    old = (past.at_us < np.minimum(up_since, down_since)) & past.used
    return np.minimum(np.maximum(current, lowest), highest), old


def _remember(state: StateBatch, where: Places, old: Bools, proposed: Int32s, now_us: int) -> None:
    """Put each proposal where the last old one stands, else at the end."""
    count = state.recommendation_count[where]
    slot = _last(old, count)
    grown = slot == count
    if grown.any() and int(slot.max()) >= state.recommendation_at_us.shape[1]:
        state.recommendation_at_us = _widened(state.recommendation_at_us)
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


def _widened(columns: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """The same with room for more."""
    return np.pad(columns, ((0, 0), (0, _GROWN_SLOTS)))


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
    rows, used = where[some], int(events.count.max())
    there = np.arange(used) < events.count[rows][:, np.newaxis]
    recent = there & (events.at_us[rows, :used] > since_us[some][:, np.newaxis])
    found[some] = np.where(recent, events.change[rows, :used], 0).sum(axis=1, dtype=np.int64)
    return found


def record_changes(
    events: EventColumns, rules: RulesColumns, where: Places, change: Int32s, now_us: int
) -> None:
    """Remember changes of one direction, in place; as `rates.record_change`."""
    there = np.arange(events.at_us.shape[1]) < events.count[where][:, np.newaxis]
    since = now_us - rules.longest_us[where]
    outdated = events.outdated[where] | (there & (events.at_us[where] < since[:, np.newaxis]))
    events.outdated[where] = outdated
    count = events.count[where]
    slot = _last(outdated & there, count)
    grown = slot == count
    if grown.any() and int(slot.max()) >= events.at_us.shape[1]:
        events.at_us, events.change = _widened(events.at_us), _widened(events.change)
        events.outdated = _widened(events.outdated)
    events.at_us[where, slot] = now_us
    events.change[where, slot] = change
    events.outdated[where, slot] = False
    events.count[where[grown]] += 1
