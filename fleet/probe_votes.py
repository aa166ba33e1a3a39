"""Probe reports become votes, by the receiver's own clock: whom to believe, and for how long.

A vote counts while its observer's report was *seen to change* lately, here. A report that was there
when we first looked may be of any age, so it counts only from its next change on; the same holds
after `restart`. Nothing that an observer's clock says is used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from fleet.probe_reports import Probe, ProbeOutcome, ProbeReport, RosterMember
from fleet.probing import ProbePlan, ProbePolicy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Counts = npt.NDArray[np.int32]


class Vote(IntEnum):
    """What one observer says of one node."""

    NONE = 0
    """Nothing: not probed, or no report."""
    ALIVE = 1
    DEAD = 2
    UNSURE = 3
    """It does not count, for either side."""


class VoteColumns(NamedTuple):
    """Votes on all nodes, one array per quantity; fields are named as in `NodeColumns`."""

    observers: Counts
    """Observers configured for the node, whether they report or not."""
    votes_dead: Counts
    votes_alive: Counts
    dead_domains: Counts
    """Distinct (region, zone) among the dead votes; the controller is one of its own."""
    dead_outside: Counts
    """Dead votes from outside of the node's region; the controller is outside of all."""


def vote_of(probe: Probe, policy: ProbePolicy) -> Vote:
    """The vote that a probe is worth.

    One answer, direct or relayed, is a vote for life. Silence is a vote for death only when it has
    lasted `failures_min` rounds; an observer that doubts itself does not vote.
    """
    if probe.outcome in {ProbeOutcome.ANSWERED, ProbeOutcome.RELAYED}:
        return Vote.ALIVE
    silent = probe.outcome == ProbeOutcome.SILENT and probe.failures >= policy.failures_min
    return Vote.DEAD if silent else Vote.UNSURE


