"""Which snapshots may stand for the past: verified here, whole, rightly dated, like their like.

A retention rule counts what it is given. Whoever can add snapshots that look newer, fuller or
later than they are can push the good ones out; so only what is fit by the guards below enters the
plan, and what is not fit is set aside with its reason, never silently counted or dropped.

Judged in the order of the log over ALL snapshots, forgotten ones too: were a forgotten one no
longer compared with, forgetting it could make a suspect look normal.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import InvalidInputError


class Guard(StrEnum):
    """The guards above the retention rule, numbered as in `docs/formats/backup.md`."""

    ELIGIBLE = "G1"
    PENDING = "G2"
    FAILED = "G3"
    LAST_GOOD = "G4"
    TIME = "G5"
    SUSPECT = "G6"
    BRAKE = "G7"
    HOLD = "G8"


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """The numbers of the guards; the defaults are those of production.

    Raises:
        InvalidInputError: a value that would switch a guard off or make it absurd.
    """

    level_min: str = "V1"
    """Lowest level of verification that makes a snapshot count."""
    verified_min: int = 2
    """Verified snapshots that stay in each region, whatever the policy."""
    pending_max_h: float = 48.0
    """How long a snapshot may wait for its verification before it is an alarm."""
    failed_keep_d: float = 7.0
    clock_off_max_s: float = 300.0
    """How far a snapshot may be dated after the store's time, or before the log's."""
    cut_age_max_h: float = 24.0
    """How much older than its record a cut may be: longer than any backup takes."""
    agents_fall_max: float = 0.20
    """Share of the agents that may be gone since the snapshot before."""
    changed_ratio_max: float = 5.0
    """How many times the usual share of changed agents is still believed."""
    changed_window_d: float = 7.0
    changed_history_min: int = 3
    """Snapshots within the window that make up what is usual; fewer judge nothing."""
    changed_share_min: float = 0.05
    """Smaller shares are never suspect: five times almost nothing is still almost nothing."""
    changed_min: int = 10
    """Fewer changed agents are never suspect: in a small network one agent is a large share."""
    thin_after_h: float = 48.0
    """Nothing verified is thinned before it is this old."""
    forget_min: int = 10
    """Snapshots that one plan may always forget, beside as many as came since the last one."""
    forget_share_max: float = 0.25
    """Share of the snapshots that the last plan left which one may forget without approval."""

    def __post_init__(self) -> None:
        """Refuse what no operator can mean."""
        if self.level_min not in {"V1", "V2", "V3", "V4", "V5"}:
            raise InvalidInputError("guards.level_min", self.level_min, "V1 to V5")
        for name in (one.name for one in fields(self) if one.name != "level_min"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InvalidInputError(f"guards.{name}", value, "0 or more")
        if self.verified_min < 1:
            raise InvalidInputError("guards.verified_min", self.verified_min, "1 or more")
        for name in ("agents_fall_max", "forget_share_max"):
            if getattr(self, name) > 1:
                raise InvalidInputError(f"guards.{name}", getattr(self, name), "a share, 0 to 1")


class SnapshotFacts(NamedTuple):
    """What log and evidence of one region say about a snapshot."""

    snapshot_id: str
    seq: int
    """Number of its log record."""
    taken_at: datetime
    """Moment of the cut, aware."""
    written_at: datetime
    """Of the record, by the writer's clock."""
    agents: int
    changed: int
    live: bool = True
    """False once it was forgotten."""
    stored_at: datetime | None = None
    """Of the record's object, by the store's clock; None when it was not listed."""
    scheduled: bool = True
    incomplete: tuple[str, ...] = ()
    """Declared artefacts that it lacks."""
    tainted: str = ""
    """What of it is lost in this region; empty for nothing."""
    verified_level: str = ""
    """Highest level that it passed in this region; empty for none."""
    verified_at: datetime | None = None
    """When it passed that level last."""
    failed_level: str = ""
    """Level that it failed in this region and has not passed since; empty for none."""
    failed_at: datetime | None = None
    failure: str = ""
    """What was found; for the alarm only, because it may name agents and plans are stored plain."""
    hold: str = ""
    """Reason of a hold in force; empty for none."""
    approved: str = ""
    """Who approved it and why; empty for nobody."""


class GuardNote(NamedTuple):
    """A guard that applies, in words."""

    guard: Guard
    text: str

    def __str__(self) -> str:
        return f"{self.text} ({self.guard})"


class Fitness(NamedTuple):
    """Whether a snapshot enters the plan; with no note at all it does."""

    unfit: tuple[GuardNote, ...]
    """Why it must not stand for the past."""
    pending: GuardNote | None
    """That it waits for its verification; None when it was verified, or failed."""

    @property
    def eligible(self) -> bool:
        """Whether the rules may count it."""
        return not self.unfit and self.pending is None


