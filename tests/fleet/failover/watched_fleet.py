"""A small world that failover decisions are made about: nodes as they look, tick by tick.

It beats, renews and votes as told, obeys actions at once (or not at all), and shows every decision
to an invariant checker. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fleet.decided_moves import DecidedMove
from fleet.failover.columns import Infrastructure, node_columns
from fleet.failover.decide import decide
from fleet.failover.invariants import InvariantChecker
from fleet.failover.limit_checks import Violation
from fleet.failover.policy import FailoverPolicy
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import (
    Action,
    ActionKind,
    AgentCrashes,
    Decision,
    Directives,
    Evidence,
    FailoverState,
    IncidentFact,
    LeaderFacts,
    NodeState,
    NonAction,
)
from fleet.failover.rules import Rule

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""A Monday morning: inside business hours."""

LEADING = LeaderFacts(held=True, term=7, left_s=12.0, renewed=True)


@dataclass
class WatchedNode:
    """How one node looks; change fields to let things happen to it."""

    node_id: str
    region: str
    agents: int = 10
    stateless: int = 0
    stale: int = 0
    beats: bool = True
    renews: bool = True
    works: bool = False
    votes_dead: int = 0
    votes_alive: int = 3
    dead_domains: int = 0
    dead_outside: int = 0
    infrastructure: Infrastructure = Infrastructure.RUNNING
    terminated_s: float = float("-inf")
    stop_acknowledged: bool = False
    maintenance: bool = False
    beat_s: float = 0.0
    renewed_s: float = 0.0
    worked_s: float = float("-inf")
    lease_ttl_s: float = 0.0

    def die(self) -> None:
        """Fall silent; observers in two domains, one of them outside, notice."""
        self.beats = self.renews = self.works = False
        self.vote_dead()

    def vote_dead(self, dead: int = 3, alive: int = 0, domains: int = 2, outside: int = 1) -> None:
        """Let the observers say so."""
        self.votes_dead, self.votes_alive = dead, alive
        self.dead_domains, self.dead_outside = domains, outside

    def terminate(self, now_s: float) -> None:
        """Vanish, seen by the infrastructure and by the observers."""
        self.die()
        self.infrastructure, self.terminated_s = Infrastructure.TERMINATED, now_s

    def live(self) -> None:
        """Be as good as new."""
        self.beats = self.renews = True
        self.infrastructure = Infrastructure.RUNNING
        self.stop_acknowledged = False
        self.vote_dead(0, 3, 0, 0)


