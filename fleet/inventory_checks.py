"""Is the inventory true to itself and to its declaration? One pure function for each claim.

Every check reads its input once, so that 100,000 agents cost tenths of a second, and keeps at most
`OFFENDERS_MAX` offenders: a broken fleet must not break the report about it. The count is exact.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.gpu_fleet import GpuFleetVerdict, check_gpus
from fleet.gpus import SEVERITY as GPU_SEVERITY
from fleet.heartbeats import HeartbeatPolicy, Readiness, classify_heartbeat
from fleet.inventory import Agent, AgentPhase, Gpu, GpuState, Node

OFFENDERS_MAX = 20
"""Most offenders that a verdict names."""

GPU_MILLI = 1000
"""Shares of one whole GPU."""

HOLDING_PHASES = frozenset(
    {AgentPhase.PENDING, AgentPhase.RUNNING, AgentPhase.BACKING_OFF, AgentPhase.UNKNOWN}
)
"""Phases in which an agent uses, or may use at any moment, what it was allocated."""


class Severity(StrEnum):
    """What a failed check means: `error` is wrong now, `warn` needs a look."""

    WARN = "warn"
    ERROR = "error"


class Offender(NamedTuple):
    """One thing that breaks the claim."""

    subject: str
    """Id of the node, agent, GPU or state."""
    region: str
    detail: str
    """What is wrong with it, in words."""


class CheckVerdict(NamedTuple):
    """Outcome of one check."""

    passed: bool
    severity: Severity
    """Only means something when the check has failed."""
    reason: str
    """One sentence: the facts, with counts."""
    offenders: tuple[Offender, ...]
    """At most `OFFENDERS_MAX`, the worst first, then in order of subject and region."""
    numbers: Mapping[str, float]
    """For plots; `checked` and `offenders` are always there, the latter exact."""


def judge(
    summary: str,
    checked: int,
    offenders: Sequence[Offender],
    *,
    severity: Severity = Severity.ERROR,
    worst: Collection[str] = (),
    numbers: Mapping[str, float] | None = None,
) -> CheckVerdict:
    """Build a verdict from the offenders found.

    Args:
        summary: the reason in words; `{offenders}` and `{checked}` are filled in.
        checked: number of things that were looked at.
        offenders: all offenders, in any order.
        worst: subjects to name before all others.
        severity: of a failure.
        numbers: further numbers to plot.
    """
    named = heapq.nsmallest(OFFENDERS_MAX, offenders, lambda o: (o.subject not in worst, *o))
    reason = summary.format(checked=checked, offenders=len(offenders))
    if offenders:
        first = named[0]
        reason = f"{reason}; first: {first.subject} ({first.region}): {first.detail}"
    counts = {"checked": checked, "offenders": len(offenders), **(numbers or {})}
    return CheckVerdict(not offenders, severity, reason, tuple(named), counts)


def check_unique(identities: Iterable[tuple[str, str]], noun: str) -> CheckVerdict:
    """No id occurs twice, neither in one region nor across regions.

    Args:
        identities: (id, region) of every item.
        noun: what an item is called, for the reason.
    """
    seen: dict[str, str] = {}
    again: dict[str, list[str]] = {}
    checked = 0
    for subject, region in identities:
        checked += 1
        if subject in seen:
            again.setdefault(subject, [seen[subject]]).append(region)
        else:
            seen[subject] = region
    offenders = [
        Offender(subject, regions[0], f"{len(regions)} times: {_places(regions)}")
        for subject, regions in again.items()
    ]
    return judge(
        f"{{offenders}} of {len(seen)} {noun} ids occur more than once", checked, offenders
    )


def _places(regions: Sequence[str]) -> str:
    """Name the distinct regions of one id, at most four of them."""
    distinct = sorted(set(regions))
    return ", ".join(distinct[:4]) + (", ..." if len(distinct) > 4 else "")


def check_known_nodes(agents: Iterable[Agent], nodes: Iterable[Node]) -> CheckVerdict:
    """Every agent is placed on a node that is in the inventory, in the node's own region.

    An agent that waits for its first placement is a warning; any other offender is an error.
    """
    regions_of: dict[str, set[str]] = {}
    for node in nodes:
        regions_of.setdefault(node.node_id, set()).add(node.region)
    nowhere: set[str] = set()
    offenders = []
    lost: set[str] = set()
    checked = 0
    for agent in agents:
        checked += 1
        regions = regions_of.get(agent.node_id, nowhere)
        if agent.region in regions:
            continue
        if agent.node_id:
            lost.add(agent.agent_id)
        detail = _placed_wrong(agent.node_id, regions)
        offenders.append(Offender(agent.agent_id, agent.region, detail))
    return judge(
        "{offenders} of {checked} agents are not on a known node",
        checked,
        offenders,
        severity=Severity.ERROR if lost else Severity.WARN,
        worst=lost,
        numbers={"not_placed": len(offenders) - len(lost)},
    )


def _placed_wrong(node_id: str, regions: Collection[str]) -> str:
    """Say why the node of an agent is not one that the agent can be on."""
    if not node_id:
        return "not placed yet"
    if not regions:
        return f"node {node_id} is not in the inventory"
    return f"node {node_id} is in region {_places(sorted(regions))}"


class Resources(NamedTuple):
    """What a node has, or what its agents are allocated, in the units of the records."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    bandwidth_bps: int = 0
    gpu_milli: int = 0
    gpu_memory_bytes: int = 0


