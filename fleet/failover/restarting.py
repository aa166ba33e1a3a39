"""Restarting all ages: after a freeze, a pause of our own, or in a new process.

Marks stay, verdicts do not: whatever was suspected or confirmed must be suspected and confirmed
again from now on, because the time in between proves nothing. What was moved stays moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fleet.failover.mark_table import MarkTable
from fleet.failover.node_states import DEAD
from fleet.failover.records import (
    FailoverState,
    MoveNote,
    NodeMark,
    NodeState,
    RegionMark,
    RegionState,
)

_UNFINISHED = (DEAD | {NodeState.SUSPECT}) - {NodeState.MOVED}
"""Verdicts, and suspicions on the way to one, whose agents have not been placed elsewhere."""


def continue_under(state: FailoverState, clock_id: str, now_s: float) -> FailoverState:
    """The state of another clock, carried over as if no time had passed, with ages restarted.

    Windows and cool-downs last longer for it, never shorter.
    """
    if state.clock_id == clock_id:
        return state
    shift_s = 0.0 if state.tick_s is None else now_s - state.tick_s
    moved = replace(
        state,
        clock_id=clock_id,
        tick_s=None,
        nodes=_changed(state.nodes, lambda mark: _shift_node(mark, shift_s)),
        regions={name: _shift_region(mark, shift_s) for name, mark in state.regions.items()},
        moves=tuple(_shift_move(note, shift_s) for note in state.moves),
        parked={key: at_s + shift_s for key, at_s in state.parked.items()},
    )
    return restart_ages(moved, now_s)


def restart_ages(state: FailoverState, now_s: float) -> FailoverState:
    """Let every age count from now, and every unfinished verdict with it."""
    return replace(
        state,
        ages_from_s=now_s,
        nodes=_changed(state.nodes, lambda mark: _restarted(mark, now_s)),
        regions={name: _restarted_region(mark, now_s) for name, mark in state.regions.items()},
    )


def _changed(
    marks: Mapping[str, NodeMark], change: Callable[[NodeMark], NodeMark]
) -> Mapping[str, NodeMark]:
    """All marks changed; nodes that are remembered alike, at once."""
    if isinstance(marks, MarkTable):
        return marks.mapped(change)
    return {name: change(mark) for name, mark in marks.items()}


def _restarted(mark: NodeMark, now_s: float) -> NodeMark:
    if mark.state in _UNFINISHED:
        return mark._replace(
            state=NodeState.SUSPECT,
            since_s=now_s,
            suspect_s=now_s,
            confirmed_by="",
            fenced_by="",
            gray_s=None,
            told=(),
        )
    gray_s = None if mark.gray_s is None else now_s
    since_s = now_s if mark.state is NodeState.PROBATION else mark.since_s
    waits = mark.state is NodeState.GRAY and not mark.unregistered
    state = NodeState.HEALTHY if waits else mark.state
    return mark._replace(state=state, gray_s=gray_s, since_s=since_s)


def _restarted_region(mark: RegionMark, now_s: float) -> RegionMark:
    """A verdict, and a calm, must be waited for in full."""
    since_s = mark.since_s if mark.state is RegionState.NORMAL else now_s
    return mark._replace(since_s=since_s, calm_s=None if mark.calm_s is None else now_s)


def _shift_node(mark: NodeMark, shift_s: float) -> NodeMark:
    def moved(at_s: float | None) -> float | None:
        return None if at_s is None else at_s + shift_s

    return mark._replace(
        since_s=mark.since_s + shift_s,
        suspect_s=mark.suspect_s + shift_s,
        moved_s=moved(mark.moved_s),
        fence_s=moved(mark.fence_s),
        cool_until_s=mark.cool_until_s + shift_s,
        flaps_s=tuple(at_s + shift_s for at_s in mark.flaps_s),
        returns_s=tuple(at_s + shift_s for at_s in mark.returns_s),
        watch_from_s=0.0,
        gray_s=moved(mark.gray_s),
    )


def _shift_region(mark: RegionMark, shift_s: float) -> RegionMark:
    def moved(at_s: float | None) -> float | None:
        return None if at_s is None else at_s + shift_s

    return mark._replace(
        since_s=mark.since_s + shift_s,
        evacuated_s=moved(mark.evacuated_s),
        calm_s=moved(mark.calm_s),
        fail_back_s=moved(mark.fail_back_s),
    )


def _shift_move(note: MoveNote, shift_s: float) -> MoveNote:
    return note._replace(at_s=note.at_s + shift_s)
