"""When an incident is opened, which one a node belongs to, and when it ends.

A node that dies alone has an incident of its own; the nodes of a region that is wholly lost share
the region's. An incident that the store already holds open for the subject is adopted, so that a
controller that takes over in the middle continues it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.failover.draft import Draft
from fleet.failover.records import (
    Action,
    ActionKind,
    NodeMark,
    NodeState,
    Reason,
    RegionMark,
)
from fleet.failover.rules import Rule

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray, IntArray

_VERDICTS = {"terminated": Rule.TERMINATED, "votes": Rule.VOTE_MAJORITY, "forced": Rule.FORCED}

_OPENING = frozenset({NodeState.CONFIRMED, NodeState.FENCED})
_UNFINISHED = _OPENING | {NodeState.SUSPECT}


def verdict_rule(mark: NodeMark) -> Rule:
    """The rule that a node's verdict rests on."""
    return _VERDICTS[mark.confirmed_by]


def adopt_incidents(draft: Draft) -> None:
    """Take over what the store holds open for subjects that we know no open incident of.

    One that we have named is given up for it when the store does not hold it: it could not be
    opened, or has ended, and a person's order has opened another one since.
    """
    nodes = draft.nodes
    for subject, incident in draft.open_by_subject.items():
        kind, _, name = subject.partition("/")
        if kind == "node":
            row = nodes.row_of(name)
            if row is None:
                draft.gone.setdefault(name, NodeMark(name, incident=incident))
            elif nodes.incident_ids[nodes.incident_codes.item(row)] not in draft.incidents:
                nodes.incident_codes[row] = nodes.incident_code(incident)
        elif kind == "region" and name in draft.counts:
            mark = draft.regions.get(name, RegionMark(name))
            if mark.incident not in draft.incidents:
                draft.regions[name] = mark._replace(incident=incident)


def open_incidents(draft: Draft) -> None:
    """Give every node with a verdict an incident: its own, or its region's.

    A region that is to be given up has one in any case: its last node may have been lost without
    agents, and so without an incident, after all others had one of their own.
    """
    _open_for_nodes(draft)
    for number in sorted(set(draft.facts.region_index[_to_evacuate(draft)].tolist())):
        _region_incident(draft, draft.facts.regions[number])


def _to_evacuate(draft: Draft) -> BoolArray:
    """Rows with a verdict and agents that only the evacuation of their region can move."""
    judged = draft.nodes.where(lambda mark: mark.state in _OPENING)
    rows: BoolArray = judged & (draft.facts.columns["agents"] > 0) & draft.full_rows()
    return rows & ~draft.orders.forced_node


def _open_for_nodes(draft: Draft) -> None:
    nodes, region_index = draft.nodes, draft.facts.region_index
    lacking = nodes.where(lambda mark: mark.state in _OPENING and not mark.incident)
    if not lacking.any():
        return
    shared = lacking & draft.full_rows() & ~draft.orders.forced_node
    first = _first_of_each(region_index, shared)
    single = (lacking & ~shared).nonzero()[0].tolist()
    reasons = dict(zip(single, draft.death_reasons(single), strict=True))
    codes = {}
    for row in sorted((*single, *first)):
        if row in first:
            number = int(region_index[row])
            incident = _region_incident(draft, draft.facts.regions[number])
            nodes.name_incident((shared & (region_index == number)).nonzero()[0], incident)
        else:
            rule = verdict_rule(nodes.shared(row))
            incident = _open(draft, f"node/{nodes.names[row]}", rule, reasons[row])
            codes[row] = nodes.incident_code(incident)
    nodes.incident_codes[list(codes)] = list(codes.values())


def _first_of_each(region_index: IntArray, rows: BoolArray) -> set[int]:
    """The first row of each region among these."""
    import numpy as np

    chosen = np.flatnonzero(rows)
    _, first = np.unique(region_index[chosen], return_index=True)
    return set(chosen[first].tolist())