def judge_fitness(
    facts: Iterable[SnapshotFacts], guards: GuardPolicy, now: datetime
) -> dict[str, Fitness]:
    """Say of every snapshot whether retention rules may count it, and why not.

    Args:
        facts: of all snapshots of the log, forgotten ones too, in any order.
        guards: the numbers.
        now: the store's time, aware.

    Returns:
        By snapshot id, in the order of the log.

    Raises:
        InvalidInputError: a snapshot occurs twice, or a time has no zone.
    """
    history = _History(guards)
    judged: dict[str, Fitness] = {}
    for one in sorted(facts, key=lambda one: one.seq):
        _validate(one, judged)
        clock = history.clock_fault(one, now)
        doubts = () if clock or one.approved else history.doubts(one)
        if not clock and not doubts:
            history.trust(one)
        unfit = [GuardNote(Guard.FAILED, text) for text in _failure(one)]
        unfit += [GuardNote(Guard.ELIGIBLE, text) for text in _lacks(one)]
        unfit += [GuardNote(Guard.TIME, text) for text in clock]
        unfit += [GuardNote(Guard.SUSPECT, f"{text}, not approved") for text in doubts]
        judged[one.snapshot_id] = Fitness(tuple(unfit), _pending(one, guards, now))
    return judged


def age_of(facts: SnapshotFacts, now: datetime) -> timedelta:
    """How long a snapshot has existed, by the store's clock where it is known."""
    return now - (facts.stored_at or facts.written_at)


def utc_text(moment: datetime) -> str:
    """A moment to the minute, in UTC, whatever the zone of the process."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z"


class _History:
    """What the snapshots so far make believable: counts of agents, shares of change, time."""

    def __init__(self, guards: GuardPolicy) -> None:
        self._guards = guards
        self._agents: int | None = None
        self._shares: deque[tuple[datetime, float]] = deque()
        self._reached: datetime | None = None

    def clock_fault(self, one: SnapshotFacts, now: datetime) -> tuple[str, ...]:
        """What is wrong with the time of a snapshot; moves the log's time on.

        The record's own time is compared with the log, not the cut's: a long backup may well
        commit after a later, shorter one. A record dated ahead of the store moves nothing on, so
        a clock that jumped forward does not make all that follows look set back.
        """
        off = timedelta(seconds=self._guards.clock_off_max_s)
        latest = (one.stored_at or now) + off
        reached = self._reached
        if one.written_at <= latest:
            self._reached = max(reached or one.written_at, one.written_at)
        if max(one.taken_at, one.written_at) > latest:
            dated = utc_text(max(one.taken_at, one.written_at))
            return (f"dated {dated}, after the store's time {utc_text(latest - off)}",)
        if reached is not None and one.written_at < reached - off:
            return (f"written {utc_text(one.written_at)}, before the log's {utc_text(reached)}",)
        if one.written_at - one.taken_at > timedelta(hours=self._guards.cut_age_max_h):
            return (f"dated {utc_text(one.taken_at)}, recorded {utc_text(one.written_at)}",)
        return ()

    def doubts(self, one: SnapshotFacts) -> tuple[str, ...]:
        """What makes a snapshot unlike those before it."""
        found = [] if one.scheduled else ["from an unscheduled run"]
        guards, before = self._guards, self._agents
        if before and before - one.agents > guards.agents_fall_max * before + 1e-9:
            fell = (before - one.agents) / before
            allowed = f"at most {guards.agents_fall_max:.0%}"
            found.append(f"agents fell by {fell:.0%} from {before} to {one.agents}, {allowed}")
        usual = self._usual_share(one.taken_at)
        share = _changed_share(one)
        if usual is not None and one.changed >= guards.changed_min:
            most = max(guards.changed_ratio_max * usual, guards.changed_share_min)
            if share > most + 1e-9:
                found.append(f"{share:.1%} of its agents changed, usual are {usual:.1%}")
        return tuple(found)

    def trust(self, one: SnapshotFacts) -> None:
        """Compare what follows with this one."""
        self._agents = one.agents
        self._shares.append((one.taken_at, _changed_share(one)))

    def _usual_share(self, at: datetime) -> float | None:
        """Median share of the window before a moment; None when too few are known."""
        begin = at - timedelta(days=self._guards.changed_window_d)
        while self._shares and self._shares[0][0] < begin:
            self._shares.popleft()
        if len(self._shares) < max(1, self._guards.changed_history_min):
            return None
        return statistics.median(share for _, share in self._shares)


def _changed_share(one: SnapshotFacts) -> float:
    return one.changed / one.agents if one.agents else 0.0


def _failure(one: SnapshotFacts) -> tuple[str, ...]:
    if one.failed_at is None:
        return ()
    return (f"failed {one.failed_level} on {utc_text(one.failed_at)}",)


def _lacks(one: SnapshotFacts) -> tuple[str, ...]:
    found = [f"tainted: {one.tainted}"] if one.tainted else []
    if one.incomplete and not one.approved:
        found.append(f"incomplete, it lacks {', '.join(one.incomplete)}")
    return tuple(found)


def _pending(one: SnapshotFacts, guards: GuardPolicy, now: datetime) -> GuardNote | None:
    if one.verified_level >= guards.level_min or one.failed_at is not None:
        return None
    hours = age_of(one, now).total_seconds() / 3600
    text = f"not yet verified, {hours:.0f} h old, at most {guards.pending_max_h:.0f} h"
    return GuardNote(Guard.PENDING, text)


def _validate(one: SnapshotFacts, judged: Mapping[str, Fitness]) -> None:
    if one.snapshot_id in judged:
        raise InvalidInputError("snapshot_id", one.snapshot_id, "one that occurs once")
    times = ("taken_at", "written_at", "stored_at", "verified_at", "failed_at")
    for name in times:
        moment = getattr(one, name)
        if moment is not None and moment.tzinfo is None:
            raise InvalidInputError(f"{one.snapshot_id}.{name}", moment.isoformat(), "aware times")
