"""Are the backups there, proven, copied and young enough? One pure function for each claim.

Everything is judged at the moment of the check, from rows that hold moments: evidence that nobody
renews turns a claim red by growing old, without anything failing. A copy whose first evidence of a
level is not due yet is set aside, for as long as that evidence might be old, counted from the first
snapshot; then it is red like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from fleet.backup_tables import ProvenLevel, TakenSnapshot
from fleet.inventory_checks import CheckVerdict, Offender, judge
from fleet.recovery_objectives import (
    ObjectivePolicy,
    RecoveryFigures,
    check_replica_lag,
    check_rpo,
    check_rto,
    check_verified,
    span_text,
)
from fleet.recovery_rows import CopyFacts

Check = Callable[[Sequence[RecoveryFigures], ObjectivePolicy], CheckVerdict]


def check_covered_networks(
    stated: Mapping[str, int], copies: Sequence[CopyFacts], home_region: str
) -> CheckVerdict:
    """Every network whose agents have states has a verified snapshot in the region that writes.

    Args:
        stated: network -> number of its agents that have a state.
        copies: of all regions.
        home_region: the region that writes.
    """
    home = {copy.facts.network_id: copy for copy in copies if copy.facts.region == home_region}
    offenders = []
    for network_id, agents in stated.items():
        copy = home.get(network_id)
        if copy is None:
            offenders.append(Offender(network_id, home_region, f"{agents} agents and no snapshot"))
        elif "V1" not in copy.facts.verified_at:
            detail = f"{agents} agents, and no snapshot was verified yet"
            offenders.append(Offender(network_id, home_region, detail))
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


def check_damage(levels: Sequence[ProvenLevel]) -> CheckVerdict:
    """The newest verification of each level, region and network found nothing wrong."""
    offenders = [
        Offender(row.network_id, row.region, f"{row.level}: {'; '.join(row.failures[:3])}")
        for row in levels
        if not row.passed
    ]
    claim = "{offenders} of {checked} newest verifications found damage"
    return judge(claim, len(levels), offenders)


def check_level(
    copies: Sequence[CopyFacts], level: str, policy: ObjectivePolicy, now: datetime
) -> CheckVerdict:
    """No copy's newest passed verification of a level is too old, and none is overdue."""

    def check(figures: Sequence[RecoveryFigures], policy: ObjectivePolicy) -> CheckVerdict:
        return check_verified(figures, level, policy)

    limit_s = getattr(policy, f"{level.lower()}_max_age_s")
    first = {id(copy) for copy in copies if level not in copy.facts.verified_at}
    return _check_due(copies, first, limit_s, check, policy, now)


def check_recovery_time(
    copies: Sequence[CopyFacts], policy: ObjectivePolicy, now: datetime
) -> CheckVerdict:
    """The newest drill of each copy passed within the objective; a first one may be due yet."""
    first = {id(copy) for copy in copies if copy.facts.drill is None}
    return _check_due(copies, first, policy.v5_max_age_s, check_rto, policy, now)


def check_recovery_point(
    copies: Sequence[CopyFacts], policy: ObjectivePolicy, now: datetime
) -> CheckVerdict:
    """No region would lose more than the objective if it had to bring a network back now."""
    return check_rpo([copy.figures(now) for copy in copies], policy)


def check_lag(copies: Sequence[CopyFacts], policy: ObjectivePolicy, now: datetime) -> CheckVerdict:
    """No region's copy is further behind the home than a snapshot may be old."""
    return check_replica_lag([copy.figures(now) for copy in copies], policy)


def _check_due(
    copies: Sequence[CopyFacts],
    first: Collection[int],
    limit_s: float,
    check: Check,
    policy: ObjectivePolicy,
    now: datetime,
) -> CheckVerdict:
    """Judge the copies that have evidence, or should have it by now.

    Args:
        copies: all of them.
        first: `id` of those without any evidence.
        limit_s: how long they may be without it, from their first snapshot on.
        check: judges the others.
        policy: for the check.
        now: the moment.
    """
    waiting = {
        id(copy): limit_s - (now - copy.first_snapshot_at).total_seconds()
        for copy in copies
        if id(copy) in first and (now - copy.first_snapshot_at).total_seconds() <= limit_s
    }
    due = [copy.figures(now) for copy in copies if id(copy) not in waiting]
    if copies and not due:
        soonest = span_text(min(waiting.values()))
        verdict = judge(f"none of {len(copies)} copies is due yet, the first in {soonest}", 0, [])
    else:
        verdict = check(due, policy)
    return verdict._replace(numbers={**verdict.numbers, "not_due_yet": len(waiting)})