class VoteBook:
    """The receiver's memory of reports: what each observer last said, and when that was seen."""

    def __init__(
        self,
        members: Sequence[RosterMember],
        plan: ProbePlan,
        policy: ProbePolicy,
        *,
        controller_votes: bool = True,
    ) -> None:
        """Know nothing yet.

        Args:
            members: the roster that `plan` was made of.
            plan: who observes whom.
            policy: what makes a vote, and how long it counts.
            controller_votes: whether the receiver probes nodes itself (`take_own`) and so counts as
                one more configured observer: of all for the whole, of a node while it probes it.
        """
        self._policy = policy
        self._controller_votes = controller_votes
        self._rounds: dict[str, tuple[str, int]] = {}
        self._reports: dict[str, tuple[dict[str, Vote], float]] = {}
        self._own: dict[str, tuple[Vote, float]] = {}
        self.replan(members, plan)

    def replan(self, members: Sequence[RosterMember], plan: ProbePlan) -> None:
        """Go on under another roster; what was seen stays, where it is still asked for."""
        import numpy as np

        self._plan = plan
        self._node_ids = tuple(plan.observers)
        self._index = {node_id: index for index, node_id in enumerate(self._node_ids)}
        by_id = {member.node_id: member for member in members}
        domains: dict[tuple[str, str], int] = {}
        self._slots: dict[str, list[tuple[str, int]]] = {name: [] for name in plan.targets}
        target: list[int] = []
        observer: list[int] = []
        domain: list[int] = []
        outside: list[bool] = []
        for node_id, observers in plan.observers.items():
            for name in observers:
                own = by_id[name]
                self._slots[name].append((node_id, len(target)))
                target.append(self._index[node_id])
                observer.append(self._index[name])
                domain.append(domains.setdefault(own[1:], len(domains)))
                outside.append(own.region != by_id[node_id].region)
        self._target = np.asarray(target, dtype=np.int64)
        self._observer = np.asarray(observer, dtype=np.int64)
        self._domain = np.asarray(domain, dtype=np.int64)
        self._outside = np.asarray(outside, dtype=np.bool_)
        self._votes = np.zeros(len(target), dtype=np.int8)
        self._seen_s = np.full(len(self._node_ids), -np.inf)
        known = self._reports
        self._reports = {}
        for name in known.keys() & self._slots.keys():
            self._keep(name, *known[name])
        self._rounds = {n: self._rounds[n] for n in self._rounds.keys() & self._slots.keys()}
        self._own = {n: self._own[n] for n in self._own.keys() & self._index.keys()}

    def take(self, reports: Iterable[ProbeReport], now_s: float) -> int:
        """Take over reports as read at `now_s`; returns how many had changed.

        Reports of observers that the plan does not know, and probes of nodes that it does not give
        them, are left out.
        """
        changed = 0
        for report in reports:
            name, said = report.observer_id, (report.boot_id, report.round)
            known = self._rounds.get(name)
            if name not in self._slots or said == known:
                continue
            self._rounds[name] = said
            votes = {probe.node_id: vote_of(probe, self._policy) for probe in report.probes}
            # At first sight nobody knows how old it is.
            self._keep(name, votes, float("-inf") if known is None else now_s)
            changed += known is not None
        return changed

    def take_own(self, probes: Iterable[Probe], now_s: float) -> None:
        """Take over what the receiver itself has just probed."""
        for probe in probes:
            if probe.node_id in self._index:
                self._own[probe.node_id] = (vote_of(probe, self._policy), now_s)

    def restart(self) -> None:
        """Believe nothing that was seen before: after a freeze, or a pause of our own."""
        self._rounds.clear()
        self._own.clear()
        self._seen_s[:] = float("-inf")
        self._reports = {name: (votes, float("-inf")) for name, (votes, _) in self._reports.items()}

    def columns(
        self, node_ids: Sequence[str], now_s: float, *, without: Collection[str] = ()
    ) -> VoteColumns:
        """Fresh votes on each of these nodes; a few passes over arrays.

        Args:
            node_ids: in the order of the result; a node that the plan does not know has no votes.
            now_s: by the clock of `take`.
            without: observers whose votes do not count now, because they are suspect themselves.
        """
        import numpy as np

        fresh = now_s - self._seen_s <= self._policy.fresh_s
        for name in without:
            if name in self._index:
                fresh[self._index[name]] = False
        counts = fresh[self._observer]
        size = len(self._node_ids)
        dead = counts & (self._votes == Vote.DEAD)
        alive = counts & (self._votes == Vote.ALIVE)
        pairs = np.unique(np.stack([self._target[dead], self._domain[dead]], axis=1), axis=0)
        columns = [
            np.bincount(self._target, minlength=size),
            np.bincount(self._target[dead], minlength=size),
            np.bincount(self._target[alive], minlength=size),
            np.bincount(pairs[:, 0], minlength=size),
            np.bincount(self._target[dead & self._outside], minlength=size),
        ]
        self._add_own(columns, now_s)
        if tuple(node_ids) != self._node_ids:
            order = np.asarray([self._index.get(node_id, size) for node_id in node_ids], dtype=int)
            columns = [np.append(column, 0)[order] for column in columns]
        return VoteColumns(*(column.astype(np.int32) for column in columns))

    def observers_configured(self) -> int:
        """Observers that there should be, the receiver included when it votes."""
        watching = sum(1 for targets in self._plan.targets.values() if targets)
        return watching + self._controller_votes

    def observers_reporting(self, now_s: float) -> int:
        """Those of them whose report was seen to change lately, and the receiver."""
        watching = [self._index[name] for name, targets in self._plan.targets.items() if targets]
        fresh = now_s - self._seen_s[watching] <= self._policy.fresh_s
        return int(fresh.sum()) + self._controller_votes

    def _keep(self, name: str, votes: dict[str, Vote], seen_s: float) -> None:
        self._reports[name] = (votes, seen_s)
        self._seen_s[self._index[name]] = seen_s
        for node_id, slot in self._slots[name]:
            self._votes[slot] = votes.get(node_id, Vote.NONE)

    def _add_own(self, columns: list[npt.NDArray[np.int64]], now_s: float) -> None:
        if not self._controller_votes:
            return
        observers, votes_dead, votes_alive, dead_domains, dead_outside = columns
        for node_id, (vote, seen_s) in self._own.items():
            if now_s - seen_s > self._policy.fresh_s:
                continue
            index = self._index[node_id]
            # Of a big region it can probe only some; of the others it must not be missed, or half
            # of the observers, those outside, could never be a majority.
            observers[index] += 1
            votes_alive[index] += vote == Vote.ALIVE
            for column in (votes_dead, dead_domains, dead_outside):
                column[index] += vote == Vote.DEAD
