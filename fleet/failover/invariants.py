"""What must hold whatever happens: a second opinion on every decision, sharing no code with it.

`InvariantChecker` watches ticks from outside. It keeps its own history (ages, moves, verdict times)
and says which promise an action breaks. It is used after every step of the simulated scenarios and
of the random search; `decide(..., without={rule})` proves that it notices a missing rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from fleet.failover.limit_checks import SLACK_S, LimitChecks, Violation
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    DESTRUCTIVE,
    Action,
    ActionKind,
    ControllerState,
    Decision,
    Evidence,
    NodeState,
    RegionState,
)
from fleet.failover.rules import Rule
from fleet.failover.witness import Row, Survey

_MOVING = frozenset({ActionKind.MOVE_NODE, ActionKind.EVACUATE_REGION})

_DOUBTED = frozenset({NodeState.SUSPECT, NodeState.CONFIRMED, NodeState.FENCED})
_CLEARED = frozenset({NodeState.HEALTHY, NodeState.DEGRADED, NodeState.QUARANTINE})


class LiveCopy(NamedTuple):
    """One copy of an agent that can write, as only the simulator knows."""

    agent_id: str
    node_id: str
    epoch: int


class InvariantChecker(LimitChecks):
    """Collects violations over a run of ticks; one policy, one controller process after another."""

    def __init__(self, policy: FailoverPolicy) -> None:
        """Judge by `policy`, whatever the decisions were made with."""
        super().__init__(policy)
        self._was_bad = False
        self._probation: dict[str, float] = {}
        self._clears: dict[str, list[float]] = defaultdict(list)
        self._given_up: set[str] = set()
        self._suspect_s: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()
        self._gray_s: dict[str, float] = {}
        self._open: dict[str, str] = {}
        self._unmoved_s: dict[str, float] = {}
        self._stale_s: dict[str, float] = {}

    # -- one tick --------------------------------------------------------------------------------

    def observe(self, evidence: Evidence, decision: Decision, now_s: float) -> list[Violation]:
        """Check one decision against the evidence it was given; returns what it broke."""
        before = len(self.violations)
        if evidence.clock_id != self.witness.clock_id:
            self._restart(now_s)
            self._was_bad = False
        self.witness.follow_maintenance(evidence, now_s)
        bad = self.witness.distrusted(evidence, now_s)
        if not self._count_earlier(evidence, now_s):
            bad.append(Rule.EARLIER_MOVES)
        if self._was_bad and not bad and decision.controller is not ControllerState.FROZEN:
            self._restart(now_s)
        self.witness.clock_id, self.witness.tick_s = evidence.clock_id, now_s
        self._was_bad = bool(bad) or decision.controller is ControllerState.FROZEN
        if self._was_bad:
            self._full_s.clear()
        self._read(evidence, decision, now_s)
        self._follow(evidence, decision, now_s)
        self._check_controller(evidence, decision, bad)
        for action in decision.actions:
            self._check_action(evidence, action, now_s)
        self._check_completeness(evidence, decision, now_s, bad=bool(bad))
        return self.violations[before:]

    def observe_copies(self, copies: Iterable[LiveCopy]) -> list[Violation]:
        """No agent may have two copies that can write under the same or a newer epoch."""
        before = len(self.violations)
        seen: dict[tuple[str, int], str] = {}
        for copy in copies:
            other = seen.setdefault((copy.agent_id, copy.epoch), copy.node_id)
            if other != copy.node_id:
                detail = f"epoch {copy.epoch} on {other} and on {copy.node_id}"
                self._break("one_writer", f"agent/{copy.agent_id}", detail)
        return self.violations[before:]

    def open_incidents(self) -> dict[str, str]:
        """Incidents without an end so far: id -> subject."""
        return dict(self._open)

    def _restart(self, now_s: float) -> None:
        self.witness.ages_from_s = now_s
        self.witness.unusable_s.clear()
        self._full_s.clear()
        self._calm_s.clear()
        self._suspect_s.clear()
        self._gray_s.clear()
        self._unmoved_s.clear()
        self._probation = dict.fromkeys(self._probation, now_s)

    def _follow(self, evidence: Evidence, decision: Decision, now_s: float) -> None:
        """Keep what the later checks need: since when is what so?"""
        nodes, survey = evidence.nodes, self.witness.survey(evidence)
        by_region: dict[str, list[Row]] = {
            region: [] for region, well in zip(nodes.regions, survey.well_in, strict=True) if well
        }
        alive = set(by_region)
        self._forget_well(survey, self._gray_s, self._suspect_s)
        for index, row in self._rows.items():
            name = nodes.node_ids[index]
            if row.watched:
                by_region.setdefault(nodes.region_of(index), []).append(row)
            gray = row.watched and row.heard and self.witness.dead_by_votes(evidence, index)
            _since(self._gray_s, name, now_s, holds=gray and not row.terminated)
            mark = self._marks.get(name)
            suspect = mark is not None and mark.state is NodeState.SUSPECT
            lost = suspect and self.witness.is_lost(row)
            _since(self._suspect_s, name, now_s, holds=lost)
        for subject in evidence.directives.acknowledged:
            if nodes.find(subject.removeprefix("node/")) is not None:
                self._clears.pop(subject.removeprefix("node/"), None)
                self._cooling.pop(subject, None)
        unhealthy = {
            nodes.region_of(at)
            for mark in self._marks.values()
            if mark.state is not NodeState.HEALTHY and (at := nodes.find(mark.node_id)) is not None
        }
        for region, rows in by_region.items():
            full = region not in alive and all(self.witness.is_gone(evidence, row) for row in rows)
            _since(self._full_s, region, now_s, holds=full)
            _since(self._calm_s, region, now_s, holds=region not in unhealthy)
            home = evidence.agents_abroad.get(region, 0) == 0
            calm_s = now_s - self._calm_s.get(region, now_s)
            if home and calm_s >= self.policy.fail_back_calm_s:
                self._evacuated.pop(region, None)
        for change in decision.transitions:
            self._check_transition(evidence, change.subject, change.before, change.after, now_s)

    def _forget_well(self, survey: Survey, *histories: dict[str, float]) -> None:
        """Nothing that is kept here holds of a node that is plainly well."""
        for moments in histories:
            for name in [name for name in moments if survey.is_well(name)]:
                del moments[name]

    def _check_transition(
        self, evidence: Evidence, subject: str, before: str, after: str, now_s: float
    ) -> None:
        name = subject.removeprefix("node/")
        index = evidence.nodes.find(name) if subject.startswith("node/") else None
        if index is None:
            return
        if after == NodeState.PROBATION:
            self._probation[name] = now_s
        if before == NodeState.PROBATION and after in {NodeState.HEALTHY, NodeState.QUARANTINE}:
            served_s = now_s - self._probation.get(name, -1e18)
            if served_s + SLACK_S < self.policy.probation_s:
                self._break("probation", subject, f"ended after {served_s:g} s")
            if int(evidence.nodes.agents_stale[index]) > 0:
                self._break("stale_stopped_first", subject, "stale copies still run")
        if self._row(evidence, index, now_s).watched:
            self._check_flaps(name, before, after, now_s)
            self._check_return(name, before, after)
        else:
            self._given_up.discard(name)  # somebody has stopped it, who knows more

    def _check_return(self, name: str, before: str, after: str) -> None:
        """A node that was given up serves a probation first, whatever shows its return."""
        if after in {NodeState.MOVED, NodeState.PROBATION}:
            self._given_up.add(name)
        elif before == NodeState.MOVED and after == NodeState.SUSPECT:
            self._given_up.discard(name)  # somebody has placed agents there meanwhile
        elif before == NodeState.PROBATION and after in {NodeState.HEALTHY, NodeState.QUARANTINE}:
            self._given_up.discard(name)  # how long it was is judged apart
        elif after == NodeState.MAINTENANCE:
            self._given_up.discard(name)
        elif after == NodeState.HEALTHY and name in self._given_up:
            self._break("probation", f"node/{name}", "was given up, and is whole without it")

    def _check_flaps(self, name: str, before: str, after: str, now_s: float) -> None:
        """A doubt that clears is a flap, whichever channel is heard first; too many are told."""
        if before == NodeState.QUARANTINE and after == NodeState.HEALTHY:
            self._clears.pop(name, None)
            return
        window_s = self.policy.flap_window_s
        clears = [at_s for at_s in self._clears[name] if now_s - at_s < window_s]
        if before in _DOUBTED and after in _CLEARED:
            clears.append(now_s)
        self._clears[name] = clears
        whole = before in _DOUBTED | {NodeState.DEGRADED} and after == NodeState.HEALTHY
        if whole and len(clears) >= self.policy.flaps_max:
            self._break("flapping", f"node/{name}", f"{len(clears)} flaps, still healthy")

    # -- who may act -----------------------------------------------------------------------------

    def _check_controller(self, evidence: Evidence, decision: Decision, bad: list[Rule]) -> None:
        destructive = [action for action in decision.actions if action.kind in DESTRUCTIVE]
        leader, policy = evidence.leader, self.policy
        leads = leader.held and leader.renewed and leader.left_s >= policy.leader_left_min_s
        for action in destructive:
            if bad or decision.controller is ControllerState.FROZEN:
                why = ", ".join(rule.value for rule in bad) or "frozen"
                self._break("frozen_changes_nothing", action.subject, why)
            if not leads or decision.controller is not ControllerState.ACTIVE:
                self._break("one_acts", action.subject, "does not lead")
            if action.term != leader.term:
                self._break("term", action.subject, f"{action.term}, ours is {leader.term}")
        for action in decision.actions:
            if not action.reasons:
                self._break("reasons", action.subject, "no reason given")
        for missed in decision.non_actions:
            if not missed.reasons:
                self._break("reasons", missed.action.subject, "no reason given")

    # -- one action ------------------------------------------------------------------------------

    def _check_action(self, evidence: Evidence, action: Action, now_s: float) -> None:
        self._told.add((action.subject, action.rule.value))
        if action.kind is ActionKind.OPEN_INCIDENT:
            self._open[action.incident] = action.subject
        elif action.kind is ActionKind.END_INCIDENT:
            self._open.pop(action.incident, None)
        paused = evidence.directives.paused
        forced = self._is_forced(evidence, action.subject)
        if paused and action.kind in DESTRUCTIVE and not forced:
            self._break("paused", action.subject, paused)
        if action.kind in _MOVING:
            for name in action.nodes:
                self._check_moved_node(evidence, action, name, now_s)
        if action.kind is ActionKind.MOVE_NODE:
            self._check_limits(evidence, action, now_s)
        elif action.kind is ActionKind.EVACUATE_REGION:
            self._check_evacuation(evidence, action, now_s)
        elif action.kind is ActionKind.FAIL_BACK:
            self._check_fail_back(evidence, action, now_s)
        elif action.kind is ActionKind.UNREGISTER_NODE:
            self._check_unregistered(action, now_s)

    def _check_moved_node(
        self, evidence: Evidence, action: Action, name: str, now_s: float
    ) -> None:
        subject, nodes = f"node/{name}", evidence.nodes
        index = nodes.find(name)
        if index is None:
            self._break("known_node", subject, "not declared")
            return
        row = self._row(evidence, index, now_s)
        policy = self.policy
        forced = self._is_forced(evidence, subject, nodes.region_of(index))
        ttl_s = float(nodes.lease_ttl_s[index]) or policy.lease_ttl_s
        run_out = row.lease_silence_s + SLACK_S >= ttl_s + policy.fence_margin_s
        stopped = bool(nodes.stop_acknowledged[index])
        if not (row.terminated or stopped or run_out or action.stateless_only):
            self._break("fenced_before_move", subject, f"lease {row.lease_silence_s:g} s old")
        if forced:
            return
        if nodes.maintenance[index]:
            self._break("maintenance", subject, "is in maintenance")
        if self.witness.contrary(evidence, row):
            self._break("no_move_against_evidence", subject, "shows fresh signs of life")
        if row.terminated:
            return
        if not self.witness.dead_by_votes(evidence, index):
            self._break("no_move_on_suspicion", subject, f"{nodes.votes_dead[index]} votes")
        least_s = policy.suspect_min_s + policy.confirm_s
        if row.silence_s + SLACK_S < least_s:
            self._break("no_early_move", subject, f"silent {row.silence_s:g} s of {least_s:g}")

    def _check_unregistered(self, action: Action, now_s: float) -> None:
        name = action.nodes[0]
        gray_s = now_s - self._gray_s.get(name, now_s)
        if gray_s + SLACK_S < self.policy.confirm_s:
            self._break("discovery", action.subject, f"unusable for {gray_s:g} s only")

    # -- what must not be left undone ------------------------------------------------------------

    def _check_completeness(
        self, evidence: Evidence, decision: Decision, now_s: float, *, bad: bool
    ) -> None:
        """Liveness that one controller owes: tell, park, move what nothing limits."""
        if bad or decision.controller is not ControllerState.ACTIVE:
            self._unmoved_s.clear()
            return
        policy = self.policy
        late_s = policy.undecided_windows * policy.confirm_s + policy.tick_interval_s
        for name, since_s in self._suspect_s.items():
            told = (f"node/{name}", Rule.UNDECIDED.value) in self._told
            if now_s - since_s > late_s and not told:
                self._break("undecided_is_told", f"node/{name}", f"suspect {now_s - since_s:g} s")
        for name, since_s in self._gray_s.items():
            told = (f"node/{name}", Rule.GRAY.value) in self._told
            judged = self._verdict_of(name)
            late = now_s - since_s > policy.confirm_s + policy.tick_interval_s
            if late and not told and not judged:
                self._break("gray_is_told", f"node/{name}", f"unusable {now_s - since_s:g} s")
        self._check_stale_told(evidence, decision, now_s)
        self._check_parked(evidence, decision)
        self._check_stateless(evidence, decision)
        self._check_acted(evidence, decision, now_s)

    def _verdict_of(self, name: str) -> bool:
        """The node is on its way out or back already, which was told."""
        mark = self._marks.get(name)
        return mark is not None and mark.state in {
            NodeState.CONFIRMED,
            NodeState.FENCED,
            NodeState.MOVED,
            NodeState.PROBATION,
        }

    def _check_stale_told(self, evidence: Evidence, decision: Decision, now_s: float) -> None:
        """Of copies that a node which came back does not stop a person is told."""
        late_s = self.policy.move_retry_s + self.policy.tick_interval_s
        for name, began_s in self._probation.items():
            mark, index = decision.state.nodes.get(name), evidence.nodes.find(name)
            if mark is None or mark.state is not NodeState.PROBATION or index is None:
                continue
            stale = int(evidence.nodes.agents_stale[index])
            _since(self._stale_s, name, now_s, holds=stale > 0)
            waited_s = now_s - max(began_s, self._stale_s.get(name, now_s))
            if waited_s > late_s and (f"node/{name}", Rule.STALE_EPOCHS.value) not in self._told:
                self._break("stale_is_told", f"node/{name}", f"{stale} copies, {waited_s:g} s")

    def _check_parked(self, evidence: Evidence, decision: Decision) -> None:
        """A crash loop on a healthy node is parked, or it is said why not."""
        answered = {action.subject for action in decision.actions}
        answered |= {missed.action.subject for missed in decision.non_actions}
        for crashes in evidence.crashes:
            mark = self._marks.get(crashes.node_id)
            healthy = mark is None or mark.state is NodeState.HEALTHY
            done = f"{crashes.agent_id}@{crashes.epoch}" in decision.state.parked
            subject = f"agent/{crashes.agent_id}"
            due = crashes.restarts >= self.policy.crash_restarts_max and healthy
            if due and not done and subject not in answered:
                self._break("crash_loop", subject, f"{crashes.restarts} restarts, not parked")

    def _check_stateless(self, evidence: Evidence, decision: Decision) -> None:
        """Agents that may run twice do not wait for a fence, or it is said why."""
        nodes = evidence.nodes
        acted = (*decision.actions, *(missed.action for missed in decision.non_actions))
        answered = {name for action in acted if action.stateless_only for name in action.nodes}
        for mark in self._marks.values():
            if mark.state is not NodeState.CONFIRMED or mark.stateless_moved:
                continue
            index = nodes.find(mark.node_id)
            if index is None:
                continue
            region = nodes.region_of(index)
            held = decision.state.regions.get(region)
            if self._is_full(region) or (held is not None and held.state is RegionState.FULL):
                continue
            if int(nodes.agents_stateless[index]) > 0 and mark.node_id not in answered:
                detail = f"{nodes.agents_stateless[index]} agents wait for a fence"
                self._break("stateless_first", f"node/{mark.node_id}", detail)

    def _check_acted(self, evidence: Evidence, decision: Decision, now_s: float) -> None:
        """A node with a definite death is acted on, or its limit is named."""
        nodes = evidence.nodes
        answered = {
            name
            for action in (*decision.actions, *(m.action for m in decision.non_actions))
            if action.kind in _MOVING
            for name in action.nodes
        }
        self._forget_well(self.witness.survey(evidence), self._unmoved_s)
        for index, row in self._rows.items():
            name = nodes.node_ids[index]
            due = row.terminated and row.watched and nodes.agents.item(index) > 0
            _since(self._unmoved_s, name, now_s, holds=due and name not in answered)
            waited_s = now_s - self._unmoved_s.get(name, now_s)
            if waited_s > self.policy.move_retry_s + self.policy.tick_interval_s:
                self._break("dead_is_moved", f"node/{name}", f"nothing for {waited_s:g} s")


def _since(moments: dict[str, float], name: str, now_s: float, *, holds: bool) -> None:
    """Keep since when something holds."""
    if holds:
        moments.setdefault(name, now_s)
    else:
        moments.pop(name, None)
