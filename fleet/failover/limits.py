"""What holds an action back although everything speaks for it: switches, budgets, rates.

Every limit names its rule, the values that it saw, how long it holds, and whether a person can lift
it by approving the action's key. An order by force passes all of them; fencing it never passes,
because fencing is no limit but a state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from fleet.failover.draft import Draft
from fleet.failover.policy import FailoverPolicy, Mode, RegionMode
from fleet.failover.records import (
    Action,
    FailoverState,
    MoveNote,
    NodeMark,
    Reason,
    RegionMark,
    RegionState,
)
from fleet.failover.region_states import evacuations_elsewhere, verdict_wait_s
from fleet.failover.rules import Rule


class Limit(NamedTuple):
    """Why an action is not done now."""

    rule: Rule
    reasons: tuple[Reason, ...]
    wait_s: float | None = None
    approvable: bool = False


def pause_limit(draft: Draft, subject: str) -> Limit | None:
    """Somebody has paused the automation; what is ordered by force is still done."""
    paused = draft.evidence.directives.paused
    if not paused or draft.is_forced(subject) or not draft.keeps(Rule.PAUSED):
        return None
    return Limit(Rule.PAUSED, (Reason("paused", paused),))


def mode_limit(draft: Draft, action: Action, mode: Mode) -> Limit | None:
    """The mode wants a person, or nobody, to let this happen."""
    free = mode is Mode.AUTO or draft.is_forced(action.subject) or not draft.keeps(Rule.MODE)
    if free or (mode is Mode.APPROVE and draft.is_approved(action)):
        return None
    return Limit(Rule.MODE, (Reason("mode", mode.value),), approvable=mode is Mode.APPROVE)


def move_limit(draft: Draft, action: Action, mark: NodeMark, region: str) -> Limit | None:
    """The first limit that holds back moving (or fencing) one node; None when none does.

    A move that is asked for again has paid its price already, if it was ordered then. Else the
    region is looked at again; the cool-down is the one that it has begun itself.
    """
    paused = pause_limit(draft, action.subject)
    limit = paused or mode_limit(draft, action, draft.policy.node_mode_in(region))
    if limit is not None:
        return limit
    if draft.is_forced(action.subject) or draft.is_approved(action):
        return None
    if action.attempt == 1:
        return _partial_limit(draft, region) or _cool_down_limit(draft, mark)
    return _partial_limit(draft, region) if action.move_key in draft.withheld else None


class MoveLimits:
    """`move_limit` over one tick: asked once for nodes of a region that are remembered alike."""

    def __init__(self, draft: Draft) -> None:
        """Nothing was asked yet."""
        self._draft = draft
        directives = draft.evidence.directives
        self._named = bool(directives.forced or directives.approved)
        """People have named single nodes: each is asked for by itself."""
        self._found: dict[tuple[str, float, bool, bool], Limit | None] = {}

    def limit(self, action: Action, mark: NodeMark, region: str) -> Limit | None:
        """The first limit that holds back moving (or fencing) one node; None when none does."""
        if self._named:
            return move_limit(self._draft, action, mark, region)
        withheld = action.move_key in self._draft.withheld
        key = (region, mark.cool_until_s, action.attempt > 1, withheld)
        if key not in self._found:
            self._found[key] = move_limit(self._draft, action, mark, region)
        return self._found[key]


def _partial_limit(draft: Draft, region: str) -> Limit | None:
    """In a small region that is going, a person decides each move."""
    mark = draft.regions.get(region)
    partial = mark is not None and mark.state is RegionState.PARTIAL
    if not partial or not draft.keeps(Rule.REGION_PARTIAL):
        return None
    count = draft.counts[region]
    if count.watched > draft.policy.partial_small_nodes:
        return None
    return Limit(Rule.REGION_PARTIAL, count.reasons(draft.policy), approvable=True)


def _cool_down_limit(draft: Draft, mark: NodeMark) -> Limit | None:
    left_s = mark.cool_until_s - draft.now_s
    if left_s <= 0.0 or not draft.keeps(Rule.COOL_DOWN):
        return None
    reason = Reason("cool_down_left_s", left_s, draft.policy.cool_down_s)
    return Limit(Rule.COOL_DOWN, (reason,), left_s, approvable=True)


def evacuation_limit(draft: Draft, action: Action, mark: RegionMark) -> Limit | None:
    """The first limit that holds back giving up a region; None when none does."""
    paused = pause_limit(draft, action.subject)
    if paused is not None or draft.is_forced(action.subject):
        return paused
    return (
        _verdict_limit(draft, mark)
        or _region_mode_limit(draft, action)
        or _second_region_limit(draft, action)
    )


def _verdict_limit(draft: Draft, mark: RegionMark) -> Limit | None:
    if not draft.keeps(Rule.REGION_VERDICT):
        return None
    count = draft.counts[mark.region]
    wait_s = verdict_wait_s(mark, count, draft.policy, draft.now_s)
    if wait_s == 0.0:
        return None
    full_s = Reason("region_full_s", draft.now_s - mark.since_s, draft.policy.region_verdict_s)
    return Limit(Rule.REGION_VERDICT, (full_s, *count.reasons(draft.policy)), wait_s)


def _region_mode_limit(draft: Draft, action: Action) -> Limit | None:
    mode = draft.policy.region_mode_of(action.subject.removeprefix("region/"))
    if mode is RegionMode.AUTO or not draft.keeps(Rule.REGION_MODE):
        return None
    if mode is RegionMode.APPROVE and draft.is_approved(action):
        return None
    reason = Reason("region_mode", mode.value)
    return Limit(Rule.REGION_MODE, (reason,), approvable=mode is RegionMode.APPROVE)


def _second_region_limit(draft: Draft, action: Action) -> Limit | None:
    region = action.subject.removeprefix("region/")
    others = evacuations_elsewhere(region, draft.regions.values(), draft.policy, draft.now_s)
    if not others or draft.is_approved(action) or not draft.keeps(Rule.SECOND_REGION):
        return None
    reason = Reason("evacuated", ", ".join(others), "one region at a time")
    return Limit(Rule.SECOND_REGION, (reason,), approvable=True)


class MoveBudget:
    """How many nodes and agents may still be moved now; kept over one tick.

    Evacuations are outside of it: they have a verdict, a mode and a capacity check of their own. A
    move never counts against itself: one that an earlier leader began goes on as the same move.
    """

    def __init__(self, draft: Draft) -> None:
        """Count the moves that the windows still hold."""
        self._draft = draft
        self._policy = draft.policy
        self._notes = [note for note in draft.moves if not note.evacuation]
        self._by_key = {note.key: note for note in self._notes if note.key}
        self._spent = _Spent.of(self._notes, draft)
        self._rates: dict[str, Limit | None] = {}
        self.agents_total = int(draft.columns.agents.sum())
        nodes = len(draft.columns)
        self.nodes_per_window = max(
            draft.policy.rate_nodes_min, int(draft.policy.rate_fraction * nodes)
        )

    def limit(self, action: Action, region: str) -> Limit | None:
        """The budget's word on one more move, None when it may be."""
        draft = self._draft
        if draft.is_forced(action.subject) or self._is_counted(action):
            return None
        own = self._by_key.get(action.move_key)
        spent = self._spent
        if own is not None:
            spent = _Spent.of([note for note in self._notes if note is not own], draft)
        agents = action.agents if own is None else max(own.agents, action.agents)
        return self._blast_limit(action, spent, agents) or self._rate_limit(region, spent)

    def _is_counted(self, action: Action) -> bool:
        """A further attempt of a move that the windows hold; in another incident it is new.

        Not of one that was never ordered: what others have moved since counts against it.
        """
        own = self._by_key.get(action.move_key)
        return action.attempt > 1 and own is not None and own.ordered

    def _blast_limit(self, action: Action, spent: _Spent, agents: int) -> Limit | None:
        """At most so many agents in the window; the first move of a window is always free."""
        draft, policy = self._draft, self._policy
        allowed = policy.blast_fraction * self.agents_total
        after = spent.agents + agents
        if not spent.in_blast or after <= allowed or draft.is_approved(action):
            return None
        if not draft.keeps(Rule.BLAST_RADIUS):
            return None
        reasons = (
            Reason("agents_moved", after, allowed),
            Reason("blast_window_s", policy.blast_window_s),
        )
        wait_s = self._blast_wait_s(spent, agents)
        return Limit(Rule.BLAST_RADIUS, reasons, wait_s, approvable=True)

    def _blast_wait_s(self, spent: _Spent, agents: int) -> float:
        """Until enough earlier moves have left the window."""
        allowed = self._policy.blast_fraction * self.agents_total
        left = spent.agents
        for note in spent.in_blast:
            left -= note.agents
            if left + agents <= allowed:
                break
        return max(0.0, note.at_s + self._policy.blast_window_s - self._draft.now_s)

    def _rate_limit(self, region: str, spent: _Spent) -> Limit | None:
        """The same for all new moves of a region until another one is decided."""
        if spent is not self._spent:
            return self._judge_rate(region, spent)
        if region not in self._rates:
            self._rates[region] = self._judge_rate(region, spent)
        return self._rates[region]

    def _judge_rate(self, region: str, spent: _Spent) -> Limit | None:
        draft, policy = self._draft, self._policy
        if not draft.keeps(Rule.MOVE_RATE):
            return None
        mark = draft.regions.get(region)
        slow = mark is not None and mark.state is RegionState.PARTIAL
        slow = slow and draft.keeps(Rule.REGION_PARTIAL)
        begun_s = spent.by_region.get(region, []) if slow else spent.by_rate
        window_s = policy.rate_window_s * (policy.partial_rate_divisor if slow else 1.0)
        if len(begun_s) < self.nodes_per_window and len(spent.by_rate) < self.nodes_per_window:
            return None
        oldest_s = begun_s[0] if len(begun_s) >= self.nodes_per_window else spent.by_rate[0]
        reasons = (
            Reason("nodes_moved", max(len(begun_s), len(spent.by_rate)), self.nodes_per_window),
            Reason("rate_window_s", window_s),
        )
        return Limit(Rule.MOVE_RATE, reasons, max(0.0, oldest_s + window_s - draft.now_s))

    def take(self, action: Action, region: str) -> None:
        """Count a move that was decided; a further attempt of it is counted already."""
        if self._is_counted(action):
            return
        self._rates.clear()
        draft, key, agents = self._draft, action.move_key, action.agents
        own = self._by_key.get(key)
        if own is not None:
            agents = max(agents, own.agents)
            draft.moves.remove(own)
            self._notes.remove(own)
            self._spent = _Spent.of(self._notes, draft)
        note = MoveNote(draft.now_s, action.subject, region, agents, evacuation=False, key=key)
        draft.moves.append(note)
        self._notes.append(note)
        self._by_key[key] = note
        self._spent.add(note)


