"""Claims about rescaling, judged on what the store holds: limits, flapping, no place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from fleet.declared_checks import EVERYWHERE
from fleet.inventory_checks import CheckVerdict, Offender, Severity, judge
from fleet.placement.quotas import NetworkLimits, ResourceQuota, ResourceUse
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.standing import LoggedDecision, ScaledAgent, ScalingStanding
from fleet.rescaling.telling import Verdict

TURNS_PER_HOUR_MAX = 4
"""Changes of direction in an hour: a calendar and one wave of load make two."""

_HOUR = timedelta(hours=1)
_MOVES = {Verdict.UP: 1, Verdict.DOWN: -1}


def check_limits(decisions: Iterable[LoggedDecision]) -> CheckVerdict:
    """Every decision lies within the limits that held when it was made.

    A person's word stands above them, and a workload found outside is brought inside.
    """
    found = list(decisions)
    offenders = [
        Offender(
            one.workload,
            one.region,
            f"{one.desired} replicas at {one.last_at.isoformat(timespec='seconds')}, "
            f"allowed {one.min_replicas} to {one.max_replicas}: {one.reason}",
        )
        for one in found
        if one.verdict in _MOVES and not one.min_replicas <= one.desired <= one.max_replicas
    ]
    said = "{offenders} of {checked} decisions lie outside of their limits"
    return judge(said, len(found), offenders)


def check_quotas(limits: Iterable[NetworkLimits], uses: Mapping[str, ResourceUse]) -> CheckVerdict:
    """No network is allocated more than its quota.

    A warning: a quota may have been lowered below what is in use, which touches nobody.

    Args:
        limits: of the networks that have some.
        uses: of the same networks; absent: nothing is in use.
    """
    found = [one for one in limits if one.quota != ResourceQuota()]
    over = [
        (one.network_id, f"{name} {used} of {bound}")
        for one in found
        for name, bound, used in zip(
            ResourceQuota._fields,
            one.quota,
            uses.get(one.network_id, ResourceUse()),
            strict=True,
        )
        if bound is not None and used > bound
    ]
    offenders = [Offender(network_id, EVERYWHERE, what) for network_id, what in over]
    said = "{offenders} quantities of {checked} networks with a quota are above it"
    return judge(said, len(found), offenders, severity=Severity.WARN)


def check_flapping(decisions: Iterable[LoggedDecision], now: datetime) -> CheckVerdict:
    """No workload has changed its direction too often within the last hour."""
    moves: dict[tuple[str, str], list[LoggedDecision]] = {}
    for one in sorted(decisions, key=lambda each: (each.first_at, each.decision_id)):
        if one.verdict in _MOVES and one.last_at > now - _HOUR:
            moves.setdefault(one.key, []).append(one)
    turns = {key: count_turns([_MOVES[one.verdict] for one in made]) for key, made in moves.items()}
    offenders = [
        Offender(*key, f"{count} changes of direction in an hour, {TURNS_PER_HOUR_MAX} are allowed")
        for key, count in sorted(turns.items())
        if count > TURNS_PER_HOUR_MAX
    ]
    return judge(
        "{offenders} of {checked} workloads that were scaled go up and down all the time",
        len(turns),
        offenders,
        severity=Severity.WARN,
        numbers={"turns_per_hour_max": max(turns.values(), default=0)},
    )


def count_turns(directions: Sequence[int]) -> int:
    """How often a sequence of ups (1) and downs (-1) changes its direction."""
    return sum(one != other for one, other in pairwise(directions))


def check_placed(
    agents: Iterable[ScaledAgent], scaled_lately: Collection[tuple[str, str]]
) -> CheckVerdict:
    """Every agent that is wanted has a node, or a reason why it has none.

    Args:
        agents: of all workloads that are scaled.
        scaled_lately: workloads and regions that a run may be scaling up right now: a new agent of
            theirs may wait for its first placement.
    """
    wanted = [one for one in agents if one.is_wanted]
    offenders = [
        Offender(one.agent.agent_id, one.agent.region, "declared, and never placed")
        for one in wanted
        if one.placement is None and (one.agent.workload, one.agent.region) not in scaled_lately
    ]
    parked = [
        one.placement for one in wanted if one.placement and one.placement.desired == "parked"
    ]
    offenders += [
        Offender(one.agent_id, one.region, "parked without a reason")
        for one in parked
        if not one.reason.strip()
    ]
    return judge(
        "{offenders} of {checked} agents that are wanted have no node and no reason",
        len(wanted),
        offenders,
        numbers={"agents_wanted": len(wanted), "agents_parked": len(parked)},
    )


def check_standings(standings: Iterable[ScalingStanding | DamagedStanding]) -> CheckVerdict:
    """What is remembered of every workload can be read: whose is damaged is held, unseen by load.

    Args:
        standings: all that are stored, also of workloads that are scaled no more.
    """
    found = list(standings)
    offenders = [
        Offender(one.workload, one.region, f"{one.damage}; {one.hint}")
        for one in found
        if isinstance(one, DamagedStanding)
    ]
    return judge("{offenders} of {checked} standings are damaged", len(found), offenders)


def check_sources(decisions: Iterable[LoggedDecision]) -> CheckVerdict:
    """The newest decision about every workload was made with its eyes open.

    Args:
        decisions: the newest one of each workload and region.
    """
    newest = list(decisions)
    offenders = [
        Offender(one.workload, one.region, one.reason)
        for one in newest
        if one.verdict == Verdict.BLIND
    ]
    return judge(
        "{offenders} of {checked} workloads are decided without metrics",
        len(newest),
        offenders,
        severity=Severity.WARN,
    )