def _region_incident(draft: Draft, region: str) -> str:
    mark = draft.regions[region]
    if not mark.incident:
        reasons = draft.counts[region].reasons(draft.policy)
        incident = _open(draft, f"region/{region}", Rule.REGION_SUSPECT, reasons)
        mark = mark._replace(incident=incident)
        draft.regions[region] = mark
    return mark.incident


def _open(draft: Draft, subject: str, rule: Rule, reasons: tuple[Reason, ...]) -> str:
    """Id of the subject's incident: the open one, or a new one named by subject and time."""
    known = draft.open_by_subject.get(subject)
    if known is not None:
        return known
    incident = f"{subject.replace('/', '-')}-{draft.stamp}"
    draft.actions.append(
        Action(ActionKind.OPEN_INCIDENT, subject, rule, reasons, incident, draft.term)
    )
    return incident


def end_incidents(draft: Draft) -> None:
    """End what has come to an end: moved and running elsewhere, returned, or contradicted."""
    shared = {mark.incident for mark in draft.regions.values() if mark.incident}
    _end_gone(draft, shared)
    nodes = draft.nodes
    waits = nodes.where(lambda mark: mark.state in _UNFINISHED and bool(mark.incident))
    unfinished = set(nodes.incidents(waits.nonzero()[0]).values())
    over = nodes.where(lambda mark: mark.state not in _UNFINISHED and bool(mark.incident))
    known = nodes.incidents(over.nonzero()[0])
    ended = [
        code
        for code, incident in known.items()
        if incident not in shared and _pending(draft, incident) == 0
    ]
    for row in nodes.rows_in(ended, over).tolist():
        _end_node(draft, nodes.mark(row))
    given_back = [code for code, incident in known.items() if incident in shared]
    nodes.name_incident(nodes.rows_in(given_back, over), "")
    waiting = {draft.facts.regions[i] for i in draft.facts.region_index[_to_evacuate(draft)]}
    for region in list(draft.regions.values()):
        unmoved = region.incident in unfinished or region.region in waiting
        if region.incident and not unmoved:
            _end_region(draft, region)


def _end_gone(draft: Draft, shared: set[str]) -> None:
    """End the incidents of nodes that are not declared any more."""
    for mark in sorted(draft.gone.values()):
        if mark.incident in shared:
            del draft.gone[mark.node_id]
        elif _pending(draft, mark.incident) == 0:
            _end_node(draft, mark)
            del draft.gone[mark.node_id]


def _pending(draft: Draft, incident: str) -> int:
    fact = draft.incidents.get(incident)
    return 0 if fact is None else fact.agents_pending


def _end_node(draft: Draft, mark: NodeMark) -> None:
    gone = mark.node_id in draft.gone
    state = "not declared any more" if gone else mark.state.value
    reasons = (Reason("node_state", state), Reason("agents_pending", 0))
    subject = f"node/{mark.node_id}"
    draft.actions.append(
        Action(
            ActionKind.END_INCIDENT, subject, Rule.PLACED_ELSEWHERE, reasons, mark.incident,
            draft.term,
            summary="the node is not declared any more" if gone else _ending(mark.state),
        )
    )  # fmt: skip
    if not gone:
        draft.nodes[mark.node_id] = mark._replace(incident="")


def _ending(state: NodeState) -> str:
    if state is NodeState.MOVED:
        return "its agents run elsewhere or are parked"
    if state is NodeState.DEGRADED:
        return "fresh evidence contradicts its death; nothing more is moved"
    if state is NodeState.MAINTENANCE:
        return "it was put into maintenance"
    return "it has come back"


def _end_region(draft: Draft, region: RegionMark) -> None:
    if _pending(draft, region.incident) > 0:
        return
    reasons = (Reason("region_state", region.state.value), Reason("agents_pending", 0))
    evacuated = region.evacuated_s is not None
    summary = "its agents run elsewhere or are parked" if evacuated else "it has come back"
    draft.actions.append(
        Action(
            ActionKind.END_INCIDENT, f"region/{region.region}", Rule.REGION_VERDICT, reasons,
            region.incident, draft.term, summary=summary,
        )
    )  # fmt: skip
    draft.regions[region.region] = region._replace(incident="")