class _Spent:
    """What a list of moves has taken of each window; oldest first."""

    def __init__(self) -> None:
        self.in_blast: list[MoveNote] = []
        self.agents = 0
        self.by_rate: list[float] = []
        self.by_region: dict[str, list[float]] = {}

    @classmethod
    def of(cls, notes: Iterable[MoveNote], draft: Draft) -> _Spent:
        """Add up those that the windows still hold."""
        policy, now_s, spent = draft.policy, draft.now_s, cls()
        blast_s, rate_s = now_s - policy.blast_window_s, now_s - policy.rate_window_s
        slow_s = now_s - policy.rate_window_s * policy.partial_rate_divisor
        for note in notes:
            if note.at_s > blast_s:
                spent.in_blast.append(note)
                spent.agents += note.agents
            if note.at_s > rate_s:
                spent.by_rate.append(note.at_s)
            if note.at_s > slow_s:
                spent.by_region.setdefault(note.region, []).append(note.at_s)
        return spent

    def add(self, note: MoveNote) -> None:
        """Add one that begins now."""
        self.in_blast.append(note)
        self.agents += note.agents
        self.by_rate.append(note.at_s)
        self.by_region.setdefault(note.region, []).append(note.at_s)


def moves_kept(moves: tuple[MoveNote, ...], policy: FailoverPolicy, now_s: float) -> list[MoveNote]:
    """The moves that a window can still see, oldest first."""
    return [note for note in moves if now_s - note.at_s < policy.moves_window_s]


def withhold(state: FailoverState, keys: Collection[str]) -> FailoverState:
    """The state, in which these moves of its last tick are admitted and not ordered.

    They count for others as before; asked for again, they are held against the limits anew.

    Args:
        state: as the decision has left it.
        keys: `Action.move_key` of what the executor could not hand out.
    """
    if not keys:
        return state
    moves = tuple(
        note._replace(ordered=False) if note.key in keys and note.at_s == state.tick_s else note
        for note in state.moves
    )
    return replace(state, moves=moves)
