"""The checker's half for limits: switches, budgets, rates, regions and fail-back.

Keeps its own history of moves and evacuations; see `invariants` for the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fleet.failover.policy import FailBackMode, FailoverPolicy, Mode, RegionMode
from fleet.failover.records import Action, Decision, Evidence, NodeMark, NodeState
from fleet.failover.witness import Row, Witness

SLACK_S = 1e-6
"""Times that differ by less are equal: they come out of sums of floats."""


class Violation(NamedTuple):
    """A broken promise."""

    invariant: str
    subject: str
    detail: str


class LimitChecks:
    """What an action may do to how much at once; `InvariantChecker` adds the rest."""

    def __init__(self, policy: FailoverPolicy) -> None:
        """Have seen no move yet."""
        self.policy = policy
        self.witness = Witness(policy)
        self.violations: list[Violation] = []
        self._rows: dict[int, Row] = {}
        """Of this tick: the nodes that are not plainly well, by position."""
        self._marks: Mapping[str, NodeMark] = {}
        """Of this tick."""
        self._moves: dict[str, tuple[float, int]] = {}
        """Move -> when it was asked for, and its agents."""
        self._counted_term: int | None = None
        self._cooling: dict[str, float] = {}
        self._evacuated: dict[str, float] = {}
        self._full_s: dict[str, float] = {}
        self._calm_s: dict[str, float] = {}
        self._fail_back_s: dict[str, float] = {}

    def _read(self, evidence: Evidence, decision: Decision, now_s: float) -> None:
        """Read what all checks of this tick look at."""
        notable = self.witness.survey(evidence).notable
        self._rows = {index: self.witness.row(evidence, index, now_s) for index in notable}
        self._marks = {mark.node_id: mark for mark in decision.state.nodes.values()}

    def _row(self, evidence: Evidence, index: int, now_s: float) -> Row:
        known = self._rows.get(index)
        return self.witness.row(evidence, index, now_s) if known is None else known

    def _break(self, invariant: str, subject: str, detail: str) -> None:
        self.violations.append(Violation(invariant, subject, detail))

    def _is_forced(self, evidence: Evidence, subject: str, region: str = "") -> bool:
        forced = evidence.directives.forced
        return subject in forced or f"region/{region}" in forced

    def _check_limits(self, evidence: Evidence, action: Action, now_s: float) -> None:
        policy, nodes = self.policy, evidence.nodes
        index = nodes.find(action.nodes[0])
        assert index is not None
        region = nodes.region_of(index)
        if self._is_forced(evidence, action.subject):
            return
        approved = _is_node_approved(evidence, action)
        mode = policy.node_mode_in(region)
        if mode is Mode.OBSERVE or (mode is Mode.APPROVE and not approved):
            self._break("mode", action.subject, mode.value)
        if self._is_full(region):
            self._break("region_as_a_whole", action.subject, f"all of {region} is lost")
        if action.attempt > 1:
            return
        if not approved:
            self._check_partial(evidence, action, region)
            self._check_cool_down(action, now_s)
            self._check_budget(evidence, action, now_s)
        self._note(action, now_s)

    def _count_earlier(self, evidence: Evidence, now_s: float) -> bool:
        """Take the moves of other leaders in; False while those of our term are not known."""
        leader = evidence.leader
        if not leader.held or leader.term == self._counted_term:
            return True
        if evidence.earlier_moves is None or not evidence.store_reachable:
            return False
        self._counted_term = leader.term
        for one in evidence.earlier_moves:
            if one.key not in self._moves:
                self._moves[one.key] = (now_s - one.age_s, one.agents or 0)
        return True

    def _note(self, action: Action, now_s: float) -> None:
        """A move that is asked for again, by this leader or another, is the same one."""
        _, known = self._moves.get(action.move_key, (0.0, 0))
        self._moves[action.move_key] = (now_s, max(known, action.agents))
        if not action.stateless_only:
            self._cooling[action.subject] = now_s

    def _is_full(self, region: str) -> bool:
        return region in self._full_s

    def _check_partial(self, evidence: Evidence, action: Action, region: str) -> None:
        """Nodes that are held to be degraded show life, whatever else is said of them."""
        nodes, survey = evidence.nodes, self.witness.survey(evidence)
        rows = [
            row
            for index, row in self._rows.items()
            if row.watched and nodes.region_of(index) == region
        ]
        total = len(rows) + survey.well_in[nodes.regions.index(region)]
        lost = 0
        for row in rows:
            mark = self._marks.get(nodes.node_ids[row.node])
            degraded = mark is not None and mark.state is NodeState.DEGRADED
            lost += self.witness.is_gone(evidence, row) and not degraded
        policy = self.policy
        partial = lost >= policy.partial_nodes_min and lost >= policy.partial_fraction * total
        if partial and total <= policy.partial_small_nodes:
            self._break("region_partial", action.subject, f"{lost} of {total} lost")

    def _check_budget(self, evidence: Evidence, action: Action, now_s: float) -> None:
        policy = self.policy
        others = [move for key, move in self._moves.items() if key != action.move_key]
        window = [agents for at_s, agents in others if now_s - at_s < policy.blast_window_s]
        agents = sum(window) + action.agents
        allowed = policy.blast_fraction * int(evidence.nodes.agents.sum())
        if window and agents > allowed:
            self._break("blast_radius", action.subject, f"{agents} agents of {allowed:g}")
        recent = [at_s for at_s, _ in others if now_s - at_s < policy.rate_window_s]
        most = max(policy.rate_nodes_min, int(policy.rate_fraction * len(evidence.nodes)))
        if len(recent) + 1 > most:
            self._break("move_rate", action.subject, f"{len(recent) + 1} nodes of {most}")

    def _check_cool_down(self, action: Action, now_s: float) -> None:
        policy = self.policy
        last_s = self._cooling.get(action.subject)
        if last_s is not None and now_s - last_s < policy.cool_down_s:
            self._break("cool_down", action.subject, f"moved {now_s - last_s:g} s ago")

    def _check_evacuation(self, evidence: Evidence, action: Action, now_s: float) -> None:
        policy = self.policy
        region = action.subject.removeprefix("region/")
        if self._is_forced(evidence, action.subject):
            self._evacuated.setdefault(region, now_s)
            return
        approved = action.key in evidence.directives.approved
        mode = policy.region_mode_of(region)
        if mode is RegionMode.OFF or (mode is RegionMode.APPROVE and not approved):
            self._break("region_mode", action.subject, mode.value)
        full_s = now_s - self._full_s.get(region, now_s)
        if full_s + SLACK_S < policy.region_verdict_s:
            self._break("region_verdict", action.subject, f"lost for {full_s:g} s")
        for other in self._evacuated:
            calm_s = now_s - self._calm_s.get(other, now_s)
            if other != region and not approved and calm_s < policy.fail_back_calm_s:
                self._break("one_region_at_a_time", action.subject, f"{other} is evacuated")
        self._evacuated.setdefault(region, now_s)

    def _check_fail_back(self, evidence: Evidence, action: Action, now_s: float) -> None:
        policy = self.policy
        region = action.subject.removeprefix("region/")
        approved = action.key in evidence.directives.approved
        calm_s = now_s - self._calm_s.get(region, now_s)
        if calm_s + SLACK_S < policy.fail_back_calm_s:
            self._break("fail_back_calm", action.subject, f"calm for {calm_s:g} s")
        mode = policy.fail_back_mode
        if mode is FailBackMode.OFF or (mode is FailBackMode.MANUAL and not approved):
            self._break("fail_back_mode", action.subject, mode.value)
        if region not in evidence.directives.rehearsed:
            self._break("fail_back_rehearsal", action.subject, "not rehearsed")
        first, last = policy.fail_back_hours_utc
        weekday = evidence.at.weekday() in policy.fail_back_weekdays
        if not approved and not (first <= evidence.at.hour < last and weekday):
            self._break("fail_back_window", action.subject, f"{evidence.at:%a %H:%M}")
        since_s = now_s - self._fail_back_s.get(region, -1e18)
        if since_s + SLACK_S < policy.fail_back_step_s:
            self._break("fail_back_rate", action.subject, f"{since_s:g} s after the last step")
        self._fail_back_s[region] = now_s


def _is_node_approved(evidence: Evidence, action: Action) -> bool:
    """A person's word for any step of the failover of this node in this incident."""
    about = ":".join(part for part in (action.subject, action.incident) if part)
    words = {f"{step}:{about}" for step in ("fence_node", "move_node")}
    return not evidence.directives.approved.isdisjoint({*words, f"move_node:{about}:stateless"})
