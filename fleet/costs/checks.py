"""Claims about costs, advice, proposals and forecasts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from fleet.agents import Workload
from fleet.capacity import CapacityForecast, CapacityPolicy
from fleet.cleanup import CleanupProposal
from fleet.consolidation.records import ConsolidationProposal, Standing
from fleet.costs.prices import PriceBook, RateTable
from fleet.inventory import Agent, Node
from fleet.inventory_checks import CheckVerdict, Offender, Severity, judge

ANOMALY_RATIO = 1.5
"""Spend above so many times the trailing median is no ordinary growth."""
LOOKS_MIN = 12
"""Looks below which there is no median to compare with: half a day."""
TRAILING_DAYS = 7


def check_spend(spends: Sequence[float], ratio: float = ANOMALY_RATIO) -> CheckVerdict:
    """The newest spend is not far above the median of those before it.

    Args:
        spends: of an hour, at each look, oldest first.
        ratio: above which it is an anomaly.
    """
    if len(spends) <= LOOKS_MIN:
        reason = f"{len(spends)} looks; {LOOKS_MIN + 1} are needed to know what is usual"
        return CheckVerdict(
            True, Severity.WARN, reason, (), {"checked": len(spends), "offenders": 0}
        )
    usual, newest = median(spends[:-1]), spends[-1]
    times = newest / usual if usual else 0.0
    offenders = []
    if newest > usual * ratio:
        detail = f"{newest:.4g} an hour is {times:.2f} times the usual {usual:.4g}"
        offenders = [Offender("spend", "all regions", detail)]
    return judge(
        f"{newest:.4g} an hour, usually {usual:.4g}",
        1,
        offenders,
        severity=Severity.WARN,
        numbers={"spend_per_hour": newest, "usual_per_hour": usual, "ratio": times},
    )


def check_prices(nodes: Iterable[Node], book: PriceBook) -> CheckVerdict:
    """Every node has a price above nothing: a free node is a mistake in the price book."""
    table = RateTable(book)
    checked, offenders = 0, []
    for node in nodes:
        checked += 1
        if not table.of(node).node_hour > 0:
            offenders.append(Offender(node.node_id, node.region, "its price is 0"))
    return judge("{offenders} of {checked} nodes have no price", checked, offenders)


def check_sizes(declared: Iterable[Workload], agents: Iterable[Agent]) -> CheckVerdict:
    """Agents are allocated what the settings say: no advice has been applied by itself.

    Args:
        declared: workloads of the settings.
        agents: as they are declared in the control store.
    """
    sizes = {(one.network_id, one.workload): (one.cpu_milli, one.memory_bytes) for one in declared}
    checked, offenders = 0, []
    for agent in agents:
        wanted = sizes.get((agent.network_id, agent.workload))
        if wanted is None:
            continue
        checked += 1
        if (agent.cpu_milli, agent.memory_bytes) != wanted:
            detail = (
                f"allocated {agent.cpu_milli} milli, {agent.memory_bytes} bytes; "
                f"the settings say {wanted[0]} milli, {wanted[1]} bytes"
            )
            offenders.append(Offender(agent.agent_id, agent.region, detail))
    summary = "{offenders} of {checked} agents are allocated something else than the settings say"
    return judge(summary, checked, offenders, severity=Severity.WARN)


def check_validated(rows: Sequence[ConsolidationProposal]) -> CheckVerdict:
    """Every proposal that stands was found twice: none is left merely planned."""
    offenders = [
        Offender(row.proposal_id, row.region, "planned once, never looked at again")
        for row in rows
        if row.standing == Standing.PLANNED
    ]
    return judge("{offenders} of {checked} proposals were looked at once", len(rows), offenders)


def check_forecast(rows: Sequence[CapacityForecast], policy: CapacityPolicy) -> CheckVerdict:
    """No region is full, or will be, within the days that are asked for."""
    soon = [
        row for row in rows if row.days_to_full is not None and row.days_to_full < policy.warn_days
    ]
    offenders = [
        Offender(
            f"{row.region} {row.resource}",
            row.region,
            f"full in {row.days_to_full:.1f} days: {row.reason}",
        )
        for row in soon
    ]
    worst = {f"{row.region} {row.resource}" for row in soon if row.days_to_full == 0}
    return judge(
        f"{{offenders}} of {{checked}} are full within {policy.warn_days:g} days",
        len(rows),
        offenders,
        severity=Severity.WARN,
        worst=worst,
    )


def check_loss(rows: Sequence[CapacityForecast], policy: CapacityPolicy) -> CheckVerdict:
    """Every region has room for the agents of its largest nodes on the others."""
    offenders = [
        Offender(
            f"{row.region} {row.resource}",
            row.region,
            f"{-row.free_after_loss:.4g} too little after the loss of {policy.nodes_lost}",
        )
        for row in rows
        if not row.holds_loss
    ]
    return judge(
        f"{{offenders}} of {{checked}} could not lose {policy.nodes_lost} nodes",
        len(rows),
        offenders,
        severity=Severity.WARN,
    )


def check_cleanup(rows: Sequence[CleanupProposal]) -> CheckVerdict:
    """Nothing is left behind but what is held."""
    offenders = [
        Offender(row.subject, row.region, f"{row.kind}, {row.size_bytes} bytes: {row.reason}")
        for row in rows
        if not row.held
    ]
    return judge(
        "{offenders} of {checked} things left behind are not held",
        len(rows),
        offenders,
        severity=Severity.WARN,
    )