def capacity_of(node: Node) -> Resources:
    """What the agents of a node may be allocated together."""
    return Resources(
        node.cpu_milli,
        node.memory_bytes,
        node.bandwidth_bps,
        node.gpu_count * GPU_MILLI,
        node.gpu_memory_bytes,
    )


def sum_allocations(agents: Iterable[Agent]) -> dict[str, Resources]:
    """Add up, by node, what agents in a holding phase are allocated."""
    sums: dict[str, list[int]] = {}
    for agent in agents:
        if agent.phase in HOLDING_PHASES:
            total = sums.get(agent.node_id)
            if total is None:
                total = sums[agent.node_id] = [0, 0, 0, 0, 0]
            total[0] += agent.cpu_milli
            total[1] += agent.memory_bytes
            total[2] += agent.bandwidth_bps
            total[3] += agent.gpu_milli
            total[4] += agent.gpu_memory_bytes
    return {node_id: Resources(*total) for node_id, total in sums.items()}


def check_allocations(agents: Iterable[Agent], nodes: Sequence[Node]) -> CheckVerdict:
    """No node has given its agents more than it has, of anything.

    Agents that have failed, completed or stopped hold nothing. A bandwidth capacity of 0 means that
    none is declared, so it is not enforced. Agents on unknown nodes are another check's concern.
    """
    sums = sum_allocations(agents)
    offenders = []
    fullest = dict.fromkeys(Resources._fields, 0.0)
    for node in nodes:
        used = sums.get(node.node_id)
        if used is None:
            continue
        over = []
        for field, amount, limit in zip(Resources._fields, used, capacity_of(node), strict=True):
            if limit == 0 and (amount == 0 or field == "bandwidth_bps"):
                continue
            if amount > limit:
                over.append(f"{field} {amount} of {limit}")
            if limit:
                fullest[field] = max(fullest[field], amount / limit)
        if over:
            offenders.append(Offender(node.node_id, node.region, "allocated " + ", ".join(over)))
    numbers = {f"fullest_{field}_percent": 100.0 * share for field, share in fullest.items()}
    claim = "{offenders} of {checked} nodes are allocated beyond their capacity"
    return judge(claim, len(nodes), offenders, numbers=numbers)


