"""The retention plan: what the rules keep, behind guards that no rule can talk its way past.

`fleet.retention` says what a policy keeps of the snapshots it is given. This module says what it
is given (only what is fit, see `fleet.snapshot_fitness`), what stays whatever the policy says, and
how much may go at once. Invariants, attacked by `tests/fleet/test_retention_guards.py`:

* the newest verified snapshot stays, and so do `verified_min` of them;
* nothing held, waiting or verified within `thin_after_h` is forgotten;
* applying a plan and planning again forgets nothing more;
* the plan depends on the log and on the store's time, not on the order of its input or the zone of
  its process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from fleet.retention import NO_RULE, RetentionPolicy, Snapshot, plan_retention
from fleet.snapshot_fitness import (
    Fitness,
    Guard,
    GuardNote,
    GuardPolicy,
    SnapshotFacts,
    age_of,
    judge_fitness,
)


class Fate(StrEnum):
    """What a plan does with a snapshot; all but the last leave it where it is."""

    KEEP = "keep"
    HELD = "held"
    PENDING = "pending"
    """It waits for its verification, outside the plan."""
    INELIGIBLE = "ineligible"
    """It must not stand for the past, and stays until somebody decides."""
    FORGET = "forget"


class PlanRow(NamedTuple):
    """The fate of one live snapshot, with all that speaks for and against it."""

    snapshot_id: str
    seq: int
    taken_at: datetime
    fate: Fate
    rules: tuple[str, ...]
    """Rules that keep it; never of one that is not eligible."""
    guards: tuple[GuardNote, ...]
    """Guards that apply to it."""
    reason: str
    """One sentence for a person: `keep: newest of 2026-11-20 (daily 3 of 7)`."""


class RetentionAlarm(NamedTuple):
    """Something that a person must look at."""

    guard: Guard
    snapshot_id: str
    """Empty when it concerns the plan as a whole."""
    text: str


class RetentionPlan(NamedTuple):
    """What to do with every live snapshot, decided at one log head."""

    head: int
    """Number of the last log record that it was computed from; it is worth something only while
    this is the head."""
    rows: tuple[PlanRow, ...]
    """Of all live snapshots, newest first."""
    forget: tuple[str, ...]
    """Ids to forget, sorted."""
    alarms: tuple[RetentionAlarm, ...]
    refused: str | None
    """Why the plan must not be applied without an approval; None when it may."""
    digest: str
    """SHA-256 of the ids to forget: what an approval names."""


def plan_guarded_retention(
    facts: Iterable[SnapshotFacts],
    policy: RetentionPolicy,
    guards: GuardPolicy,
    *,
    head: int,
    now: datetime,
    thinned_seq: int | None = None,
    approved: Collection[str] = (),
) -> RetentionPlan:
    """Decide the fate of every live snapshot of one region.

    Args:
        facts: of ALL snapshots of the log, forgotten ones too (they are compared with), in any
            order.
        policy: the counts.
        guards: the numbers of the guards.
        head: number of the last record that the facts come from.
        now: the store's time, aware.
        thinned_seq: number of the newest record by which a plan was applied; None for none yet.
        approved: ids that a person has approved to be forgotten; they do not count for the brake.
            No approval makes a plan forget what a rule or another guard keeps.

    Raises:
        InvalidInputError: an empty policy, a snapshot that occurs twice, or a time without zone.
    """
    known = list(facts)
    fitness = judge_fitness(known, guards, now)
    live = sorted((f for f in known if f.live), key=lambda f: (f.taken_at, f.seq), reverse=True)
    eligible = [one for one in live if fitness[one.snapshot_id].eligible]
    chosen = [Snapshot(one.snapshot_id, one.taken_at) for one in eligible]
    rules = {
        one.snapshot_id: one.reasons if one.keep else ()
        for one in plan_retention(chosen, policy, now)
    }
    desk = _Desk(guards, now, fitness, rules, eligible)
    rows = tuple(desk.decide(one) for one in live)
    forget = tuple(sorted(row.snapshot_id for row in rows if row.fate == Fate.FORGET))
    digest = forget_digest(forget)
    came = sum(_came_since(one, thinned_seq, guards, now) for one in eligible)
    unapproved = sum(one not in approved for one in forget)
    refused = _brake(unapproved, len(eligible) - came, came, guards, digest)
    alarms = [*desk.alarms(live), *_few_verified(eligible, live, guards)]
    if refused is not None:
        alarms.append(RetentionAlarm(Guard.BRAKE, "", refused))
    return RetentionPlan(head, rows, forget, tuple(alarms), refused, digest)


def protect_from_sweep(
    facts: Iterable[SnapshotFacts],
    doomed: Collection[str],
    policy: RetentionPolicy,
    guards: GuardPolicy,
    *,
    now: datetime,
    approved: Collection[str] = (),
) -> dict[str, str]:
    """Say which forgotten snapshots a replica must not sweep, because its own plan keeps them.

    A wrong or hostile forget reaches a replica as an ordinary record. Before its bytes go, the
    replica asks its own evidence: were they still live here, would they be forgotten?

    Args:
        facts: of all snapshots, as this region sees them.
        doomed: ids whose packs a gc record condemned and this region still has.
        policy: the counts.
        guards: the numbers of the guards.
        now: the store's time.
        approved: ids that a person has approved to be forgotten.

    Returns:
        Reason by snapshot id; empty when the sweep may go on.
    """
    revived = [one._replace(live=True) if one.snapshot_id in doomed else one for one in facts]
    plan = plan_guarded_retention(revived, policy, guards, head=0, now=now)
    return {
        row.snapshot_id: row.reason
        for row in plan.rows
        if row.snapshot_id in doomed
        and row.fate != Fate.FORGET
        and (row.snapshot_id not in approved or row.fate == Fate.HELD)
    }


def forget_digest(snapshot_ids: Iterable[str]) -> str:
    """Name of a set of snapshots to forget; equal sets have equal names."""
    return hashlib.sha256("\n".join(sorted(snapshot_ids)).encode()).hexdigest()


class _Desk:
    """Decides snapshot by snapshot, with what is known of all of them at hand."""

    def __init__(
        self,
        guards: GuardPolicy,
        now: datetime,
        fitness: Mapping[str, Fitness],
        rules: Mapping[str, tuple[str, ...]],
        eligible: Sequence[SnapshotFacts],
    ) -> None:
        self._guards = guards
        self._now = now
        self._fitness = fitness
        self._rules = rules
        self._newest = eligible[0] if eligible else None
        self._last_good = {one.snapshot_id for one in eligible[: guards.verified_min]}

    def decide(self, one: SnapshotFacts) -> PlanRow:
        """Fate and reasons of one live snapshot."""
        fit = self._fitness[one.snapshot_id]
        rules = self._rules.get(one.snapshot_id, ())
        notes = list(fit.unfit)
        if fit.pending is not None:
            notes.append(fit.pending)
        elif not fit.unfit:
            notes += self._protection(one)
        fate, why = self._fate(one, fit, rules, notes)
        if one.hold:
            notes.append(GuardNote(Guard.HOLD, one.hold))
        reason = f"{fate}: {why}"
        return PlanRow(one.snapshot_id, one.seq, one.taken_at, fate, rules, tuple(notes), reason)

    def alarms(self, live: Iterable[SnapshotFacts]) -> Iterable[RetentionAlarm]:
        """What is wrong with single snapshots, newest first."""
        for one in live:
            fit = self._fitness[one.snapshot_id]
            for note in fit.unfit:
                found = f": {one.failure}" if note.guard == Guard.FAILED and one.failure else ""
                yield RetentionAlarm(note.guard, one.snapshot_id, note.text + found)
            overdue = age_of(one, self._now) > timedelta(hours=self._guards.pending_max_h)
            if fit.pending is not None and overdue:
                yield RetentionAlarm(Guard.PENDING, one.snapshot_id, fit.pending.text)

    def _fate(
        self,
        one: SnapshotFacts,
        fit: Fitness,
        rules: Sequence[str],
        notes: Sequence[GuardNote],
    ) -> tuple[Fate, str]:
        because = ", ".join([*rules, *map(str, notes)])
        if one.hold:
            return Fate.HELD, f"{one.hold} ({Guard.HOLD})" + (f"; {because}" if because else "")
        if fit.unfit:
            return self._fate_of_unfit(one, because)
        if fit.pending is not None:
            return Fate.PENDING, because
        if because:
            return Fate.KEEP, because
        assert self._newest is not None  # it is eligible itself, so there is one
        return Fate.FORGET, f"{NO_RULE}; newest verified stays {self._newest.snapshot_id}"

    def _fate_of_unfit(self, one: SnapshotFacts, because: str) -> tuple[Fate, str]:
        """What failed goes after a time, once something newer was verified; the rest waits."""
        if one.failed_at is None:
            return Fate.INELIGIBLE, because
        days = self._guards.failed_keep_d
        if self._now - one.failed_at < timedelta(days=days):
            return Fate.INELIGIBLE, f"{because}; kept {days:.0f} d to be looked at"
        if self._newest is None or self._newest.seq < one.seq:
            return Fate.INELIGIBLE, f"{because}; kept, for nothing newer is verified"
        return Fate.FORGET, f"{because}; newer and verified is {self._newest.snapshot_id}"

    def _protection(self, one: SnapshotFacts) -> Iterable[GuardNote]:
        """Guards that keep an eligible snapshot whatever the rules say."""
        if self._newest is not None and one.snapshot_id == self._newest.snapshot_id:
            yield GuardNote(Guard.LAST_GOOD, "newest verified of this region")
        elif one.snapshot_id in self._last_good:
            text = f"one of the newest {self._guards.verified_min} verified of this region"
            yield GuardNote(Guard.LAST_GOOD, text)
        age = age_of(one, self._now)
        if age < timedelta(hours=self._guards.thin_after_h):
            hours = age.total_seconds() / 3600
            text = f"{hours:.0f} h old, verified ones stay {self._guards.thin_after_h:.0f} h"
            yield GuardNote(Guard.SUSPECT, text)


def _came_since(
    one: SnapshotFacts, thinned_seq: int | None, guards: GuardPolicy, now: datetime
) -> bool:
    """Whether it came after the last thinning; before any, whether it is too young for one."""
    if thinned_seq is None:
        return age_of(one, now) < timedelta(hours=guards.thin_after_h)
    return one.seq > thinned_seq


def _brake(unapproved: int, left: int, came: int, guards: GuardPolicy, digest: str) -> str | None:
    """Why a plan must not be applied: it leaves too few of those that the last one left.

    As many as came since may go as well, so a plan of any rhythm passes that only holds the level.

    Args:
        unapproved: snapshots that the plan forgets and nobody has approved.
        left: eligible ones that were there when the last plan was applied.
        came: eligible ones that came since.
        guards: how much may go.
        digest: of the plan.
    """
    most = came + max(guards.forget_min, int(guards.forget_share_max * left))
    if unapproved <= most:
        return None
    return (
        f"it would forget {unapproved} snapshots without approval, at most {most}: {came} came "
        f"since the last thinning, which left {left}; "
        f"nothing is forgotten before plan {digest} is approved"
    )


def _few_verified(
    eligible: Sequence[SnapshotFacts], live: Sequence[SnapshotFacts], guards: GuardPolicy
) -> Iterable[RetentionAlarm]:
    if live and len(eligible) < guards.verified_min:
        text = (
            f"{len(eligible)} of {len(live)} live snapshots are verified in this region, "
            f"{guards.verified_min} wanted"
        )
        yield RetentionAlarm(Guard.LAST_GOOD, "", text)
