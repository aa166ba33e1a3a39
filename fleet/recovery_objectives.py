"""How much a disaster would cost now, and how long its repair takes: measured, never assumed.

Every figure comes from a dated fact of the region itself: a recovery point that lies there, a
verification that ran there, a drill that was timed there. What never happened is None and red;
what happened too long ago is red though nothing has failed, because evidence expires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.inventory_checks import CheckVerdict, Offender, judge

HOUR_S = 3600
DAY_S = 86_400
EVIDENCE_LEVELS = ("V1", "V2", "V3", "V4", "V5")
"""Levels whose age is watched; V0 is part of each backup."""
CLOCK_OFF_MAX = timedelta(minutes=5)
"""A fact dated further ahead than this is not believed (guard G5)."""


@dataclass(frozen=True, slots=True)
class ObjectivePolicy:
    """The objectives; the defaults fit the shipped schedules with one period missed.

    Raises:
        InvalidInputError: a value that is no positive number of seconds.
    """

    rpo_max_s: float = HOUR_S
    rto_max_s: float = 4 * HOUR_S
    backup_max_age_s: float = 2 * HOUR_S
    replica_lag_max_s: float = HOUR_S
    v1_max_age_s: float = 3 * HOUR_S
    v2_max_age_s: float = 8 * DAY_S
    """Of the part that was read longest ago: a seventh is read a day."""
    v3_max_age_s: float = 8 * DAY_S
    v4_max_age_s: float = 8 * DAY_S
    v5_max_age_s: float = 35 * DAY_S

    def __post_init__(self) -> None:
        """Refuse an objective that cannot be met or cannot be missed."""
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 < value < float("inf"):
                raise InvalidInputError(f"objectives.{one.name}", value, "seconds, more than 0")


NOTHING_KNOWN = Offender("backups", "every region", "no copy of any network is known")
"""What every claim is broken by while there are no backups at all."""


class Drill(NamedTuple):
    """The newest restore drill of a region."""

    finished_at: datetime
    seconds: float
    """From the declaration of the disaster until all agents ran."""
    failure: str = ""
    """What went wrong; empty when it passed."""


class RecoveryFacts(NamedTuple):
    """What is known of one network in one region."""

    network_id: str
    region: str
    snapshot_at: datetime | None
    """Cut of the newest restorable snapshot that lies in this region."""
    journal_at: datetime | None
    """Moment up to which journal segments in this region cover without a gap."""
    verified_at: Mapping[str, datetime]
    """By level, when this region passed it last."""
    drill: Drill | None
    home: bool = True
    """Whether this region is the one that writes."""
    failing: Mapping[str, str] = MappingProxyType({})
    """By level, what it fails now, whatever it passed before."""


class RecoveryFigures(NamedTuple):
    """The figures of one network in one region at one moment; seconds, None for never."""

    network_id: str
    region: str
    at: datetime
    rpo_s: float | None
    """What would be lost: age of the newest moment that this region can restore."""
    backup_age_s: float | None
    """Age of the newest snapshot here, journal or not."""
    replica_lag_s: float | None
    """How far this region is behind the one that writes; None for that one itself."""
    rto_s: float | None
    """How long the newest drill took; None when it failed or never was."""
    verified_age_s: Mapping[str, float | None]
    """By level, all of `EVIDENCE_LEVELS`."""
    missing: Mapping[str, str]
    """Why a figure is None, by its name."""


def measure_recovery(
    facts: RecoveryFacts, now: datetime, home: RecoveryFacts | None = None
) -> RecoveryFigures:
    """Turn dated facts into figures.

    Args:
        facts: of one network in one region.
        now: the moment to measure at, aware.
        home: the same network where it is written; None when that region cannot be read.

    A fact dated after `now` by more than `CLOCK_OFF_MAX` gives None: it would hide a loss.
    """
    missing: dict[str, str] = {}

    def age(name: str, at: datetime | None, never: str) -> float | None:
        if at is None:
            missing[name] = never
        elif at > now + CLOCK_OFF_MAX:
            missing[name] = f"dated {at.isoformat()}, which is in the future"
        else:
            return max(0.0, (now - at).total_seconds())
        return None

    covered_at = _covered_at(facts, now)
    verified: dict[str, float | None] = {}
    for level in EVIDENCE_LEVELS:
        name = f"verified_age_s.{level}"
        if level in facts.failing:
            verified[level] = None
            missing[name] = f"{level} fails: {facts.failing[level]}"
        else:
            verified[level] = age(name, facts.verified_at.get(level), f"{level} never passed")
    return RecoveryFigures(
        facts.network_id,
        facts.region,
        now,
        age("rpo_s", covered_at, "no recovery point in this region"),
        age("backup_age_s", facts.snapshot_at, "no snapshot in this region"),
        _lag(facts, covered_at, home, now, missing),
        _rto(facts.drill, missing),
        verified,
        missing,
    )


def check_rpo(figures: Sequence[RecoveryFigures], policy: ObjectivePolicy) -> CheckVerdict:
    """No region would lose more than the recovery point objective."""
    claim = "{offenders} of {checked} copies would lose more than the objective"
    return _check(figures, "rpo_s", lambda one: one.rpo_s, policy.rpo_max_s, claim)


def check_backup_age(figures: Sequence[RecoveryFigures], policy: ObjectivePolicy) -> CheckVerdict:
    """Every region has a snapshot of the last hours."""
    claim = "{offenders} of {checked} copies have no recent snapshot"
    limit = policy.backup_max_age_s
    return _check(figures, "backup_age_s", lambda one: one.backup_age_s, limit, claim)


def check_replica_lag(figures: Sequence[RecoveryFigures], policy: ObjectivePolicy) -> CheckVerdict:
    """Every replica is close behind the region that writes; that one itself is passed over."""
    replicas = [one for one in figures if one.replica_lag_s is not None or _LAG in one.missing]
    claim = "{offenders} of {checked} replicas are too far behind"
    limit = policy.replica_lag_max_s
    return _check(replicas, _LAG, lambda one: one.replica_lag_s, limit, claim)


def check_rto(figures: Sequence[RecoveryFigures], policy: ObjectivePolicy) -> CheckVerdict:
    """The newest drill of every region passed, within the recovery time objective."""
    claim = "{offenders} of {checked} copies are not proven to recover in time"
    return _check(figures, "rto_s", lambda one: one.rto_s, policy.rto_max_s, claim)


def check_verified(
    figures: Sequence[RecoveryFigures], level: str, policy: ObjectivePolicy
) -> CheckVerdict:
    """Every region has passed a level recently enough.

    Raises:
        InvalidInputError: the level is none that is watched.
    """
    if level not in EVIDENCE_LEVELS:
        raise InvalidInputError("level", level, ", ".join(EVIDENCE_LEVELS))
    limit = getattr(policy, f"{level.lower()}_max_age_s")
    claim = f"{{offenders}} of {{checked}} copies have no recent {level}"
    name = f"verified_age_s.{level}"
    return _check(figures, name, lambda one: one.verified_age_s[level], limit, claim)


_LAG = "replica_lag_s"
_MEANING = {
    "rpo_s": "the newest recovery point is {age} old",
    "backup_age_s": "the newest snapshot is {age} old",
    _LAG: "it is {age} behind",
    "rto_s": "the newest drill took {age}",
}


def _check(
    figures: Sequence[RecoveryFigures],
    name: str,
    figure_of: Callable[[RecoveryFigures], float | None],
    limit_s: float,
    claim: str,
) -> CheckVerdict:
    """Judge one figure of all copies; what is missing is an offender and named before the others.

    No copy at all is one offence: nothing is proven by nothing.
    """
    if not figures and name != _LAG:
        return judge(claim, 0, [NOTHING_KNOWN])
    offenders = []
    known = []
    for one in figures:
        figure = figure_of(one)
        if figure is None:
            why = one.missing.get(name, "not known")
            offenders.append(Offender(one.network_id, one.region, why))
            continue
        known.append(figure)
        if figure > limit_s:
            meaning = _MEANING.get(name, "it last passed {age} ago").format(age=span_text(figure))
            detail = f"{meaning}, at most {span_text(limit_s)}"
            offenders.append(Offender(one.network_id, one.region, detail))
    numbers = {"missing": float(len(figures) - len(known)), "limit_s": limit_s}
    if known:
        numbers["worst_s"] = max(known)
    never = {one.subject for one in offenders if ", at most " not in one.detail}
    return judge(claim, len(figures), offenders, worst=never, numbers=numbers)


def span_text(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `12 min`, `5.0 h`, `9.3 d`."""
    for unit, size, digits in (("d", DAY_S, 1), ("h", HOUR_S, 1), ("min", 60, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def _covered_at(facts: RecoveryFacts, now: datetime) -> datetime | None:
    """The newest moment that can be restored; a point from the future does not hide older ones."""
    points = [at for at in (facts.snapshot_at, facts.journal_at) if at is not None]
    believed = [at for at in points if at <= now + CLOCK_OFF_MAX]
    return max(believed or points, default=None)


def _lag(
    facts: RecoveryFacts,
    covered_at: datetime | None,
    home: RecoveryFacts | None,
    now: datetime,
    missing: dict[str, str],
) -> float | None:
    if facts.home:
        return None
    if home is None:
        missing[_LAG] = "the region that writes cannot be read"
        return None
    newest = _covered_at(home, now)
    if covered_at is None:
        missing[_LAG] = "nothing has been replicated yet"
        return None
    if newest is None:
        missing[_LAG] = "the region that writes has no recovery point"
        return None
    return max(0.0, (newest - covered_at).total_seconds())


def _rto(drill: Drill | None, missing: dict[str, str]) -> float | None:
    if drill is None:
        missing["rto_s"] = "never drilled"
    elif drill.failure:
        day = drill.finished_at.date()
        missing["rto_s"] = f"the newest drill, of {day}, failed: {drill.failure}"
    else:
        return drill.seconds
    return None
