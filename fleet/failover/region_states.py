"""How much of a region is lost, and when a whole region may be given up.

NORMAL, PARTIAL (so many nodes at once that the cause is rather shared), FULL (no node is left).
In a FULL region no node is moved singly: that would pour a region's agents over the rest without
a capacity check. After the verdict time, and with most deaths confirmed, the region is ripe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from fleet.failover.mark_table import MarkTable
from fleet.failover.node_states import LOST
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    NodeState,
    Reason,
    RegionMark,
    RegionState,
    Transition,
)
from fleet.failover.rules import Rule
from fleet.failover.screening import Screen

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray, NodeColumns

REHEARSAL = "rehearsal"
"""In `RegionMark.told`: the rehearsal of the fail-back has been asked for."""

UNPROVEN = "unproven"
"""In `RegionMark.told`: a loss was not proven in the last tick."""


class RegionCount(NamedTuple):
    """A region's nodes in numbers."""

    region: str
    watched: int
    """Nodes of which a sign of life is expected."""
    lost: int = 0
    """Of these: suspect, confirmed, fenced or moved."""
    confirmed: int = 0
    """Of the lost: with a verdict."""
    unhealthy: int = 0
    """Nodes that are anything but healthy, at the side states too."""
    unproven: int = 0
    """Of the lost: not terminated, and not silent for long enough since the ages restarted."""

    def reasons(self, policy: FailoverPolicy) -> tuple[Reason, ...]:
        """The numbers as reasons."""
        return (
            Reason("nodes_lost", self.lost, self.watched),
            Reason("nodes_confirmed", self.confirmed, policy.region_confirmed_fraction * self.lost),
        )


def count_regions(
    nodes: NodeColumns,
    screen: Screen,
    marks: MarkTable,
    ordered: frozenset[str] = frozenset(),
) -> dict[str, RegionCount]:
    """Count each region's nodes, in array passes over all nodes and over the marked ones.

    A node that a person ordered away counts as lost only where its evidence says so, too: the
    order says nothing about its region, unless the whole region was ordered away.

    Args:
        nodes: all nodes.
        screen: of this tick.
        marks: those that are not plainly healthy.
        ordered: subjects that people ordered away.
    """
    import numpy as np

    size = len(nodes.regions)
    totals = np.bincount(nodes.region_index[screen.watched], minlength=size)
    rows = marks.rows(lambda mark: mark.state is not NodeState.HEALTHY)
    at = marks.at[rows]
    region, gone = nodes.region_index[at], screen.silent[at] | screen.terminated[at]
    lost = marks.where(lambda mark: mark.state in LOST)[rows]
    suspect = marks.where(lambda mark: mark.state is NodeState.SUSPECT)[rows]
    by_order = _by_order(nodes, marks, ordered)[rows]
    if by_order.any():
        alive = screen.fresh[at] | screen.alive_votes[at] | screen.contradicted[at]
        proven = screen.terminated[at] | (gone & ~alive)
        lost, suspect = np.where(by_order, proven, lost), suspect & ~by_order
    lost = lost & screen.watched[at]
    columns = (
        totals,
        *(
            np.bincount(region[chosen], minlength=size)
            for chosen in (lost, lost & ~suspect, np.ones_like(lost), lost & ~gone)
        ),
    )
    rows_of_counts = zip(nodes.regions, *(column.tolist() for column in columns), strict=True)
    return {row[0]: RegionCount(*row) for row in rows_of_counts}


def _by_order(nodes: NodeColumns, marks: MarkTable, ordered: frozenset[str]) -> BoolArray:
    """Rows whose verdict is a person's order for the node alone."""
    import numpy as np

    found = marks.where(lambda mark: mark.confirmed_by == "forced")
    for subject in ordered:
        row = marks.row_of(subject.removeprefix("node/")) if subject.startswith("node/") else None
        if row is not None:
            found[row] = True
    regions = [i for i, name in enumerate(nodes.regions) if f"region/{name}" in ordered]
    if regions:
        found &= ~np.isin(nodes.region_index[marks.at], regions)
    return found


def region_state(count: RegionCount, policy: FailoverPolicy) -> RegionState:
    """Classify one region by its numbers."""
    if count.lost and count.lost >= count.watched:
        return RegionState.FULL
    share = count.lost / count.watched if count.watched else 0.0
    if count.lost >= policy.partial_nodes_min and share >= policy.partial_fraction:
        return RegionState.PARTIAL
    return RegionState.NORMAL


def judge_regions(
    counts: Mapping[str, RegionCount],
    marks: Mapping[str, RegionMark],
    policy: FailoverPolicy,
    now_s: float,
) -> tuple[dict[str, RegionMark], list[Transition]]:
    """Carry the marks of all regions through this tick.

    Returns:
        Marks of regions that are not normal or that an evacuation still concerns, and the changes.
    """
    after: dict[str, RegionMark] = {}
    transitions = []
    for name, count in counts.items():
        mark = marks.get(name, RegionMark(name))
        state = region_state(count, policy)
        if state is not mark.state:
            rule = Rule.REGION_PARTIAL if state is RegionState.PARTIAL else Rule.REGION_SUSPECT
            transitions.append(
                Transition(f"region/{name}", mark.state, state, rule, count.reasons(policy))
            )
            mark = mark._replace(state=state, since_s=now_s, told=())
        if state is RegionState.FULL:
            mark = _hold_verdict(mark, count, now_s)
        if count.unhealthy > 0 or count.watched == 0:  # a relapse: rehearse and wait again
            told = tuple(word for word in mark.told if word != REHEARSAL)
            mark = mark._replace(calm_s=None, told=told)
        elif mark.calm_s is None:
            mark = mark._replace(calm_s=now_s)
        if is_remembered(mark):
            after[name] = mark
    return after, transitions


def _hold_verdict(mark: RegionMark, count: RegionCount, now_s: float) -> RegionMark:
    """The verdict's time begins in the first tick in which every loss is proven."""
    if count.unproven > 0:
        return mark._replace(since_s=now_s, told=(*_without_hold(mark), UNPROVEN))
    if UNPROVEN in mark.told:
        return mark._replace(since_s=now_s, told=_without_hold(mark))
    return mark


def _without_hold(mark: RegionMark) -> tuple[str, ...]:
    return tuple(word for word in mark.told if word != UNPROVEN)


def is_remembered(mark: RegionMark) -> bool:
    """Tell whether a region's mark still matters."""
    lost = mark.state is not RegionState.NORMAL
    return lost or bool(mark.incident) or mark.evacuated_s is not None


def verdict_wait_s(
    mark: RegionMark, count: RegionCount, policy: FailoverPolicy, now_s: float
) -> float | None:
    """How long until a FULL region is ripe: 0 when it is, None when votes are missing."""
    left_s = policy.region_verdict_s - (now_s - mark.since_s)
    if count.confirmed <= policy.region_confirmed_fraction * count.lost:
        return None
    return max(0.0, left_s)


def evacuations_elsewhere(
    region: str, marks: Iterable[RegionMark], policy: FailoverPolicy, now_s: float
) -> list[str]:
    """Other regions that have been evacuated and have not been calm for long since."""
    return sorted(
        mark.region
        for mark in marks
        if mark.region != region
        and mark.evacuated_s is not None
        and (mark.calm_s is None or now_s - mark.calm_s < policy.fail_back_calm_s)
    )