@dataclass
class WatchedFleet:
    """The nodes, the controller's memory, and what people have ordered."""

    policy: FailoverPolicy = PRODUCTION
    nodes_per_region: int = 4
    regions: tuple[str, ...] = ("ap", "eu", "us")
    without: frozenset[Rule] = frozenset()
    obeys: bool = True
    observers: int = 3
    now_s: float = 1000.0
    leader: LeaderFacts = LEADING
    store_reachable: bool = True
    observers_reporting: int = 9
    directives: Directives = Directives()  # noqa: RUF009 - an immutable record
    crashes: tuple[AgentCrashes, ...] = ()
    clock_id: str = "boot-1"
    abroad: dict[str, int] = field(default_factory=dict)
    earlier_moves: tuple[DecidedMove, ...] | None = ()
    earlier_evacuations: Mapping[str, str] = field(default_factory=dict)
    incidents: dict[str, str] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    history: list[tuple[float, Decision]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    state: FailoverState = FailoverState()  # noqa: RUF009 - an immutable record

    def __post_init__(self) -> None:
        """Bring all nodes up, and let the controller see them once."""
        self.nodes = {
            f"{region}-{number:02}": WatchedNode(f"{region}-{number:02}", region)
            for region in self.regions
            for number in range(self.nodes_per_region)
        }
        self.checker = InvariantChecker(self.policy)
        self.tick(0.0)

    def __getitem__(self, node_id: str) -> WatchedNode:
        """One node."""
        return self.nodes[node_id]

    def region(self, region: str) -> list[WatchedNode]:
        """All nodes of a region."""
        return [node for node in self.nodes.values() if node.region == region]

    def evidence(self) -> Evidence:
        """What the controller sees now."""
        rows = [self.nodes[name] for name in sorted(self.nodes)]
        now_s = self.now_s
        columns = node_columns(
            tuple(row.node_id for row in rows),
            self.regions,
            region_index=[self.regions.index(row.region) for row in rows],
            heartbeat_age_s=[now_s - row.beat_s for row in rows],
            heartbeat_mean_s=1.0,
            lease_age_s=[now_s - row.renewed_s for row in rows],
            lease_ttl_s=[row.lease_ttl_s for row in rows],
            work_age_s=[now_s - row.worked_s for row in rows],
            infrastructure=[row.infrastructure for row in rows],
            terminated_age_s=[
                now_s - row.terminated_s
                if row.infrastructure is Infrastructure.TERMINATED
                else float("inf")
                for row in rows
            ],
            stop_acknowledged=[row.stop_acknowledged for row in rows],
            maintenance=[row.maintenance for row in rows],
            agents=[row.agents for row in rows],
            agents_stateless=[row.stateless for row in rows],
            agents_stale=[row.stale for row in rows],
            observers=self.observers,
            votes_dead=[row.votes_dead for row in rows],
            votes_alive=[row.votes_alive for row in rows],
            dead_domains=[row.dead_domains for row in rows],
            dead_outside=[row.dead_outside for row in rows],
        )
        return Evidence(
            at=START + timedelta(seconds=now_s - 1000.0),
            clock_id=self.clock_id,
            nodes=columns,
            leader=self.leader,
            store_reachable=self.store_reachable,
            observers_configured=9,
            observers_reporting=self.observers_reporting,
            directives=self.directives,
            crashes=self.crashes,
            incidents=tuple(
                IncidentFact(incident, subject, self.pending.get(incident, 0))
                for incident, subject in self.incidents.items()
            ),
            agents_abroad=dict(self.abroad),
            earlier_moves=self.earlier_moves,
            earlier_evacuations=self.earlier_evacuations,
        )

    def tick(self, step_s: float | None = None) -> Decision:
        """Let one interval pass and decide."""
        self.now_s += self.policy.tick_interval_s if step_s is None else step_s
        for node in self.nodes.values():
            node.beat_s = self.now_s if node.beats else node.beat_s
            node.renewed_s = self.now_s if node.renews else node.renewed_s
            node.worked_s = self.now_s if node.works else node.worked_s
        evidence = self.evidence()
        decision = decide(evidence, self.state, self.policy, self.now_s, without=self.without)
        self.state = decision.state
        self.violations += self.checker.observe(evidence, decision, self.now_s)
        self.history.append((self.now_s, decision))
        for action in decision.actions:
            self._obey(action)
        for node in self.nodes.values():
            if node.beats and self.obeys:  # it reads its placements when it beats
                node.stale = 0
        if not self.without:
            assert self.violations == []
        return decision

    def run(self, seconds: float, step_s: float | None = None) -> list[Decision]:
        """Tick until so much time has passed."""
        end_s = self.now_s + seconds - 1e-9
        decisions = []
        while self.now_s < end_s:
            decisions.append(self.tick(step_s))
        return decisions

    def _obey(self, action: Action) -> None:
        """Do at once what was asked for, as far as the store and nodes would show it."""
        if action.kind is ActionKind.OPEN_INCIDENT:
            self.incidents[action.incident] = action.subject
        elif action.kind is ActionKind.END_INCIDENT:
            self.incidents.pop(action.incident, None)
        elif not self.obeys:
            return
        elif action.kind in {ActionKind.MOVE_NODE, ActionKind.EVACUATE_REGION}:
            for name in action.nodes:
                self._move(self.nodes[name], action)
        elif action.kind is ActionKind.FAIL_BACK:
            region = action.subject.removeprefix("region/")
            self.abroad[region] = max(0, self.abroad[region] - (action.agents_max or 0))

    def _move(self, node: WatchedNode, action: Action) -> None:
        moved = node.stateless if action.stateless_only else node.agents
        node.stale += moved
        node.agents -= moved
        node.stateless = 0
        if action.kind is ActionKind.EVACUATE_REGION:
            self.abroad[node.region] = self.abroad.get(node.region, 0) + moved
        living = [
            other
            for other in self.nodes.values()
            if other.beats and self.state.nodes.get(other.node_id) is None
        ]
        at_home = [other for other in living if other.region == node.region]
        if action.kind is ActionKind.EVACUATE_REGION or not at_home:
            at_home = [other for other in living if other.region != node.region]
        for number in range(moved if at_home else 0):  # without any room they are parked
            at_home[number % len(at_home)].agents += 1

    # -- looking back ----------------------------------------------------------------------------

    def state_of(self, node_id: str) -> NodeState:
        """What the controller holds the node to be."""
        mark = self.state.nodes.get(node_id)
        return NodeState.HEALTHY if mark is None else mark.state

    def done(self, kind: ActionKind) -> list[tuple[float, Action]]:
        """All actions of a kind so far, with their times."""
        return [
            (at_s, action)
            for at_s, decision in self.history
            for action in decision.actions
            if action.kind is kind
        ]

    def alerts(self, rule: Rule) -> list[Action]:
        """All alerts of a rule so far."""
        return [action for _, action in self.done(ActionKind.ALERT) if action.rule is rule]

    def refused(self, rule: Rule) -> list[NonAction]:
        """All non-actions because of a rule so far."""
        return [
            missed
            for _, decision in self.history
            for missed in decision.non_actions
            if missed.rule is rule
        ]
