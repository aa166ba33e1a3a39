"""How many nodes may be disrupted, within a window that rolls.

A budget without a window lets a faster controller disrupt more (kubernetes-sigs/karpenter 2909);
here what was disrupted within the window counts, however often the planner runs. Of several budgets
the strictest holds. Source of number, percentage, reasons, schedule and duration: Karpenter,
NodePool disruption budgets; percentages round up, as there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.cron import parse_cron
from fleet.errors import InvalidInputError

REASONS = ("empty", "underutilized")
"""Why a node may be disrupted."""


class DisruptionBudget(NamedTuple):
    """At most so many nodes of a region within a window."""

    name: str
    nodes: int | None = None
    """Number; None where `percent` says it."""
    percent: float | None = None
    """Of the region's nodes, rounded up."""
    reasons: tuple[str, ...] = ()
    """That it is about; empty for all."""
    window_s: float = 86_400.0
    """0 counts only what is disrupted at this moment."""
    schedule: str = ""
    """When it begins to hold; empty: always."""
    duration_s: float = 0.0
    """How long it holds from then on."""

    def holds(self, reason: str, now: datetime) -> bool:
        """Whether the budget limits disruptions for a reason at a moment."""
        if self.reasons and reason not in self.reasons:
            return False
        if not self.schedule:
            return True
        since = now - timedelta(seconds=self.duration_s)
        begun = parse_cron(self.schedule, f"disruption_budgets.{self.name}.schedule")
        latest = begun.latest(now, since)
        return latest is not None and latest > since

    def limit(self, nodes: int) -> int:
        """How many nodes of a region of so many it allows within its window."""
        if self.nodes is not None:
            return self.nodes
        # 10 % of 30 is 3, not the 4 that 3.0000000000000004 would be rounded up to
        return math.ceil(round(nodes * (self.percent or 0.0) / 100, 9))


class Disruption(NamedTuple):
    """A node that was emptied, or that it was decided to empty."""

    node_id: str
    region: str
    reason: str
    at: datetime
    taken_by: tuple[str, ...] = ()
    """Nodes that took its agents in."""
    disturbs: tuple[str, ...] = ()
    """Who was disturbed with it, as `fleet.workload_budgets.Disturbed` writes it."""


class Allowance(NamedTuple):
    """How many more nodes of a region may be disrupted now, and which budget says so."""

    nodes: int
    reason: str


def allowance(
    budgets: Sequence[DisruptionBudget],
    region: str,
    nodes: int,
    reason: str,
    recent: Iterable[Disruption],
    now: datetime,
) -> Allowance:
    """What is left of the strictest budget.

    Args:
        budgets: all of them.
        region: whose nodes.
        nodes: how many it has.
        reason: one of `REASONS`.
        recent: disruptions of any region, in any order.
        now: the moment.
    """
    here = [one for one in recent if one.region == region]
    found = Allowance(nodes, "no budget holds now")
    for budget in budgets:
        if not budget.holds(reason, now):
            continue
        since = now - timedelta(seconds=budget.window_s)
        counted = len(
            {
                one.node_id
                for one in here
                if since < one.at <= now and (not budget.reasons or one.reason in budget.reasons)
            }
        )
        limit = budget.limit(nodes)
        left = max(0, limit - counted)
        if left < found.nodes:
            text = f"budget {budget.name}: {limit} of {nodes} nodes in {budget.window_s:g} s"
            found = Allowance(left, f"{text}, {counted} taken")
    return found


def parse_count(field: str, text: str) -> tuple[int | None, float | None]:
    """A number of nodes, or a percentage.

    Raises:
        InvalidInputError: it is neither, or no part of a whole.
    """
    allowed = "a whole number from 0, or a percentage from 0% to 100%"
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            if 0 <= percent <= 100:
                return None, percent
        elif int(text) >= 0:
            return int(text), None
    except ValueError as error:
        raise InvalidInputError(field, text, allowed) from error
    raise InvalidInputError(field, text, allowed)


def validate_budget(budget: DisruptionBudget) -> DisruptionBudget:
    """Return a budget that means something.

    Raises:
        InvalidInputError: an unknown reason, a schedule that is none or has no duration.
    """
    where = f"disruption_budgets.{budget.name}"
    for reason in budget.reasons:
        if reason not in REASONS:
            raise InvalidInputError(f"{where}.reasons", reason, " or ".join(REASONS))
    if budget.schedule:
        parse_cron(budget.schedule, f"{where}.schedule")
        if not budget.duration_s > 0:
            raise InvalidInputError(
                f"{where}.duration_hours", budget.duration_s / 3600, "above 0 with a schedule"
            )
    return budget
