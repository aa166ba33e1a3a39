"""The same rules, node by node: a dumb twin of the tick that judges alike nodes at once.

Each function stands in for one that goes by shared marks and arrays. It reads every node's own
mark and facts, in a loop, and asks `judge_node` about each; it uses none of what makes the tick
quick. `decide_one_by_one` is `decide` with all of them put in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np

from fleet.failover.columns import NodeColumns
from fleet.failover.decide import decide
from fleet.failover.draft import Draft
from fleet.failover.incident_steps import (
    _end_gone,
    _end_node,
    _end_region,
    _open,
    _pending,
    _region_incident,
    verdict_rule,
)
from fleet.failover.judging import Question
from fleet.failover.mark_table import MarkDraft, MarkTable
from fleet.failover.node_case import Orders
from fleet.failover.node_states import LOST, judge_node
from fleet.failover.reasons import death_reasons
from fleet.failover.records import Decision, NodeMark, NodeState, Transition
from fleet.failover.region_states import RegionCount
from fleet.failover.screening import Screen


def _marks(draft: Draft) -> Iterator[NodeMark]:
    for name in sorted(draft.nodes):
        yield draft.nodes[name]


def judge_marks(question: Question, marks: MarkDraft) -> list[Transition]:
    """Every node by itself."""
    transitions: list[Transition] = []
    for row, name in enumerate(marks.names):
        orders = question.orders
        mine = Orders(bool(orders.forced[row]), bool(orders.acknowledged[row]))
        facts = question.facts[name]
        policy, now_s, without = question.policy, question.now_s, question.without
        judged = judge_node(facts, marks[name], policy, now_s, mine, without)
        marks[name] = judged.mark
        transitions += judged.transitions
    return transitions


def count_regions(
    nodes: NodeColumns, screen: Screen, marks: MarkTable, ordered: frozenset[str] = frozenset()
) -> dict[str, RegionCount]:
    """One step per node."""
    counts = {name: RegionCount(name, 0) for name in nodes.regions}
    for index, name in enumerate(nodes.node_ids):
        count = counts[nodes.region_of(index)]
        watched = bool(screen.watched[index])
        count = count._replace(watched=count.watched + watched)
        mark = marks.get(name)
        if mark is not None and mark.state is not NodeState.HEALTHY:
            state, gone = mark.state, bool(screen.silent[index] or screen.terminated[index])
            by_order = mark.confirmed_by == "forced" or f"node/{name}" in ordered
            if by_order and f"region/{count.region}" not in ordered:
                alive = (
                    screen.fresh[index] or screen.alive_votes[index] or screen.contradicted[index]
                )
                proven = screen.terminated[index] or (gone and not alive)
                state = NodeState.CONFIRMED if proven else NodeState.MAINTENANCE
            lost = watched and state in LOST
            count = count._replace(
                lost=count.lost + lost,
                confirmed=count.confirmed + (lost and state is not NodeState.SUSPECT),
                unhealthy=count.unhealthy + 1,
                unproven=count.unproven + (lost and not gone),
            )
        counts[count.region] = count
    return counts


def adopt_incidents(draft: Draft) -> None:
    """One step per open incident."""
    for subject, incident in draft.open_by_subject.items():
        kind, _, name = subject.partition("/")
        if kind == "node" and name in draft.nodes:
            mark = draft.nodes[name]
            draft.nodes[name] = mark._replace(incident=mark.incident or incident)
        elif kind == "node":
            draft.gone.setdefault(name, NodeMark(name, incident=incident))
        elif kind == "region" and name in draft.counts:
            from fleet.failover.records import RegionMark

            region = draft.regions.get(name, RegionMark(name))
            draft.regions[name] = region._replace(incident=region.incident or incident)


def open_incidents(draft: Draft) -> None:
    """One step per node."""
    for mark in list(_marks(draft)):
        if mark.state not in {NodeState.CONFIRMED, NodeState.FENCED} or mark.incident:
            continue
        facts = draft.facts[mark.node_id]
        if draft.is_full(facts.region) and not draft.is_forced(f"node/{mark.node_id}"):
            incident = _region_incident(draft, facts.region)
        else:
            reasons = death_reasons(facts, draft.policy)
            incident = _open(draft, f"node/{mark.node_id}", verdict_rule(mark), reasons)
        draft.nodes[mark.node_id] = mark._replace(incident=incident)
    for region in sorted(_to_evacuate(draft)):
        _region_incident(draft, region)


def _to_evacuate(draft: Draft) -> set[str]:
    """Regions that must be given up, or agents stay where nobody moves them."""
    found = set()
    for mark in _marks(draft):
        facts = draft.facts[mark.node_id]
        judged = mark.state in {NodeState.CONFIRMED, NodeState.FENCED}
        forced = draft.is_forced(f"node/{mark.node_id}")
        if judged and facts.agents > 0 and draft.is_full(facts.region) and not forced:
            found.add(facts.region)
    return found


def end_incidents(draft: Draft) -> None:
    """One step per node."""
    shared = {mark.incident for mark in draft.regions.values() if mark.incident}
    _end_gone(draft, shared)
    unfinished = set()
    for mark in list(_marks(draft)):
        if not mark.incident:
            continue
        if mark.state in {NodeState.CONFIRMED, NodeState.FENCED, NodeState.SUSPECT}:
            unfinished.add(mark.incident)
        elif mark.incident in shared:
            draft.nodes[mark.node_id] = mark._replace(incident="")
        elif _pending(draft, mark.incident) == 0:
            _end_node(draft, mark)
    for region in list(draft.regions.values()):
        unmoved = region.incident in unfinished or region.region in _to_evacuate(draft)
        if region.incident and not unmoved:
            _end_region(draft, region)


def may_ask(draft: Draft) -> Any:
    """Every node with a verdict, unless its region is judged as a whole."""
    found = np.zeros(len(draft.nodes), dtype=bool)
    for row, mark in enumerate(_marks(draft)):
        region = draft.facts[mark.node_id].region
        judged = mark.state in {NodeState.CONFIRMED, NodeState.FENCED}
        found[row] = judged and (
            not draft.is_full(region) or draft.is_ordered(mark.node_id, region)
        )
    return found


def apply(marks: MarkDraft, rows: Any, change: Any) -> None:
    """One step per row."""
    for row in np.asarray(rows, dtype=np.intp).tolist():
        marks.put(row, change(marks.mark(row)))


def where(marks: MarkTable, holds: Any) -> Any:
    """One step per row, each with its own incident."""
    return np.array([holds(marks.mark(row)) for row in range(len(marks.at))], dtype=bool)


def decide_one_by_one(*arguments: Any, **options: Any) -> Decision:
    """`decide`, by the functions above."""
    with ExitStack() as stack:
        for target, stand_in in (
            ("decide.judge_marks", judge_marks),
            ("decide.count_regions", count_regions),
            ("decide.adopt_incidents", adopt_incidents),
            ("decide.open_incidents", open_incidents),
            ("decide.end_incidents", end_incidents),
            ("moving._may_ask", may_ask),
            ("telling._may_be_told", lambda *_: True),
            ("mark_table.MarkDraft.apply", apply),
            ("mark_table.MarkTable.where", where),
        ):
            stack.enter_context(patch(f"fleet.failover.{target}", stand_in))
        return decide(*arguments, **options)
