"""Are the backups there, proven, copied and young enough? One pure function for each claim.

Everything is judged at the moment of the check, from rows that hold moments: evidence that nobody
renews turns a claim red by growing old, without anything failing. Whoever has no evidence yet gets
as long as the evidence may be old, counted from the first snapshot, and not a second longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.backup_tables import ProvenLevel, RecoveryObjective, Replica, TakenSnapshot
from fleet.inventory_checks import CheckVerdict, Offender, Severity, judge

STRUCTURE_MAX_AGE = timedelta(hours=3)
"""V1 is hourly: two missed hours are an accident of scheduling, three are none."""

LAG_MAX_SHARE = 0.5
"""Share of the recovery point objective that a replica may be behind the home."""


class EvidenceAge(NamedTuple):
    """How old the evidence of one level may be."""

    level: str
    max_age: timedelta
    what: str
    """What the level proves, in words."""


def evidence_ages(restore_test_days: int, drill_days: int) -> tuple[EvidenceAge, ...]:
    """The levels whose age is judged.

    Args:
        restore_test_days: most days since the newest passed V4.
        drill_days: most days since the newest passed V5.
    """
    return (
        EvidenceAge("V1", STRUCTURE_MAX_AGE, "log and packs whole"),
        EvidenceAge("V4", timedelta(days=restore_test_days), "restored and opened"),
        EvidenceAge("V5", timedelta(days=drill_days), "another region's drill"),
    )


def lag_of(replica: Replica) -> float:
    """Seconds that the copy's newest snapshot is older than the home's; 0 for the home itself."""
    if replica.home_snapshot_at is None:
        return 0.0
    if replica.snapshot_at is None:
        return (replica.looked_at - replica.home_snapshot_at).total_seconds()
    return max((replica.home_snapshot_at - replica.snapshot_at).total_seconds(), 0.0)


def check_covered_networks(
    stated: Mapping[str, int], objectives: Sequence[RecoveryObjective], home_region: str
) -> CheckVerdict:
    """Every network whose agents have states has a verified snapshot in the region that writes.

    Args:
        stated: network -> number of its agents that have a state.
        objectives: rows of all regions.
        home_region: the region that writes.
    """
    verified = {
        row.network_id for row in objectives if row.region == home_region and row.v1_at is not None
    }
    taken = {row.network_id for row in objectives if row.snapshot_at is not None}
    offenders = [
        Offender(
            network_id,
            home_region,
            f"{agents} agents, snapshot not verified yet"
            if network_id in taken
            else f"{agents} agents and no snapshot",
        )
        for network_id, agents in stated.items()
        if network_id not in verified
    ]
    return judge(
        "{offenders} of {checked} networks have no verified snapshot", len(stated), offenders
    )


def check_damaged_states(snapshots: Sequence[TakenSnapshot]) -> CheckVerdict:
    """No agent's live state was damaged when its network was backed up last."""
    offenders = [
        Offender(agent_id, row.network_id, "its live state does not match its digest")
        for row in snapshots
        for agent_id in row.damaged
    ]
    agents = sum(row.agents for row in snapshots)
    return judge("{offenders} of {checked} agents had a damaged live state", agents, offenders)


def check_replicas(replicas: Sequence[Replica], rpo_max_s: int) -> CheckVerdict:
    """No region's copy is behind the home by more than half of what may be lost.

    Args:
        replicas: newest rows of all regions.
        rpo_max_s: the recovery point objective.
    """
    limit_s = LAG_MAX_SHARE * rpo_max_s
    copies = [row for row in replicas if not row.is_home]
    behind = [row for row in copies if lag_of(row) > limit_s]
    offenders = [
        Offender(
            row.network_id, row.region, f"{_span(lag_of(row))} behind, at most {_span(limit_s)}"
        )
        for row in behind
    ]
    return judge(
        "{offenders} of {checked} replicas are behind",
        len(copies),
        offenders,
        numbers={"lag_max_s": max((lag_of(row) for row in copies), default=0.0)},
    )


