"""Probes and votes of a whole simulated fleet in columns, as `SimulatedProbes` and `VoteBook` say.

Every observer probes its nodes once a round, and every report that can arrive is taken in at once.
Two nodes with which nothing is wrong answer each other, so only the pairs are worked out of which
one end is not plain, or whose last vote was not for life. Single links that are cut and observers
that are blind are known to `SimulatedProbes` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fleet.probe_reports import RosterMember
from fleet.probe_votes import Vote, VoteColumns
from fleet.probing import ProbePolicy, helper_start, helper_steps, helper_stride, plan_probes
from resources.simulated.condition_columns import ConditionColumns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray, FloatArray, IntArray
    from resources.simulated.condition_columns import Positions


class ProbeColumns:
    """Who observes whom, and what each last said, as one controller has seen it.

    Args:
        conditions: of the nodes; followed before each round.
        policy: how nodes are probed, and how long a vote counts.
        own_max: nodes that the controller itself probes at most in one round.
    """

    def __init__(self, conditions: ConditionColumns, policy: ProbePolicy, own_max: int) -> None:
        """Plan who observes whom; nobody has probed yet."""
        import numpy as np

        self._conditions, self._policy, self._own_max = conditions, policy, own_max
        self.rounds = 0
        size, zones = len(conditions), conditions.zones()
        members = [RosterMember(n, *zone) for n, zone in zip(conditions.names, zones, strict=True)]
        observers = plan_probes(members, policy).observers
        pairs = np.array(
            [
                (position, conditions.position(observer))
                for position, name in enumerate(conditions.names)
                for observer in observers[name]
            ],
            dtype=np.intp,
        ).reshape(-1, 2)
        codes = {zone: code for code, zone in enumerate(sorted(set(zones)))}
        self._zone: IntArray = np.array([codes[zone] for zone in zones], dtype=np.int32)
        self._target, self._observer = pairs[:, 0].copy(), pairs[:, 1].copy()
        region = conditions.region_index
        self._outside: BoolArray = region[self._target] != region[self._observer]
        self._of_target = _Rows(self._target, size)
        self._of_observer = _Rows(self._observer, size)
        self._observers = np.bincount(self._target, minlength=size)
        self._watching: BoolArray = np.bincount(self._observer, minlength=size) > 0
        self._failures: IntArray = np.zeros(len(pairs), dtype=np.int32)
        self._votes: npt.NDArray[np.int8] = np.full(len(pairs), Vote.NONE, dtype=np.int8)
        self._odd: BoolArray = np.ones(len(pairs), dtype=bool)
        """Pairs that must be worked out: an end is not plain, or something is left of that."""
        self._stored: BoolArray = np.zeros(size, dtype=bool)
        """Observers that have ever reported."""
        self._known: BoolArray = np.zeros(size, dtype=bool)
        """Those whose report was seen since the last restart."""
        self._seen_s: FloatArray = np.full(size, -np.inf)
        self._own_failures: IntArray = np.zeros(size, dtype=np.int32)
        self._own_votes: npt.NDArray[np.int8] = np.full(size, Vote.NONE, dtype=np.int8)
        self._own_seen_s: FloatArray = np.full(size, -np.inf)

    # -- one round -------------------------------------------------------------------------------

    def round(self, changed: Sequence[int], leased: BoolArray, now_s: float) -> None:
        """Let every observer that works probe its nodes once, and take in what arrives.

        Args:
            changed: positions of nodes whose condition has changed since the last round.
            leased: nodes whose present boot holds a lease that runs: no other's report is taken.
            now_s: by the receiver's clock.
        """
        import numpy as np

        self.rounds += 1
        conditions = self._conditions
        for rows in (self._of_target, self._of_observer):
            self._odd[rows.of(changed)] = True
        arrives: BoolArray = conditions.works & ~conditions.store_cut & leased & self._watching
        # At first sight nobody knows how old a report is; one that is stored stays to be seen.
        self._seen_s[arrives & self._known] = now_s
        self._stored |= arrives
        self._known |= self._stored
        pairs = np.flatnonzero(self._odd)
        pairs = pairs[conditions.works[self._observer[pairs]]]
        votes = self._probe(pairs)
        told = arrives[self._observer[pairs]]
        self._votes[pairs[told]] = votes[told]
        plain = conditions.plain[self._target[pairs]] & conditions.plain[self._observer[pairs]]
        settled = plain & (self._votes[pairs] == Vote.ALIVE) & (self._failures[pairs] == 0)
        self._odd[pairs[settled]] = False

    def _probe(self, pairs: Positions) -> npt.NDArray[np.int8]:
        """The votes of these pairs in this round."""
        import numpy as np

        observer, target = self._observer[pairs], self._target[pairs]
        votes = np.full(len(pairs), Vote.ALIVE, dtype=np.int8)
        lost = np.flatnonzero(~self._conditions.reach(observer, target))
        if not len(lost):
            self._failures[pairs] = 0
            return votes
        relayed, silent = self._ask_helpers(observer[lost], target[lost])
        failures = self._failures[pairs]
        failures[lost] += silent
        failures[lost[relayed]] = 0
        failures[np.delete(np.arange(len(pairs)), lost)] = 0
        self._failures[pairs] = failures
        dead = silent & (failures[lost] >= self._policy.failures_min)
        votes[lost] = np.where(relayed, Vote.ALIVE, np.where(dead, Vote.DEAD, Vote.UNSURE))
        return votes

    def _ask_helpers(self, observer: Positions, target: Positions) -> tuple[BoolArray, BoolArray]:
        """Whether a helper reached the target; whether helpers answered and none did."""
        import numpy as np

        conditions, count = self._conditions, self._policy.helpers
        size, names = len(conditions), conditions.names
        ends = zip(observer.tolist(), target.tolist(), strict=True)
        starts = [helper_start(names[one], names[two], self.rounds, size) for one, two in ends]
        steps = np.arange(helper_steps(size, count)) * helper_stride(size)
        places = (np.array(starts, dtype=np.intp)[:, None] + steps) % size
        known = (places == observer[:, None]) | (places == target[:, None])
        zones = self._zone[places]
        earlier = np.tri(len(steps), k=-1, dtype=bool) & ~known[:, None, :]
        again = (earlier & (zones[:, :, None] == zones[:, None, :])).any(axis=2)
        first = ~known & ~again  # a zone's first comes before all seconds
        rank = np.where(first, np.cumsum(first, axis=1), 0)
        rest = ~first & ~known
        rank += np.where(rest, first.sum(axis=1)[:, None] + np.cumsum(rest, axis=1), 0)
        asked = (rank > 0) & (rank <= count)
        answers = asked & conditions.reach(np.broadcast_to(observer[:, None], places.shape), places)
        helped = conditions.reach(places, np.broadcast_to(target[:, None], places.shape))
        answered = np.any(answers, axis=1)
        relayed = np.any(answers & helped, axis=1)
        return relayed, answered & ~relayed

    # -- the controller's own --------------------------------------------------------------------

    def ask(self, positions: Positions, now_s: float) -> None:
        """Let the controller probe these nodes, the first ones when there are too many."""
        import numpy as np

        asked = positions[: self._own_max]
        conditions = self._conditions
        answers = conditions.works[asked] & ~conditions.controller_cut[asked]
        failures = np.where(answers, 0, self._own_failures[asked] + 1)
        self._own_failures[asked] = failures
        dead = failures >= self._policy.failures_min
        votes = np.where(answers, Vote.ALIVE, np.where(dead, Vote.DEAD, Vote.UNSURE))
        self._own_votes[asked], self._own_seen_s[asked] = votes, now_s

    def restart(self) -> None:
        """Believe nothing that was seen before: after a freeze."""
        self._known[:] = False
        self._seen_s[:] = self._own_seen_s[:] = float("-inf")

    # -- what is seen ----------------------------------------------------------------------------

    def columns(self, now_s: float) -> VoteColumns:
        """Fresh votes on each node, in the order of names."""
        import numpy as np

        size = len(self._conditions)
        stale = now_s - self._seen_s > self._policy.fresh_s
        lacking = self._votes != Vote.ALIVE
        dead = np.flatnonzero(self._votes == Vote.DEAD)
        dead = dead[~stale[self._observer[dead]]]
        lacking[self._of_observer.of(np.flatnonzero(stale & self._watching))] = True
        target = self._target[dead]
        domains = int(np.max(self._zone, initial=0)) + 1
        pairs = np.unique(target * domains + self._zone[self._observer[dead]])
        columns = [
            self._observers.copy(),
            np.bincount(target, minlength=size),
            self._observers - np.bincount(self._target[lacking], minlength=size),
            np.bincount(pairs // domains, minlength=size),
            np.bincount(target[self._outside[dead]], minlength=size),
        ]
        self._add_own(columns, now_s)
        return VoteColumns(*(column.astype(np.int32) for column in columns))

    def _add_own(self, columns: list[npt.NDArray[np.int64]], now_s: float) -> None:
        import numpy as np

        own = np.flatnonzero(now_s - self._own_seen_s <= self._policy.fresh_s)
        observers, votes_dead, votes_alive, dead_domains, dead_outside = columns
        observers[own] += 1
        votes_alive[own] += self._own_votes[own] == Vote.ALIVE
        for column in (votes_dead, dead_domains, dead_outside):
            column[own] += self._own_votes[own] == Vote.DEAD

    def observers_configured(self) -> int:
        """Observers that there should be, the controller included."""
        return int(self._watching.sum()) + 1

    def observers_reporting(self, now_s: float) -> int:
        """Those whose report was seen to change lately, and the controller."""
        fresh = now_s - self._seen_s[self._watching] <= self._policy.fresh_s
        return int(fresh.sum()) + 1


class _Rows:
    """Finds the rows of a column that hold given values."""

    def __init__(self, column: Positions, size: int) -> None:
        import numpy as np

        self._rows = np.argsort(column, kind="stable")
        self._starts = np.searchsorted(column[self._rows], np.arange(size + 1))

    def of(self, values: Sequence[int] | Positions) -> Positions:
        """Rows that hold one of these values."""
        import numpy as np

        found = [self._rows[self._starts[one] : self._starts[one + 1]] for one in values]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.intp)