def check_heartbeats(
    nodes: Iterable[Node], observed_at: Mapping[str, datetime], policy: HeartbeatPolicy
) -> CheckVerdict:
    """Every node that should be up has sent a heartbeat less than `late_s` ago.

    A lost node is an error. A late or pending one is a warning, and so is a clock that runs ahead
    by `late_s` or more: while it does, the node's death would be seen that much later.

    Args:
        nodes: as last observed.
        observed_at: region -> when its nodes were observed, aware UTC. A heartbeat is judged at
            that moment: how long the check itself waited must not make nodes look late.
        policy: the ages in seconds.
    """
    counts = dict.fromkeys(Readiness, 0)
    offenders, oldest_s, skew_max_s = [], 0.0, 0.0
    lost = set()
    for node in nodes:
        readiness, age_s, skew_s = classify_heartbeat(node, observed_at[node.region], policy)
        counts[readiness] += 1
        if age_s is not None and readiness != Readiness.STOPPED:
            oldest_s = max(oldest_s, age_s)
        skew_max_s = max(skew_max_s, skew_s)
        if readiness == Readiness.LOST:
            lost.add(node.node_id)
        ahead = skew_s >= policy.late_s
        if readiness in {Readiness.LATE, Readiness.LOST, Readiness.PENDING} or ahead:
            detail = f"clock {skew_s:.1f} s ahead" if ahead else _silence(node, readiness, age_s)
            offenders.append(Offender(node.node_id, node.region, detail))
    checked = sum(counts.values())
    claim = ", ".join(f"{counts[kind]} {kind}" for kind in Readiness)
    return judge(
        f"of {{checked}} nodes {claim}",
        checked,
        offenders,
        severity=Severity.ERROR if lost else Severity.WARN,
        worst=lost,
        numbers={
            **{kind.value: counts[kind] for kind in Readiness},
            "oldest_heartbeat_s": oldest_s,
            "clock_skew_max_s": skew_max_s,
        },
    )


def _silence(node: Node, readiness: Readiness, age_s: float | None) -> str:
    """Say for how long a node has been silent, and what the infrastructure says of it."""
    heard = "no heartbeat yet" if age_s is None else f"last heartbeat {age_s:.1f} s ago"
    return f"{readiness}, {heard}, phase {node.phase}"


def judge_gpus(
    gpus: Sequence[Gpu],
    nodes: Sequence[Node],
    observed_at: Mapping[str, datetime],
    policy: HeartbeatPolicy,
) -> GpuFleetVerdict:
    """The state of every GPU that is reported or declared; arguments as of `check_gpu_health`."""
    silent = {
        node.node_id
        for node in nodes
        if classify_heartbeat(node, observed_at[node.region], policy).readiness
        not in {Readiness.READY, Readiness.LATE}
    }
    return check_gpus(gpus, nodes, silent_nodes=silent)


def check_gpu_health(
    gpus: Sequence[Gpu],
    nodes: Sequence[Node],
    observed_at: Mapping[str, datetime],
    policy: HeartbeatPolicy,
) -> CheckVerdict:
    """Every GPU is there and healthy, by the rules of `fleet.gpus`.

    A GPU that must not get work (unhealthy, lost) is an error; a degraded or unreadable one is a
    warning. The reports of a node that should be up and is not are not believed.

    Args:
        gpus: the newest record of each.
        nodes: the newest record of each, to find GPUs that are missing.
        observed_at: region -> when its nodes were observed, aware UTC.
        policy: ages of heartbeats in seconds.
    """
    found = judge_gpus(gpus, nodes, observed_at, policy)
    bad = [one for one in found.verdicts if one.state != GpuState.HEALTHY]
    grave = {
        one.gpu_uuid for one in bad if GPU_SEVERITY[one.state] >= GPU_SEVERITY[GpuState.UNHEALTHY]
    }
    offenders = [
        Offender(
            one.gpu_uuid,
            one.region,
            f"{one.state} on {one.node_id}, advised: {one.action}; {'; '.join(one.reasons)}",
        )
        for one in bad
    ]
    return judge(
        found.reason.replace("{", "{{").replace("}", "}}"),
        len(found.verdicts),
        offenders,
        severity=Severity.ERROR if grave else Severity.WARN,
        worst=grave,
        numbers={f"gpus_{state}": count for state, count in found.counts.items()},
    )
