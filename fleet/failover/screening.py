"""Which nodes must be looked at one by one: array passes over all, then facts of the few.

Silence is clamped to the moment from which ages count (`FailoverState.ages_from_s`): after a
freeze, a pause of our own or a new process nobody is silent for longer than we have been watching.
*Signs of life* are never clamped: an old sign stays old.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.failover.ages import silence_limit_s
from fleet.failover.columns import Infrastructure, NodeColumns
from fleet.failover.mark_table import MarkTable
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import Evidence, FailoverState
from fleet.failover.rules import Rule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray, FloatArray

    IndexArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Screen:
    """What the columns say, before anything is remembered or decided."""

    silence_s: FloatArray
    """Since the last heartbeat that we saw, or since we began to watch."""
    limit_s: FloatArray
    """Silence that is suspect."""
    lease_silence_s: FloatArray
    watched: BoolArray
    """A sign of life is expected."""
    maintained: BoolArray
    silent: BoolArray
    heard: BoolArray
    """A heartbeat has really been seen within the limit."""
    fresh: BoolArray
    """A lease renewal or work contradicts silence."""
    dead_votes: BoolArray
    """The observers' verdict: dead."""
    alive_votes: BoolArray
    """Most of the observers that answer reach it."""
    terminated: BoolArray
    """The infrastructure's verdict, where nothing contradicts it."""
    contradicted: BoolArray
    """Terminated, they say; but it has shown life since."""
    lease_lost: BoolArray
    """It beats, but its lease has run out: its agents have stopped themselves."""

    def odd(self) -> IndexArray:
        """Nodes that are not plainly healthy, in order."""
        import numpy as np

        gray = self.heard & self.dead_votes
        return np.flatnonzero(
            self.silent
            | self.terminated
            | self.contradicted
            | gray
            | self.lease_lost
            | self.maintained
        )


class NodeFacts(NamedTuple):
    """One node's row of columns and screen, as plain values."""

    node_id: str
    region: str
    silence_s: float
    limit_s: float
    heartbeat_age_s: float
    lease_age_s: float
    lease_silence_s: float
    lease_ttl_s: float
    work_age_s: float
    terminated_age_s: float
    observers: int
    votes_dead: int
    votes_alive: int
    dead_domains: int
    dead_outside: int
    agents: int
    agents_stateless: int
    agents_stale: int
    maintenance: bool
    stop_acknowledged: bool
    watched: bool
    silent: bool
    heard: bool
    fresh: bool
    dead_votes: bool
    alive_votes: bool
    terminated: bool
    contradicted: bool
    lease_lost: bool


def screen_nodes(
    evidence: Evidence,
    state: FailoverState,
    policy: FailoverPolicy,
    now_s: float,
    without: frozenset[Rule] = frozenset(),
) -> Screen:
    """Judge all nodes by arrays.

    Args:
        evidence: of this tick.
        state: of the last tick, by the same clock.
        policy: the numbers.
        now_s: the receiver's monotonic clock.
        without: rules that are switched off, see `decide.decide`.
    """
    import numpy as np

    nodes = evidence.nodes
    watching_s = now_s - state.ages_from_s
    silence_s = np.minimum(nodes.heartbeat_age_s, watching_s)
    lease_silence_s = np.minimum(nodes.lease_age_s, watching_s)
    _clamp_single(silence_s, MarkTable.of(state.nodes, nodes), now_s)
    limit_s = silence_limit_s(nodes.heartbeat_mean_s, policy)
    if Rule.SILENCE in without:
        limit_s = limit_s / 10.0
    codes = nodes.infrastructure
    idle = (codes == Infrastructure.PENDING) | (codes == Infrastructure.STOPPED)
    watched = ~idle if Rule.MAINTENANCE in without else ~(nodes.maintenance | idle)
    heard = nodes.heartbeat_age_s <= limit_s
    fresh = (nodes.lease_age_s < policy.contrary_fresh_s) | (
        nodes.work_age_s < policy.contrary_fresh_s
    )
    alive_votes = nodes.votes_alive > nodes.votes_dead
    said = (codes == Infrastructure.TERMINATED) & watched
    contradicted = said & _lives_on(nodes, limit_s, alive_votes, policy)
    if Rule.CONTRARY_EVIDENCE in without:
        fresh, alive_votes, contradicted = (np.zeros_like(said) for _ in range(3))
    ttl_s = np.where(nodes.lease_ttl_s > 0.0, nodes.lease_ttl_s, policy.lease_ttl_s)
    return Screen(
        silence_s=silence_s,
        limit_s=limit_s,
        lease_silence_s=lease_silence_s,
        watched=watched,
        maintained=nodes.maintenance,
        silent=watched & (silence_s > limit_s),
        heard=heard,
        fresh=fresh,
        dead_votes=_dead_votes(nodes, policy, without),
        alive_votes=alive_votes,
        terminated=said & ~contradicted,
        contradicted=contradicted,
        lease_lost=watched
        & heard
        & (nodes.agents > 0)
        & (lease_silence_s >= ttl_s + policy.fence_margin_s),
    )


