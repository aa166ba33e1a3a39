"""How the invariant checker reads evidence: scalar code of its own, row by row.

Shares nothing with `screening` on purpose: a mistake there must not be repeated here. Rows that are
plainly well are counted and not read (`Survey`), so that a large fleet can be checked tick by tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleet.failover.columns import Infrastructure, NodeColumns
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import Evidence
from fleet.failover.rules import Rule

if TYPE_CHECKING:
    from fleet.failover.columns import BoolArray


class Row(NamedTuple):
    """One node's evidence, read afresh from the columns."""

    node: int
    """Its position in the columns."""
    watched: bool
    terminated: bool
    silence_s: float
    limit_s: float
    """Silence that is suspect."""
    lease_silence_s: float
    heard: bool
    """A heartbeat has been seen within the limit, whenever we began to watch."""


class Survey(NamedTuple):
    """One look at all nodes: which are plainly well, and which must be read.

    A node is plainly well when a heartbeat was seen within the least silence that is ever suspect,
    no observer votes it dead, it is not in maintenance, and the infrastructure calls it neither
    gone nor idle. Whatever else is said of it, such a node is watched, heard, not lost, not
    terminated and not dead by votes: all that is ever asked of a row in bulk.
    """

    nodes: NodeColumns
    well: BoolArray
    notable: list[int]
    """Positions of all others, ascending."""
    well_in: list[int]
    """How many are well in each region, in the order of `nodes.regions`."""

    def is_well(self, name: str) -> bool:
        """Whether this is a declared node that is plainly well."""
        index = self.nodes.find(name)
        return index is not None and bool(self.well[index])


