"""Could other regions take a lost one's agents over now? One claim at a time, with its reason.

Nothing is assumed to work because it worked once: room is planned as the failover itself would
plan it, backups are judged by the age of their evidence, and the controller by its lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.agents import Placement
from fleet.backup_checks import check_level, check_recovery_point
from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.controller_view import KeptView
from fleet.failover.policy import RegionMode
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_tables import Readiness, ReadinessRow
from fleet.inventory import Agent, Node, NodePhase
from fleet.inventory_checks import HOLDING_PHASES, CheckVerdict, Offender, Severity, judge
from fleet.leases import Lease
from fleet.node_health import VIEW_MAX_AGE_S
from fleet.placement.parking import NO_NODE
from fleet.placement.requests import PlacementRules
from fleet.recovery_objectives import EVIDENCE_LEVELS, ObjectivePolicy
from fleet.recovery_rows import CopyFacts
from fleet.relocation import RelocationTargets, plan_relocation
from fleet.reports import declaration_of, node_declaration_of

CAPACITY = "targets_have_room"
YOUNG, VERIFIED, KEYS = "backups_are_young", "backups_are_verified", "keys_are_at_hand"
TRAFFIC, LEADER = "traffic_can_be_switched", "a_controller_leads"
OBSERVERS, ALLOWED = "observers_report", "automation_is_on"

JUDGED_MAX_AGE = timedelta(minutes=20)
"""Oldest judgement that counts; one is made every few minutes."""

TRAFFIC_BREAKERS = ("traffic/", "registry/")
"""Begin the names of circuit breakers around adapters of traffic and discovery."""


@dataclass(frozen=True, slots=True)
class TakeoverFacts:
    """What is known of the fleet when a takeover is judged; the same for every region."""

    nodes: Sequence[Node]
    agents: Sequence[Agent]
    unread: Mapping[str, str]
    """Region -> why its inventory cannot be read."""
    failover: FailoverDeclaration
    copies: Sequence[CopyFacts]
    backed_up: frozenset[str]
    """Networks that are declared to be backed up."""
    objectives: ObjectivePolicy
    keys_fault: str
    """Why no key opens the backups; '' when one does."""
    leader: Lease | None
    kept: KeptView | None
    paused: str
    """Who paused the automation and why; '' while it runs."""
    services: int
    """Known to the service registry, which has answered."""
    breakers: Sequence[BreakerStatus]
    """Of all processes, reported lately."""
    now: datetime
    rules: Mapping[str, PlacementRules] = field(default_factory=dict)
    """By workload: which GPU models its agents need."""


def judge_takeover(facts: TakeoverFacts, region: str) -> list[ReadinessRow]:
    """One row for each claim about the loss of a region, in a fixed order.

    Args:
        facts: of the whole fleet.
        region: that would be lost.
    """
    networks = sorted({one.network_id for one in _leaving(facts, region)})
    found = {
        CAPACITY: _capacity(facts, region),
        YOUNG: _young(facts, region, networks),
        VERIFIED: _verified(facts, region, networks),
        KEYS: _keys(facts, networks),
        TRAFFIC: _traffic(facts),
        LEADER: _leader(facts),
        OBSERVERS: _observers(facts),
        ALLOWED: _allowed(facts, region),
    }
    return [
        ReadinessRow(region, claim, verdict, reason, facts.now)
        for claim, (verdict, reason) in found.items()
    ]


_Judged = tuple[Readiness, str]


def _leaving(facts: TakeoverFacts, region: str) -> list[Agent]:
    return [
        one
        for one in facts.agents
        if one.region == region and one.node_id and one.phase in HOLDING_PHASES
    ]


def _capacity(facts: TakeoverFacts, region: str) -> _Judged:
    """Plan the evacuation as the failover would, and count who stays without a place."""
    targets = facts.failover.targets.get(region, ())
    if not targets:
        return Readiness.WAIVED, "no region takes its agents in: once lost, it stays lost"
    missing = [f"{one}: {facts.unread[one]}" for one in (region, *targets) if one in facts.unread]
    if missing:
        return Readiness.NOT_READY, f"the inventory cannot be read: {'; '.join(missing)}"
    leaving = [_placement(one, facts.now) for one in _leaving(facts, region)]
    wanted = {region, *targets}
    agents = [one for one in facts.agents if one.region in wanted]
    nodes = [
        node_declaration_of(one)
        for one in facts.nodes
        if one.region in targets and one.phase == NodePhase.RUNNING
    ]
    moves = plan_relocation(
        leaving,
        [_placement(one, facts.now) for one in agents if one.region != region and one.node_id],
        {one.agent_id: declaration_of(one) for one in agents},
        RelocationTargets(
            nodes, targets, facts.failover.head_room, at_home=False, rules=facts.rules
        ),
        because=f"region {region} was lost",
        now=facts.now,
        term=0,
    )
    parked = [one.after for one in moves if one.after.node_id == NO_NODE]
    where = f"{len(nodes)} nodes of {', '.join(targets)}, {facts.failover.head_room:.0%} kept free"
    if parked:
        first = parked[0].reason.partition("; ")[2]
        reason = f"{len(parked)} of {len(moves)} agents have no place on {where}; {first}"
        return Readiness.NOT_READY, reason
    return Readiness.READY, f"all {len(moves)} agents have a place on {where}"


def _young(facts: TakeoverFacts, region: str, networks: Sequence[str]) -> _Judged:
    def fault(copy: CopyFacts) -> str:
        verdict = check_recovery_point([copy], facts.objectives, facts.now)
        return "" if verdict.passed else _detail(verdict)

    return _each_network(facts, region, networks, fault, "could lose no more than the objective")


def _verified(facts: TakeoverFacts, region: str, networks: Sequence[str]) -> _Judged:
    def fault(copy: CopyFacts) -> str:
        for level in EVIDENCE_LEVELS:
            verdict = check_level([copy], level, facts.objectives, facts.now)
            if not verdict.passed:
                return f"{level}: {_detail(verdict)}"
        return ""

    return _each_network(facts, region, networks, fault, "has evidence of every level that is due")


def _detail(verdict: CheckVerdict) -> str:
    return verdict.offenders[0].detail if verdict.offenders else verdict.reason


def _each_network(
    facts: TakeoverFacts,
    region: str,
    networks: Sequence[str],
    fault: Callable[[CopyFacts], str],
    claim: str,
) -> _Judged:
    """Every network of the region has one copy elsewhere that is without fault."""
    wrong, bare = [], []
    for network_id in networks:
        if network_id not in facts.backed_up:
            bare.append(network_id)
            continue
        copies = [
            one
            for one in facts.copies
            if one.facts.network_id == network_id and one.facts.region != region
        ]
        faults = [f"{one.facts.region}: {fault(one)}" for one in copies if fault(one)]
        if len(faults) == len(copies):
            wrong.append(f"{network_id} ({'; '.join(faults) or 'no copy in another region'})")
    if wrong:
        return Readiness.NOT_READY, f"{len(wrong)} of {len(networks)} networks: {_few(wrong)}"
    if bare:
        reason = f"not backed up, lost with the control store: {_few(bare)}"
        return Readiness.WAIVED, reason
    return Readiness.READY, f"a copy of each of {len(networks)} networks elsewhere {claim}"


def _keys(facts: TakeoverFacts, networks: Sequence[str]) -> _Judged:
    if not facts.backed_up.intersection(networks):
        return Readiness.WAIVED, "nothing here is backed up, so nothing needs a key"
    if facts.keys_fault:
        return Readiness.NOT_READY, facts.keys_fault
    return Readiness.READY, "a wrapping key that opens the backups is at hand"


def _traffic(facts: TakeoverFacts) -> _Judged:
    shut = [
        f"{one.name} of {one.holder}: {one.reason}"
        for one in facts.breakers
        if one.name.startswith(TRAFFIC_BREAKERS) and one.phase is not BreakerPhase.CLOSED
    ]
    if shut:
        return Readiness.NOT_READY, f"adapters do not answer: {_few(shut)}"
    told = f"the registry answers ({facts.services} services), no adapter is cut off"
    return Readiness.READY, told


def _leader(facts: TakeoverFacts) -> _Judged:
    lease = facts.leader
    if lease is None or not lease.holder or lease.expires_at <= facts.now:
        return Readiness.NOT_READY, "nobody holds the leader lease, so nobody would move anything"
    return Readiness.READY, f"{lease.holder} leads under term {lease.term}"


def _observers(facts: TakeoverFacts) -> _Judged:
    kept = facts.kept
    if kept is None:
        return Readiness.NOT_READY, "no controller has told what it sees"
    age_s = (facts.now - kept.kept_at).total_seconds()
    if age_s > VIEW_MAX_AGE_S:
        return Readiness.NOT_READY, f"the newest look of a controller is {age_s:.0f} s old"
    view = kept.view
    told = f"{view.observers_reporting} of {view.observers_configured} observers report"
    if 2 * view.observers_reporting <= view.observers_configured:
        return Readiness.NOT_READY, f"only {told}: no majority can confirm a loss"
    if view.frozen_by:
        return Readiness.NOT_READY, f"the controller is frozen by {', '.join(view.frozen_by)}"
    return Readiness.READY, f"{told}; the controller is one of them, outside of every region"


def _allowed(facts: TakeoverFacts, region: str) -> _Judged:
    policy = facts.failover.policy
    mode = policy.region_modes.get(region, policy.region_mode)
    if not facts.failover.enabled:
        return Readiness.WAIVED, "failover.enabled is false: only commands move agents"
    if facts.paused:
        return Readiness.NOT_READY, f"paused by {facts.paused}"
    if mode is RegionMode.OFF:
        return Readiness.WAIVED, "failover.region_mode is off: only commands evacuate a region"
    how = "a person approves it" if mode is RegionMode.APPROVE else "by itself"
    return Readiness.READY, f"it would be evacuated, {how}"


def check_readiness(
    rows: Iterable[ReadinessRow], regions: Sequence[str], now: datetime
) -> CheckVerdict:
    """Every claim about every region holds, or is waived by the settings.

    Args:
        rows: newest of each region.
        regions: that there should be rows of.
        now: the moment; what was judged long ago proves nothing.
    """
    known = list(rows)
    offenders = [
        Offender(row.claim, row.region, row.reason)
        for row in known
        if row.verdict == Readiness.NOT_READY
    ]
    judged = {row.region: row.looked_at for row in known}
    offenders += [
        Offender("readiness", one, "never judged") for one in regions if one not in judged
    ]
    offenders += [
        Offender("readiness", one, f"judged last at {at:%Y-%m-%d %H:%M} UTC, too long ago")
        for one, at in judged.items()
        if now - at > JUDGED_MAX_AGE
    ]
    waived = sum(row.verdict == Readiness.WAIVED for row in known)
    claim = "{offenders} of {checked} claims about a takeover do not hold"
    numbers = {"waived": waived}
    return judge(claim, len(known), offenders, severity=Severity.WARN, numbers=numbers)


def _placement(agent: Agent, now: datetime) -> Placement:
    return Placement(
        agent.agent_id,
        agent.network_id,
        agent.workload,
        agent.node_id,
        agent.region,
        agent.epoch,
        0,
        "running",
        agent.reason,
        now,
    )


def _few(told: Sequence[str], shown_max: int = 3) -> str:
    more = f"; and {len(told) - shown_max} more" if len(told) > shown_max else ""
    return "; ".join(told[:shown_max]) + more
