"""The fleet on one screen: what the counts of the regions say, and what is wrong, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.circuit_breaker import BreakerStatus, breaker_findings
from fleet.journal import JournalEntry
from fleet.reports import RegionCounts


class FleetStatus(NamedTuple):
    """The whole fleet in numbers, with its findings."""

    regions: tuple[RegionCounts, ...]
    nodes: int
    nodes_live: int
    nodes_silent: int
    agents_declared: int
    agents_running: int
    agents_failed: int
    agents_unknown: int
    oldest_report_at: datetime | None
    """When the store last heard of the node it has not heard of for longest."""
    incidents: tuple[JournalEntry, ...]
    """First steps of actions that have started and not ended, oldest first."""
    findings: tuple[str, ...]
    """What is wrong, one sentence each; empty when nothing is."""
    breakers: tuple[BreakerStatus, ...] = ()
    """Circuit breakers as their processes reported them, also closed ones, by name."""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def summarize_fleet(
    regions: Sequence[RegionCounts],
    incidents: Iterable[JournalEntry],
    breakers: Iterable[BreakerStatus] = (),
) -> FleetStatus:
    """Add the regions up and say what is wrong.

    An agent that is declared, and neither running nor failed nor unknown, is on its way (or
    stopped on purpose) and so no finding; a region without a live node is one, because nobody
    reports for it.

    Args:
        regions: counts as the store gives them.
        incidents: one entry for each action that is not finished.
        breakers: circuit breakers as the processes reported them.

    Returns:
        The status; `findings` go from regions to agents to incidents to open breakers.
    """
    incidents, breakers = tuple(incidents), tuple(sorted(breakers))
    findings = [sentence for region in regions for sentence in _region_findings(region)]
    findings += [f"incident {i.action_id}: {i.subject}: {i.reason}" for i in incidents]
    findings += breaker_findings(breakers)
    reports = [region.oldest_report_at for region in regions if region.oldest_report_at]
    return FleetStatus(
        regions=tuple(regions),
        nodes=sum(region.nodes for region in regions),
        nodes_live=sum(region.nodes_live for region in regions),
        nodes_silent=sum(region.nodes_silent for region in regions),
        agents_declared=sum(region.agents_declared for region in regions),
        agents_running=sum(region.agents_running for region in regions),
        agents_failed=sum(region.agents_failed for region in regions),
        agents_unknown=sum(region.agents_unknown for region in regions),
        oldest_report_at=min(reports) if reports else None,
        incidents=incidents,
        findings=tuple(findings),
        breakers=breakers,
    )


def _region_findings(region: RegionCounts) -> list[str]:
    findings = []
    if region.nodes and not region.nodes_live:
        findings.append(f"{region.region}: none of {region.nodes} nodes is live")
    elif region.nodes_silent:
        findings.append(f"{region.region}: {region.nodes_silent} of {region.nodes} nodes silent")
    if region.agents_failed:
        findings.append(f"{region.region}: {region.agents_failed} agents failed")
    if region.agents_unknown:
        findings.append(f"{region.region}: {region.agents_unknown} agents unknown (node silent)")
    return findings
