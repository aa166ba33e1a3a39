"""A decision in the making: one tick's facts, the marks as they change, what has been said so far.

The only mutable object of the decision; it lives for one call of `decide`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from fleet.failover.columns import NodeColumns
from fleet.failover.judging import OrderColumns
from fleet.failover.mark_table import MarkDraft
from fleet.failover.policy import FailoverPolicy
from fleet.failover.reasons import deaths_of
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
    Transition,
)
from fleet.failover.region_states import RegionCount
from fleet.failover.rules import Rule
from fleet.failover.screening import FactsTable

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray


@dataclass
class Draft:
    """What `decide` has so far."""

    evidence: Evidence
    policy: FailoverPolicy
    now_s: float
    without: frozenset[Rule]
    facts: FactsTable
    """Of the nodes that have a mark; in the same rows."""
    nodes: MarkDraft
    orders: OrderColumns
    """Of people, in the same rows."""
    regions: dict[str, RegionMark]
    counts: Mapping[str, RegionCount]
    moves: list[MoveNote]
    parked: dict[str, float]
    actions: list[Action] = field(default_factory=list)
    non_actions: list[NonAction] = field(default_factory=list)
    node_transitions: Sequence[Transition] = ()
    region_transitions: Sequence[Transition] = ()
    incidents: dict[str, IncidentFact] = field(default_factory=dict)
    """By id, as the store holds them."""
    open_by_subject: dict[str, str] = field(default_factory=dict)
    gone: dict[str, NodeMark] = field(default_factory=dict)
    """Marks with an open incident whose nodes are not declared any more."""
    _deaths: dict[int, tuple[Reason, ...]] = field(default_factory=dict)

    @cached_property
    def stamp(self) -> str:
        """The moment, as names of incidents carry it."""
        return f"{self.evidence.at:%Y%m%dT%H%M%S}"

    @cached_property
    def withheld(self) -> frozenset[str]:
        """Moves that an earlier tick has admitted and that could not be ordered then."""
        return frozenset(note.key for note in self.moves if not note.ordered)

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

    def full_rows(self) -> BoolArray:
        """Rows of regions that are to be judged as a whole."""
        import numpy as np

        full = np.array([self.is_full(region) for region in self.facts.regions], dtype=bool)
        rows: BoolArray = full[self.facts.region_index]
        return rows

    def death_reasons(self, rows: Sequence[int]) -> list[tuple[Reason, ...]]:
        """What speaks for moving the agents of nodes; an incident and a move say the same."""
        known = self._deaths
        fresh = [row for row in rows if row not in known] if known else rows
        known.update(zip(fresh, deaths_of(self.facts.columns, fresh, self.policy), strict=True))
        return [known[row] for row in rows]

    def is_forced(self, subject: str) -> bool:
        """Tell whether a person has ordered it."""
        return subject in self.evidence.directives.forced

    def is_ordered(self, node_id: str, region: str) -> bool:
        """Tell whether a person has ordered the node or its region away."""
        return self.is_forced(f"node/{node_id}") or self.is_forced(f"region/{region}")

    def is_approved(self, action: Action) -> bool:
        """Tell whether a person has approved this action, or another step of the same failover."""
        approved = self.evidence.directives.approved
        return bool(approved) and not action.approval_keys.isdisjoint(approved)

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
