"""How many agents of one workload may be disturbed, within a window that rolls.

A budget of nodes lets all agents of a workload be moved at once when they share a node; a budget of
a workload does not. It counts over all agents that it has in a region. Whoever moves one member of
a gang disturbs all of it: the others are of no use meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.disruption_budgets import Disruption, DisruptionBudget
from fleet.names import validate_name
from fleet.placement.requests import NO_RULES, PlacementRules
from fleet.reports import AgentDeclaration


class WorkloadBudget(NamedTuple):
    """At most so many agents of each workload in a region within a window."""

    budget: DisruptionBudget
    """Its number or percentage is of agents; window, reasons and schedule are as for nodes."""
    workloads: tuple[str, ...] = ()
    """Names; empty for every workload."""

    def counts(self, workload: str, reason: str, now: datetime) -> bool:
        """Whether it limits the disturbance of a workload at a moment."""
        named = not self.workloads or workload in self.workloads
        return named and self.budget.holds(reason, now)


class Disturbed(NamedTuple):
    """So many agents of a workload that are disturbed with a node."""

    node_id: str
    network_id: str
    workload: str
    agents: int

    def __str__(self) -> str:
        return f"{self.node_id} {self.network_id}/{self.workload} {self.agents}"


def parse_disturbed(text: str) -> Disturbed:
    """What `str` made of it; none of the names may hold a blank or a slash.

    Raises:
        InvalidInputError: one of the names is none.
    """
    node_id, _, rest = text.partition(" ")
    names, _, agents = rest.rpartition(" ")
    network_id, _, workload = names.partition("/")
    return Disturbed(
        validate_name("node_id", node_id),
        validate_name("network_id", network_id),
        validate_name("workload", workload),
        int(agents),
    )


def count_disturbed(
    moving: Iterable[tuple[str, AgentDeclaration]],
    region: Iterable[AgentDeclaration],
    rules: Mapping[tuple[str, str], PlacementRules],
) -> list[Disturbed]:
    """Who is disturbed when agents leave their nodes: themselves, and the rest of their gangs.

    Args:
        moving: node and agent, of all that would move.
        region: all agents of the region, those that move among them.
        rules: by (network, workload).

    Returns:
        By node and workload, each agent once; the rest of a gang counts with the first node that
        a member leaves.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    known: set[str] = set()
    first: dict[tuple[str, str], str] = {}
    for node_id, agent in moving:
        counts[node_id, agent.network_id, agent.workload] += 1
        known.add(agent.agent_id)
        gang = rules.get((agent.network_id, agent.workload), NO_RULES).gang
        if gang:
            first.setdefault((agent.network_id, gang), node_id)
    if first:
        for agent in region:
            gang = rules.get((agent.network_id, agent.workload), NO_RULES).gang
            left = first.get((agent.network_id, gang)) if gang else None
            if left is not None and agent.agent_id not in known:
                counts[left, agent.network_id, agent.workload] += 1
    return [Disturbed(*key, agents) for key, agents in sorted(counts.items())]


def refuse_disturbance(
    budgets: Sequence[WorkloadBudget],
    region: str,
    sizes: Mapping[tuple[str, str], int],
    asked: Iterable[Disturbed],
    reason: str,
    recent: Iterable[Disruption],
    now: datetime,
) -> str:
    """Which budget a disturbance would pass, in words; '' when all allow it.

    Args:
        budgets: all of them.
        region: whose agents.
        sizes: by (network, workload): how many agents it has there.
        asked: who would be disturbed.
        reason: one of `fleet.disruption_budgets.REASONS`.
        recent: disruptions of any region, in any order.
        now: the moment.
    """
    wanted: Counter[tuple[str, str]] = Counter()
    for one in asked:
        wanted[one.network_id, one.workload] += one.agents
    here = [one for one in recent if one.region == region] if budgets else []
    taken_of = [_taken(limit.budget, here, now) for limit in budgets]
    for key in sorted(wanted):
        for limit, taken in zip(budgets, taken_of, strict=True):
            allowed = limit.budget.limit(sizes.get(key, 0))
            if limit.counts(key[1], reason, now) and taken[key] + wanted[key] > allowed:
                return (
                    f"budget {limit.budget.name}: {allowed} of {sizes.get(key, 0)} agents of "
                    f"{key[0]}/{key[1]} in {limit.budget.window_s:g} s, {taken[key]} taken, "
                    f"{wanted[key]} asked"
                )
    return ""


def _taken(
    budget: DisruptionBudget, here: Iterable[Disruption], now: datetime
) -> Counter[tuple[str, str]]:
    """Agents of each workload that were disturbed within a budget's window."""
    since = now - timedelta(seconds=budget.window_s)
    taken: Counter[tuple[str, str]] = Counter()
    for one in here:
        if since < one.at <= now and (not budget.reasons or one.reason in budget.reasons):
            for found in map(parse_disturbed, one.disturbs):
                taken[found.network_id, found.workload] += found.agents
    return taken