def check_damage(levels: Sequence[ProvenLevel]) -> CheckVerdict:
    """The newest verification of each level, region and network found nothing wrong."""
    offenders = [
        Offender(row.network_id, row.region, f"{row.level}: {'; '.join(row.failures[:3])}")
        for row in levels
        if not row.passed
    ]
    return judge(
        "{offenders} of {checked} newest verifications found damage", len(levels), offenders
    )


def check_evidence_age(
    objectives: Sequence[RecoveryObjective], age: EvidenceAge, now: datetime
) -> CheckVerdict:
    """The newest passed verification of a level is not too old, anywhere.

    Args:
        objectives: rows of all regions; those without any snapshot have nothing to prove.
        age: the level and its limit.
        now: the moment of the check.
    """
    limit_s = age.max_age.total_seconds()
    due = [row for row in objectives if row.first_snapshot_at is not None]
    oldest_s, never = 0.0, 0
    offenders = []
    for row in due:
        proven_at: datetime | None = getattr(row, f"{age.level.lower()}_at")
        since = proven_at or row.first_snapshot_at or now
        age_s = (now - since).total_seconds()
        oldest_s = max(oldest_s, age_s)
        never += proven_at is None
        if age_s > limit_s:
            said = "passed" if proven_at else "never passed, first snapshot"
            detail = f"{said} {_span(age_s)} ago, at most {_span(limit_s)}"
            offenders.append(Offender(row.network_id, row.region, detail))
    waiting = f", {never} not due yet" if never and not offenders else ""
    return judge(
        f"{age.level} ({age.what}) is older than {_span(limit_s)} for {{offenders}} of {{checked}} "
        f"copies{waiting}",
        len(due),
        offenders,
        numbers={"oldest_s": oldest_s, "never_passed": never, "max_age_s": limit_s},
    )


def check_recovery_point(
    objectives: Sequence[RecoveryObjective], rpo_max_s: int, now: datetime
) -> CheckVerdict:
    """No network would lose more than the objective if a region had to bring it back now."""
    due = [row for row in objectives if row.first_snapshot_at is not None]
    lost = {(row.region, row.network_id): rpo_at(row, now) for row in due}
    offenders = [
        Offender(network_id, region, f"would lose {_span(seconds)}, at most {_span(rpo_max_s)}")
        for (region, network_id), seconds in lost.items()
        if seconds > rpo_max_s
    ]
    return judge(
        f"{{offenders}} of {{checked}} copies would lose more than {_span(rpo_max_s)}",
        len(due),
        offenders,
        numbers={"rpo_max_s": max(lost.values(), default=0.0)},
    )


def rpo_at(row: RecoveryObjective, now: datetime) -> float:
    """Seconds that would be lost at a moment; everything since the first snapshot without cover."""
    since = row.covered_until or row.first_snapshot_at or now
    return max((now - since).total_seconds(), 0.0)


def check_recovery_time(objectives: Iterable[RecoveryObjective], rto_max_s: int) -> CheckVerdict:
    """The newest drill of each copy was done within the objective; without one there is no claim.

    That drills are run at all is a claim of its own (`check_evidence_age`).
    """
    measured = [row for row in objectives if row.rto_s is not None]
    offenders = [
        Offender(
            row.network_id, row.region, f"took {_span(row.rto_s or 0)}, at most {_span(rto_max_s)}"
        )
        for row in measured
        if (row.rto_s or 0.0) > rto_max_s
    ]
    return judge(
        f"{{offenders}} of {{checked}} drills took longer than {_span(rto_max_s)}",
        len(measured),
        offenders,
        severity=Severity.ERROR,
        numbers={"rto_max_s": max((row.rto_s or 0.0 for row in measured), default=0.0)},
    )


def _span(seconds: float) -> str:
    """A length of time as a person says it."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