class Witness:
    """Reads evidence under one policy; remembers from when ages count."""

    def __init__(self, policy: FailoverPolicy) -> None:
        """Have seen nothing yet."""
        self.policy = policy
        self.clock_id = ""
        self.tick_s: float | None = None
        self.ages_from_s = 0.0
        self.watch_from_s: dict[str, float] = {}
        self.unusable_s: dict[str, float] = {}
        self.maintained: set[str] = set()
        self._survey: Survey | None = None

    def survey(self, evidence: Evidence) -> Survey:
        """Which nodes must be read; worked out once for the columns of one tick."""
        if self._survey is None or self._survey.nodes is not evidence.nodes:
            self._survey = self._look_over(evidence.nodes)
        return self._survey

    def _look_over(self, nodes: NodeColumns) -> Survey:
        import numpy as np

        codes = (Infrastructure.UNKNOWN, Infrastructure.RUNNING)
        well = np.isin(nodes.infrastructure, codes) & ~nodes.maintenance
        well &= (nodes.heartbeat_age_s <= self.policy.suspect_min_s) & (nodes.votes_dead == 0)
        counts = np.bincount(nodes.region_index[well], minlength=len(nodes.regions))
        return Survey(nodes, well, np.flatnonzero(~well).tolist(), counts.tolist())

    def follow_maintenance(self, evidence: Evidence, now_s: float) -> None:
        """The silence of a node counts from the first tick in which it is watched again."""
        nodes = evidence.nodes
        marked = {nodes.node_ids[index] for index in nodes.maintenance.nonzero()[0].tolist()}
        for name in self.maintained - marked:
            if nodes.find(name) is not None:
                self.maintained.discard(name)
                self.watch_from_s[name] = now_s
        self.maintained |= marked

    def row(self, evidence: Evidence, index: int, now_s: float) -> Row:
        """One node's evidence now, ages clamped to when we began to trust them."""
        nodes = evidence.nodes
        name = nodes.node_ids[index]
        code = nodes.infrastructure.item(index)
        watching_s = now_s - self.ages_from_s
        watched_s = now_s - self.watch_from_s.get(name, self.ages_from_s)
        idle = code in {Infrastructure.PENDING, Infrastructure.STOPPED}
        age_s, limit_s = nodes.heartbeat_age_s.item(index), self.limit_s(evidence, index)
        return Row(
            node=index,
            watched=not (nodes.maintenance.item(index) or idle),
            terminated=code == Infrastructure.TERMINATED and not self.lives_on(evidence, index),
            silence_s=min(age_s, watching_s, watched_s),
            limit_s=limit_s,
            lease_silence_s=min(nodes.lease_age_s.item(index), watching_s),
            heard=age_s <= limit_s,
        )

    def lives_on(self, evidence: Evidence, index: int) -> bool:
        """Terminated, they say; but has it shown life since?"""
        nodes = evidence.nodes
        sign_s = min(
            float(nodes.heartbeat_age_s[index]),
            float(nodes.lease_age_s[index]),
            float(nodes.work_age_s[index]),
        )
        since_s = float(nodes.terminated_age_s[index])
        fresh = sign_s <= self.limit_s(evidence, index)
        answers = nodes.votes_alive[index] > nodes.votes_dead[index]
        if answers and since_s > self.policy.suspect_min_s:
            return True
        return fresh and sign_s + self.policy.terminated_margin_s < since_s

    def limit_s(self, evidence: Evidence, index: int) -> float:
        """Silence that is suspect."""
        own_s: float = self.policy.suspect_intervals * evidence.nodes.heartbeat_mean_s.item(index)
        return min(max(own_s, self.policy.suspect_min_s), self.policy.suspect_cap_s)

    def is_lost(self, row: Row) -> bool:
        """Terminated, or silent for too long."""
        return row.terminated or row.silence_s > row.limit_s

    def distrusted(self, evidence: Evidence, now_s: float) -> list[Rule]:
        """Why nobody should trust this tick."""
        bad = []
        policy = self.policy
        if not evidence.store_reachable:
            bad.append(Rule.STORE_REACHABLE)
        if evidence.observers_reporting * 2 <= evidence.observers_configured:
            bad.append(Rule.OBSERVER_MAJORITY)
        same = evidence.clock_id == self.clock_id and self.tick_s is not None
        gap_s = now_s - (self.tick_s or 0.0)
        if same and not 0.0 <= gap_s <= policy.tick_gap_intervals * policy.tick_interval_s:
            bad.append(Rule.TICK_GAP)
        survey = self.survey(evidence)
        rows = [self.row(evidence, index, now_s) for index in survey.notable]
        watched = [row for row in rows if row.watched]
        total = len(watched) + sum(survey.well_in)
        lost = [row for row in watched if self.is_lost(row)]
        hurt = [row for row in lost if evidence.nodes.agents[row.node] > 0]
        left = total - (len(lost) - len(hurt))
        if hurt and len(hurt) >= policy.mass_loss_fraction * left:
            bad.append(Rule.MASS_LOSS)
        if self.channel_at_fault(evidence, watched, total, now_s):
            bad.append(Rule.CHANNEL_FAULT)
        return bad

    def channel_at_fault(
        self, evidence: Evidence, watched: list[Row], total: int, now_s: float
    ) -> bool:
        """Half of all (`total`) lack one channel while another carries; `watched` are notable."""
        nodes, policy = evidence.nodes, self.policy
        survey = self.survey(evidence)
        for name in [name for name in self.unusable_s if survey.is_well(name)]:
            del self.unusable_s[name]
        deaf = blind = 0
        for row in watched:
            name = nodes.node_ids[row.node]
            silent = row.silence_s > row.limit_s and not row.terminated
            deaf += silent and nodes.lease_age_s.item(row.node) < policy.contrary_fresh_s
            if row.heard and self.dead_by_votes(evidence, row.node) and not row.terminated:
                blind += now_s - self.unusable_s.setdefault(name, now_s) >= policy.confirm_s
            else:
                self.unusable_s.pop(name, None)
        least = policy.channel_fault_fraction * total
        return total > 0 and any(count > 1 and count >= least for count in (deaf, blind))

    def dead_by_votes(self, evidence: Evidence, index: int) -> bool:
        """A majority of all configured observers, from enough places."""
        nodes, policy = evidence.nodes, self.policy
        return (
            int(nodes.observers[index]) >= policy.observers_min
            and int(nodes.votes_dead[index]) > int(nodes.observers[index]) / 2
            and int(nodes.dead_domains[index]) >= policy.vote_domains_min
            and int(nodes.dead_outside[index]) >= policy.vote_outside_min
        )

    def contrary(self, evidence: Evidence, row: Row) -> bool:
        """A fresh sign of life that is no heartbeat."""
        nodes, fresh_s = evidence.nodes, self.policy.contrary_fresh_s
        if row.terminated:
            return False
        return bool(
            nodes.lease_age_s[row.node] < fresh_s
            or nodes.work_age_s[row.node] < fresh_s
            or nodes.votes_alive[row.node] > nodes.votes_dead[row.node]
        )

    def is_gone(self, evidence: Evidence, row: Row) -> bool:
        """Lost, and nothing speaks against it."""
        said = int(evidence.nodes.infrastructure[row.node]) == Infrastructure.TERMINATED
        if said and self.lives_on(evidence, row.node):
            return False
        return self.is_lost(row) and not self.contrary(evidence, row)
