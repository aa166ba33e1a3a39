"""What earlier leaders have moved counts against the budgets of the next one.

In the first tick of a term that is ours, the moves that the store knows of the window are taken in;
a move that we remember ourselves is replaced by what the store says of it, and stays when the store
says nothing. Who leads and cannot read them acts on nothing (`self_test`).
"""

from __future__ import annotations

from dataclasses import replace

from fleet.failover.records import Evidence, FailoverState, MoveNote


def count_earlier_moves(state: FailoverState, evidence: Evidence, now_s: float) -> FailoverState:
    """The state with the moves of all leaders, once for each term that is ours.

    Args:
        state: of the last tick, by the present clock.
        evidence: of this tick.
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
    return replace(state, moves=tuple(moves), moves_term=leader.term)
