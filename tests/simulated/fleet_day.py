"""A simulated fleet of any size under the failover decision, tick after tick, without a store.

The live drive (`failover_drive`) runs the whole controller and its runs through a store, which is
exact and slow. Here `decide` is given the same evidence by `FleetSight`, and what it asks for is
done at once: incidents are kept, agents of fenced nodes are placed anew, crash loops are parked.
Every tick is taken, `tick_interval_s` apart; none is skipped because nothing seems to happen.

Not played: the time that runs take, fail-backs, orders of people, the way of the leader lease.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np

from fleet.failover.columns import NodeColumns
from fleet.failover.decide import decide
from fleet.failover.invariants import InvariantChecker
from fleet.failover.limit_checks import Violation
from fleet.failover.mark_table import MarkTable
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import (
    Action,
    ActionKind,
    AgentCrashes,
    ControllerState,
    Decision,
    Evidence,
    FailoverState,
    IncidentFact,
    LeaderFacts,
    NodeState,
)
from fleet.failover.rules import Rule
from fleet.probing import PRODUCTION_PROBING, ProbePolicy
from resources.controller_prober import NODES_MAX
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.sight import FleetSight
from tests.simulated.day_moves import DayMoves

LEADER = LeaderFacts(held=True, term=1, left_s=12.0, renewed=True)

SUSPECTS = frozenset({
    NodeState.SUSPECT, NodeState.CONFIRMED, NodeState.FENCED, NodeState.DEGRADED, NodeState.GRAY,
    NodeState.PROBATION,
})  # fmt: skip
"""Nodes in these states are probed by the controller, as by the live one."""


class FleetDay:
    """The fleet, one controller's memory, and counts of what it did.

    Args:
        cluster: with its faults planned; its time goes on with each tick.
        policy: of failover.
        probing: of the observers.
        checked: whether the invariant checker looks at every tick.
        without: rules that are switched off, to see whether anybody notices.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        policy: FailoverPolicy,
        probing: ProbePolicy = PRODUCTION_PROBING,
        *,
        checked: bool = True,
        without: frozenset[Rule] = frozenset(),
    ) -> None:
        """Nothing has been looked at yet."""
        self.cluster, self.policy, self.without = cluster, policy, without
        self.sight = FleetSight(cluster, policy, probing, own_max=NODES_MAX)
        self.moves = DayMoves(cluster, self.sight, LEADER.term)
        self.checker = InvariantChecker(policy) if checked else None
        self.state = FailoverState()
        self.incidents: dict[str, str] = {}
        """Those that are open: id -> subject."""
        self.ticks = 0
        self.done: Counter[str] = Counter()
        """Actions by kind."""
        self.refused: Counter[str] = Counter()
        """Non-actions by rule."""
        self.changes = 0
        """Transitions of nodes, regions and the controller."""
        self._read = cluster.machinery.queue.recorded
        self._restarts: deque[tuple[float, str]] = deque()
        self._often: Counter[str] = Counter()
        """Agents that were started again within the window of crash loops, with how often."""

    @property
    def violations(self) -> list[Violation]:
        """Promises that were broken, by what was decided or in truth."""
        found = [] if self.checker is None else self.checker.violations
        return [*found, *self.moves.violations]

    def run(self, seconds: float) -> None:
        """Tick until so much time has passed."""
        end_s = self.cluster.clock.monotonic_s() + seconds
        while self.cluster.clock.monotonic_s() < end_s - 1e-6:
            self.tick()

    def tick(self) -> Decision:
        """Let one interval pass, look, decide, and do what was decided."""
        self.cluster.advance(self.policy.tick_interval_s)
        now_s = self.cluster.clock.monotonic_s()
        evidence = self._evidence(now_s)
        decision = self.decide(evidence, now_s)
        froze = self.state.controller is not ControllerState.FROZEN
        if decision.controller is ControllerState.FROZEN and froze:
            self.sight.restart()
        self.state = decision.state
        if self.checker is not None:
            self.checker.observe(evidence, decision, now_s)
        self.ticks += 1
        self.changes += len(decision.transitions)
        self.done.update(action.kind.value for action in decision.actions)
        self.refused.update(missed.rule.value for missed in decision.non_actions)
        self._obey(decision, evidence.nodes)
        self.moves.check()
        return decision

    def decide(self, evidence: Evidence, now_s: float) -> Decision:
        """The live decision."""
        return decide(evidence, self.state, self.policy, now_s, without=self.without)

    # -- what is seen ----------------------------------------------------------------------------

    def _evidence(self, now_s: float) -> Evidence:
        probes = self.sight.probes
        nodes = self.sight.look(
            self._positions(SUSPECTS), self._positions(frozenset({NodeState.PROBATION})).tolist()
        )
        return Evidence(
            at=self.cluster.clock.now(),
            clock_id="day",
            nodes=nodes,
            leader=LEADER,
            observers_configured=probes.observers_configured(),
            observers_reporting=probes.observers_reporting(now_s),
            crashes=self._crashes(now_s),
            incidents=tuple(
                IncidentFact(incident, subject, self.moves.pending(incident))
                for incident, subject in self.incidents.items()
            ),
        )

    def _positions(self, states: frozenset[NodeState]) -> Any:
        """Where the nodes stand that are held to be in one of these states."""
        marks = self.state.nodes
        if not isinstance(marks, MarkTable):
            return np.zeros(0, dtype=np.intp)
        return marks.at[marks.rows(lambda mark: mark.state in states)]

    def _crashes(self, now_s: float) -> tuple[AgentCrashes, ...]:
        """Agents that were started again too often within the window."""
        queue, recent = self.cluster.machinery.queue, self._restarts
        for event in queue.since(self._read):
            if event.kind == "agent_restarted":
                recent.append((event.at_us / 1e6, event.subject))
                self._often[event.subject] += 1
        self._read = queue.recorded
        while recent and now_s - recent[0][0] >= self.policy.crash_window_s:
            _, agent_id = recent.popleft()
            self._often[agent_id] -= 1
            if not self._often[agent_id]:
                del self._often[agent_id]
        looping = [
            (agent_id, count)
            for agent_id, count in self._often.items()
            if count >= self.policy.crash_restarts_max
        ]
        placements = self.cluster.machinery.placements
        return tuple(
            AgentCrashes(agent_id, placed.node_id, placed.epoch, count)
            for agent_id, count in looping
            if (placed := placements[agent_id]).desired == "running"
        )

    # -- what is done ----------------------------------------------------------------------------

    def _obey(self, decision: Decision, nodes: NodeColumns) -> None:
        """Do what was decided, in its order."""
        whole: Any = None
        for action in decision.actions:
            if action.kind is ActionKind.OPEN_INCIDENT:
                self.incidents[action.incident] = action.subject
            elif action.kind is ActionKind.END_INCIDENT:
                self.incidents.pop(action.incident, None)
                self.moves.end(action.incident)
            elif action.kind is ActionKind.PARK_AGENT:
                self.moves.park(action.subject.removeprefix("agent/"))
            elif action.kind in {ActionKind.MOVE_NODE, ActionKind.EVACUATE_REGION}:
                whole = self._whole() if whole is None else whole
                self._move(action, whole)

    def _move(self, action: Action, whole: Any) -> None:
        if action.kind is ActionKind.MOVE_NODE:
            self.moves.move_node(action.nodes[0], action.incident, whole, action.attempt)
            return
        region = action.subject.removeprefix("region/")
        self.moves.evacuate(action.nodes, region, action.incident, whole)

    def _whole(self) -> Any:
        """Nodes that may take agents in: those that nothing is held against."""
        whole = np.ones(len(self.sight.names), dtype=bool)
        whole[self._positions(frozenset(NodeState) - {NodeState.HEALTHY})] = False
        return whole
