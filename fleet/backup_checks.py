"""Are the backups there, proven, copied and young enough? One pure function for each claim.

Everything is judged at the moment of the check, from rows that hold moments: evidence that nobody
renews turns a claim red by growing old, without anything failing. A copy whose first evidence of a
level is not due yet is set aside, for as long as that evidence might be old, counted from the first
snapshot; then it is red like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from fleet.backup_declaration import PLATFORM_NETWORK
from fleet.backup_tables import ProvenLevel, ShreddedNetwork, TakenSnapshot
from fleet.inventory_checks import CheckVerdict, Offender, judge
from fleet.recovery_objectives import (
    NOTHING_KNOWN,
    ObjectivePolicy,
    RecoveryFigures,
    check_backup_age,
    check_replica_lag,
    check_rpo,
    check_rto,
    check_verified,
    span_text,
)
from fleet.recovery_rows import CopyFacts

SERIES_MAX = 12
"""Copies that have a plot of their own in a check."""

Check = Callable[[Sequence[RecoveryFigures], ObjectivePolicy], CheckVerdict]


def check_covered_networks(
    stated: Mapping[str, int],
    copies: Sequence[CopyFacts],
    home_region: str,
    shredded: Sequence[ShreddedNetwork] = (),
) -> CheckVerdict:
    """Every network whose agents have states has a verified snapshot in the region that writes.

    Args:
        stated: network -> number of its agents that have a state.
        copies: of all regions.
        home_region: the region that writes.
        shredded: networks that somebody had shredded: they are set aside, and named.
    """
    gone = {one.network_id: one for one in shredded if one.network_id in stated}
    home = {copy.facts.network_id: copy for copy in copies if copy.facts.region == home_region}
    offenders = []
    for network_id, agents in stated.items():
        if network_id in gone:
            continue
        copy = home.get(network_id)
        if copy is None:
            offenders.append(Offender(network_id, home_region, f"{agents} agents and no snapshot"))
        elif "V1" not in copy.facts.verified_at:
            detail = f"{agents} agents, and no snapshot was verified yet"
            offenders.append(Offender(network_id, home_region, detail))
    claim = "{offenders} of {checked} networks have no verified snapshot"
    verdict = judge(claim, len(stated) - len(gone), offenders, numbers={"shredded": len(gone)})
    said = "".join(
        f"; network {one.network_id} is set aside: shredded on "
        f"{one.shredded_at:%Y-%m-%d %H:%M} UTC by {one.by}: {one.reason}"
        for one in gone.values()
    )
    return verdict._replace(reason=verdict.reason + said)


def excuse_shredded(
    verdict: CheckVerdict, networks: Collection[str], shredded: Sequence[ShreddedNetwork]
) -> CheckVerdict:
    """A verdict without copies is no failure when every network was shredded: nothing is due.

    Args:
        verdict: about copies of agent networks.
        networks: all that are declared.
        shredded: those that somebody had shredded.
    """
    gone = {one.network_id for one in shredded}
    if verdict.offenders != (NOTHING_KNOWN,) or not networks or not gone.issuperset(networks):
        return verdict
    named = ", ".join(sorted(networks))
    return judge(f"nothing is left to be proven: {named} was shredded", 0, [])


def check_damaged_states(snapshots: Sequence[TakenSnapshot]) -> CheckVerdict:
    """No agent's live state was damaged when its network was backed up last."""
    offenders = [
        Offender(agent_id, row.network_id, "its live state does not match its digest")
        for row in snapshots
        for agent_id in row.damaged
    ]
    agents = sum(row.agents for row in snapshots)
    return judge("{offenders} of {checked} agents had a damaged live state", agents, offenders)


def check_incomplete(snapshots: Sequence[TakenSnapshot]) -> CheckVerdict:
    """No newest snapshot lacks an artefact that it was to hold."""
    offenders = [
        Offender(missing.partition(": ")[0], row.network_id, missing.partition(": ")[2])
        for row in snapshots
        for missing in row.incomplete
    ]
    checked = sum(len(row.artefacts) for row in snapshots)
    claim = "{offenders} of {checked} artefacts are not whole in the newest snapshot"
    return judge(claim, checked, offenders)


def check_platform_age(
    copies: Sequence[CopyFacts], policy: ObjectivePolicy, now: datetime
) -> CheckVerdict:
    """The fleet's own stores were backed up lately, and lie in every region."""
    own = [copy.figures(now) for copy in copies if copy.facts.network_id == PLATFORM_NETWORK]
    if not own:
        return judge("the platform itself has no snapshot yet", 0, [])
    return check_backup_age(own, policy)


def agent_copies(copies: Sequence[CopyFacts]) -> list[CopyFacts]:
    """Copies of agent networks: objectives are about what agents have done."""
    return [copy for copy in copies if copy.facts.network_id != PLATFORM_NETWORK]


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
    figures = [copy.figures(now) for copy in copies]
    return _with_series(check_rpo(figures, policy), figures, "rpo_s")


def check_lag(copies: Sequence[CopyFacts], policy: ObjectivePolicy, now: datetime) -> CheckVerdict:
    """No region's copy is further behind the home than a snapshot may be old."""
    figures = [copy.figures(now) for copy in copies]
    return _with_series(check_replica_lag(figures, policy), figures, "replica_lag_s")


def _with_series(
    verdict: CheckVerdict, figures: Sequence[RecoveryFigures], name: str
) -> CheckVerdict:
    """A verdict with the figure of each copy, which the UI plots over time.

    Args:
        verdict: about the figures.
        figures: of all copies; the worst `SERIES_MAX` are shown.
        name: of the figure.
    """
    known = [(getattr(one, name), one) for one in figures if getattr(one, name) is not None]
    worst = sorted(known, key=lambda each: -each[0])[:SERIES_MAX]
    series = {f"{name} of {one.network_id} in {one.region}": value for value, one in worst}
    return verdict._replace(numbers={**verdict.numbers, **series})


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