def _clamp_single(silence_s: FloatArray, marks: MarkTable, now_s: float) -> None:
    """Let the silence of nodes that were in maintenance count from its end."""
    import numpy as np

    rows = marks.rows(lambda mark: mark.watch_from_s > 0.0)
    if len(rows):
        at = marks.at[rows]
        watched_s = now_s - marks.column(lambda mark: mark.watch_from_s)[rows]
        silence_s[at] = np.minimum(silence_s[at], watched_s)


def _lives_on(
    nodes: NodeColumns, limit_s: FloatArray, alive_votes: BoolArray, policy: FailoverPolicy
) -> BoolArray:
    """Whether a sign of life came clearly after "terminated", and is still fresh."""
    import numpy as np

    sign_s = np.minimum(np.minimum(nodes.heartbeat_age_s, nodes.lease_age_s), nodes.work_age_s)
    later = sign_s + policy.terminated_margin_s < nodes.terminated_age_s
    answers = alive_votes & (nodes.terminated_age_s > policy.suspect_min_s)
    lives: BoolArray = (later & (sign_s <= limit_s)) | answers
    return lives


def _dead_votes(nodes: NodeColumns, policy: FailoverPolicy, without: frozenset[Rule]) -> BoolArray:
    """A majority of all configured observers, from enough domains, from outside the region."""
    if Rule.VOTE_MAJORITY in without:
        dead: BoolArray = nodes.votes_dead > 0
    else:
        dead = (2 * nodes.votes_dead > nodes.observers) & (nodes.observers >= policy.observers_min)
    if Rule.VOTE_DOMAINS not in without:
        dead = dead & (nodes.dead_domains >= policy.vote_domains_min)
    if Rule.VOTE_OUTSIDE not in without:
        dead = dead & (nodes.dead_outside >= policy.vote_outside_min)
    return dead


class FactsTable(Mapping[str, NodeFacts]):
    """Facts of the nodes that are looked at, gathered at once; a row is made when it is read.

    Rows are those of the draft's marks. Holds no column of all nodes, so that what is kept of a
    decision stays small.
    """

    def __init__(
        self, evidence: Evidence, screen: Screen, policy: FailoverPolicy, marks: MarkTable
    ) -> None:
        """Gather the columns of the marked nodes."""
        import numpy as np

        nodes, at = evidence.nodes, marks.at
        columns: dict[str, npt.NDArray[Any]] = {
            name: (getattr(screen, name) if name in _OF_SCREEN else getattr(nodes, name))[at]
            for name in NodeFacts._fields[2:]
        }
        ttl_s = columns["lease_ttl_s"]
        columns["lease_ttl_s"] = np.where(ttl_s > 0.0, ttl_s, policy.lease_ttl_s)
        self.columns = columns
        self.region_index = nodes.region_index[at]
        self.regions = nodes.regions
        self._marks = marks
        self._read: dict[int, NodeFacts] = {}

    def __getitem__(self, name: str) -> NodeFacts:
        """Facts of one node that is looked at."""
        row = self._marks.row_of(name)
        if row is None:
            raise KeyError(name)
        return self.row(row)

    def __iter__(self) -> Iterator[str]:
        """Names in order."""
        return iter(self._marks.names)

    def __len__(self) -> int:
        """Number of nodes that are looked at."""
        return len(self.region_index)

    def __contains__(self, name: object) -> bool:
        """Whether a node is looked at."""
        return isinstance(name, str) and self._marks.row_of(name) is not None

    def row(self, row: int) -> NodeFacts:
        """Facts of one row."""
        found = self._read.get(row)
        if found is None:
            values = [column.item(row) for column in self.columns.values()]
            region = self.regions[self.region_index.item(row)]
            found = self._read[row] = NodeFacts(self._marks.names[row], region, *values)
        return found

    def read(self, rows: IndexArray) -> None:
        """Make many rows at once: cheaper than one by one when all of them will be read."""
        import numpy as np

        if self._read:
            rows = np.array([row for row in rows.tolist() if row not in self._read], dtype=np.intp)
        names, regions = self._marks.names, self.regions
        values = zip(*(column[rows].tolist() for column in self.columns.values()), strict=True)
        places = zip(rows.tolist(), self.region_index[rows].tolist(), values, strict=True)
        self._read.update(
            (row, NodeFacts._make((names[row], regions[region], *one)))
            for row, region, one in places
        )


_OF_SCREEN = frozenset(Screen.__dataclass_fields__)
