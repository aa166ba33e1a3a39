"""What consolidation takes and answers: policy, nodes with their agents, proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.disruption_budgets import DisruptionBudget
from fleet.placement.quotas import NetworkLimits, ResourceUse
from fleet.placement.requests import PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration
from fleet.workload_budgets import Disturbed, WorkloadBudget

PLAN_TABLE = "consolidation_plan"


class Kind(StrEnum):
    """How nodes are given back."""

    EMPTY = "empty"
    """They hold no agent."""
    MULTI = "multi"
    """The agents of several fit on the others together."""
    SINGLE = "single"
    """The agents of one fit on the others."""


class Standing(StrEnum):
    """How far a proposal has come."""

    PLANNED = "planned"
    """Once; it waits for its second look."""
    VALIDATED = "validated"
    """Found twice; a person may carry it out."""
    DROPPED = "dropped"
    """Not found a second time, or over a limit; the reason says which."""


@dataclass(frozen=True, slots=True)
class ConsolidationPolicy:
    """When emptying a node is worth it."""

    validate_after_s: float = 15.0
    """Source: Karpenter, consolidationTTL."""
    score_min: float = 0.5
    """Share of the region's spend saved, over the share of its agents disturbed."""
    settle_s: float = 6 * 3600.0
    """How long new nodes, and nodes that took agents in, are no candidates."""
    headroom_ratio: float = 0.1
    """Share of each remaining node that stays free."""
    nodes_at_once: int = 10
    budgets: tuple[DisruptionBudget, ...] = (DisruptionBudget("default", percent=10.0),)
    """Of the nodes of a region."""
    workload_budgets: tuple[WorkloadBudget, ...] = ()
    """Of the agents of a workload in a region."""


class NodeLoad(NamedTuple):
    """A node with what it holds and costs."""

    node: NodeDeclaration
    agents: tuple[AgentDeclaration, ...]
    price_per_hour: float
    ready: bool
    """Whether it works and is not being worked on."""
    since: datetime | None
    """When its supervisor started; None where nobody knows."""


class Fit(NamedTuple):
    """Whether agents of emptied nodes find room, and where."""

    moves: Mapping[str, str]
    """Agent -> node that would take it; empty when they do not all fit."""
    shortage: str
    """What is lacking, in words; '' when all fit."""
    disturbed: tuple[Disturbed, ...] = ()
    """Who is disturbed by it."""


Fits = Callable[[Sequence[NodeLoad], Sequence[NodeLoad]], Fit]
"""(emptied nodes, nodes that stay) -> where their agents would go."""


RulesByWorkload = Mapping[tuple[str, str], PlacementRules]
"""(network, workload) -> what its agents ask for; absent ones ask for nothing."""


class FitTerms(NamedTuple):
    """What agents must keep to wherever they go, beside room."""

    rules: Mapping[tuple[str, str], PlacementRules] = {}
    limits: Sequence[NetworkLimits] = ()
    used: Mapping[str, ResourceUse] = {}
    """By network with limits: what all its placed agents are allocated, in every region."""


NO_TERMS = FitTerms()


class ConsolidationProposal(NamedTuple):
    """Nodes of a region that could be given back together."""

    proposal_id: str
    kind: str
    """`empty`, `multi` or `single`."""
    region: str
    nodes: tuple[str, ...]
    agents_moved: int
    taken_by: tuple[str, ...]
    """Nodes that would take the agents in."""
    saving_per_hour: float
    saving_ratio: float
    """Of the region's spend on nodes."""
    disruption_ratio: float
    """Of the region's agents."""
    score: float | None
    """Quotient of the two; None where no agent is disturbed."""
    standing: str
    """`planned`, `validated` or `dropped`."""
    reason: str
    looked_at: datetime
    disturbs: tuple[str, ...] = ()
    """Each as `node network/workload agents`: who is moved, and who is of no use meanwhile."""


def reason_of(kind: str) -> str:
    """The reason that budgets know a kind of proposal by."""
    return "empty" if kind == Kind.EMPTY else "underutilized"
