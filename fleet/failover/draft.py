"""A decision in the making: one tick's facts, the marks as they change, what has been said so far.

The only mutable object of the decision; it lives for one call of `decide`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.failover.columns import NodeColumns
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    Action,
    ActionKind,
    Evidence,
    IncidentFact,
    MoveNote,
    NodeMark,
    NonAction,
    Reason,
    RegionMark,
    RegionState,
    Rule,
    Transition,
)
from fleet.failover.region_states import RegionCount
from fleet.failover.screening import NodeFacts


@dataclass(slots=True)
class Draft:
    """What `decide` has so far."""

    evidence: Evidence
    policy: FailoverPolicy
    now_s: float
    without: frozenset[Rule]
    facts: Mapping[str, NodeFacts]
    """Of the nodes that have a mark."""
    nodes: dict[str, NodeMark]
    regions: dict[str, RegionMark]
    counts: Mapping[str, RegionCount]
    moves: list[MoveNote]
    parked: dict[str, float]
    actions: list[Action] = field(default_factory=list)
    non_actions: list[NonAction] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    incidents: dict[str, IncidentFact] = field(default_factory=dict)
    """By id, as the store holds them."""
    open_by_subject: dict[str, str] = field(default_factory=dict)
    gone: dict[str, NodeMark] = field(default_factory=dict)
    """Marks with an open incident whose nodes are not declared any more."""

    @property
    def columns(self) -> NodeColumns:
        """All nodes."""
        return self.evidence.nodes

    @property
    def term(self) -> int:
        """Term under which this tick acts."""
        return self.evidence.leader.term

    def keeps(self, rule: Rule) -> bool:
        """Tell whether a rule is in force."""
        return rule not in self.without

    def is_full(self, region: str) -> bool:
        """Tell whether a region is to be judged as a whole."""
        mark = self.regions.get(region)
        full = mark is not None and mark.state is RegionState.FULL
        return full and self.keeps(Rule.REGION_SUSPECT)

    def is_forced(self, subject: str) -> bool:
        """Tell whether a person has ordered it."""
        return subject in self.evidence.directives.forced

    def is_ordered(self, node_id: str, region: str) -> bool:
        """Tell whether a person has ordered the node or its region away."""
        return self.is_forced(f"node/{node_id}") or self.is_forced(f"region/{region}")

    def is_approved(self, action: Action) -> bool:
        """Tell whether a person has approved this action, or another step of the same failover."""
        return not action.approval_keys.isdisjoint(self.evidence.directives.approved)

    def refuse(
        self,
        action: Action,
        rule: Rule,
        reasons: tuple[Reason, ...],
        wait_s: float | None = None,
        *,
        approvable: bool = False,
    ) -> None:
        """Record what is not done, and why."""
        self.non_actions.append(NonAction(action, rule, reasons, wait_s, approvable))

    def alert(
        self,
        subject: str,
        rule: Rule,
        reasons: tuple[Reason, ...],
        summary: str,
        incident: str = "",
    ) -> None:
        """Tell people something."""
        self.actions.append(
            Action(
                ActionKind.ALERT,
                subject,
                rule,
                reasons,
                incident=incident,
                term=self.term,
                summary=summary,
            )
        )
