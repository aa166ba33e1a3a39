"""What earlier leaders have moved counts against the limits of the next one.

In the first tick of a term that is ours, the moves that the store knows of the window are taken in;
a move that we remember ourselves is replaced by what the store says of it, and stays when the store
says nothing. Nodes that were moved cool down for what is left of it, and a region whose agents an
incident has put abroad counts as evacuated: it comes before a second one, and may go home. Who
leads and cannot read the moves acts on nothing (`self_test`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fleet.decided_moves import DecidedMove, move_key
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import Evidence, FailoverState, MoveNote, NodeMark, RegionMark


def count_earlier_moves(
    state: FailoverState, evidence: Evidence, policy: FailoverPolicy, now_s: float
) -> FailoverState:
    """The state with the moves of all leaders, once for each term that is ours.

    Args:
        state: of the last tick, by the present clock.
        evidence: of this tick.
        policy: the numbers.
        now_s: the receiver's monotonic clock.
    """
    leader, found = evidence.leader, evidence.earlier_moves
    known = found is not None and evidence.store_reachable
    if not leader.held or leader.term == state.moves_term or found is None or not known:
        return state
    everybody = int(evidence.nodes.agents.sum())
    notes = {
        one.key: MoveNote(
            now_s - one.age_s,
            one.subject,
            one.region,
            everybody if one.agents is None else one.agents,
            evacuation=False,
            key=one.key,
        )
        for one in found
    }
    ours = [note for note in state.moves if not note.key or note.key not in notes]
    moves = sorted((*ours, *notes.values()), key=lambda note: note.at_s)
    return replace(
        state,
        moves=tuple(moves),
        moves_term=leader.term,
        nodes=_cooled(state.nodes, _ended(found, evidence), policy, now_s),
        regions=_evacuated(state.regions, evidence.earlier_evacuations, now_s),
    )


def _ended(moves: Iterable[DecidedMove], evidence: Evidence) -> list[DecidedMove]:
    """Whole moves of other incidents than those that go on: what goes on must not wait for itself.

    A move of stateless agents ahead of the fence is no reason to let the others wait either.
    """
    open_now = {move_key(one.subject, one.incident_id, early=False) for one in evidence.incidents}
    return [one for one in moves if not one.early and one.key not in open_now]


def _cooled(
    marks: Mapping[str, NodeMark],
    moves: Iterable[DecidedMove],
    policy: FailoverPolicy,
    now_s: float,
) -> Mapping[str, NodeMark]:
    """The marks, with the cool-downs that these moves have begun."""
    cooling: dict[str, NodeMark] = {}
    for move in moves:
        until_s = now_s - move.age_s + policy.cool_down_s
        node_id = move.subject.removeprefix("node/")
        mark = cooling.get(node_id) or marks.get(node_id) or NodeMark(node_id)
        if until_s > max(now_s, mark.cool_until_s):
            cooling[node_id] = mark._replace(cool_until_s=until_s)
    return {**marks, **cooling} if cooling else marks


def _evacuated(
    marks: Mapping[str, RegionMark], evacuations: Mapping[str, str], now_s: float
) -> Mapping[str, RegionMark]:
    """The marks, with the regions that others evacuated; they are calm from now on at best."""
    known = {name: marks.get(name, RegionMark(name)) for name in evacuations}
    taken_over = {
        name: mark._replace(evacuated_s=now_s, evacuation=evacuations[name])
        for name, mark in known.items()
        if mark.evacuated_s is None
    }
    return {**marks, **taken_over} if taken_over else marks
