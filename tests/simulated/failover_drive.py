"""A simulated fleet under the live failover: truth below, the real controller and runs above.

Time is virtual. Nodes, networks and processes fail by order; what the controller sees of it comes
through the same store, reports, probes and leases as in a live fleet, what it decides is carried
out by the real steps of `ops`. After every step the truth is compared with the promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet.agents import Placement, StatePut, Workload
from fleet.errors import CorruptObjectError, LeaseLostError
from fleet.failover.limit_checks import Violation
from fleet.failover.policy import FailoverPolicy
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import Action, ActionKind
from fleet.failover.rules import Rule
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import FailoverOrder
from fleet.leases import Lease, fence_times, node_lease_name
from fleet.placement.parking import NO_NODE
from fleet.probing import ProbePolicy
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration
from ops.failover_controller import Tick
from ops.failover_evidence import WatchPorts
from ops.failover_jobs import failover_request
from ops.failover_ports import FailoverPorts
from resources.simulated.clock import MICROSECONDS, VirtualClock, as_microseconds
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.heartbeats import Beat
from resources.simulated.nodes import SimulatedNode
from resources.simulated.probing import SimulatedInfrastructure, SimulatedProbes
from tests.fakes.control_store import InMemoryControlStore
from tests.simulated.backups import SimulatedBackups
from tests.simulated.controllers import ReachedStore, SimulatedController, SimulatedProber
from tests.simulated.ops_runs import NEVER, OpsRun
from tests.simulated.story import Story

MONDAY = datetime.fromisoformat("2026-01-05T09:00:00+00:00")
STATELESS = "stateless"
"""Name of the workload whose agents may run twice."""
RUN_RETRY_S = 10.0
"""Until a run that died, or whose store was away, is started again."""


class StoreClock:
    """The store's clock: the simulation's, or the moment at which something arrived."""

    def __init__(self, clock: VirtualClock) -> None:
        """Run with `clock`."""
        self._clock = clock
        self.arrived_us: int | None = None

    def now(self) -> datetime:
        """When what is being stored arrived."""
        at_us = self._clock.elapsed_us if self.arrived_us is None else self.arrived_us
        return self._clock.at(at_us)

    def monotonic_s(self) -> float:
        """Seconds of the simulation."""
        return self._clock.monotonic_s()


@dataclass(frozen=True)
class FleetShape:
    """How large a fleet is, and how much room it has."""

    regions: tuple[str, ...] = ("ap", "eu", "us")
    nodes: int = 3
    """Of each region."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Region -> nodes, where it differs."""
    zones: int = 2
    """Of each region."""
    agents: int = 2
    """Of each node."""
    room: int = 20
    """Agents that fit on a node."""
    targets: Mapping[str, tuple[str, ...]] | None = None
    """Region -> where its agents may go; None: all others, by name."""
    head_room: float = 0.1
    stateless: int = 0
    """The last so many agents of each node belong to a workload that is declared stateless."""

    def declare(self) -> tuple[list[NodeDeclaration], list[AgentDeclaration], list[Placement]]:
        """Nodes, agents and where they are."""
        nodes = [
            NodeDeclaration(f"{r}-{n}", r, f"{r}{'abc'[n % self.zones]}", 100 * self.room, 2**40)
            for r in self.regions
            for n in range(1, self.sizes.get(r, self.nodes) + 1)
        ]
        agents, placements = [], []
        for node in nodes:
            for number in range(1, self.agents + 1):
                name = f"{node.node_id}-a{number}"
                kind = STATELESS if number > self.agents - self.stateless else "w"
                agents.append(AgentDeclaration(name, "net", kind, node.region, 100, 1))
                placements.append(
                    Placement(
                        name, "net", kind, node.node_id, node.region, 1, 0, "running", "", MONDAY
                    )
                )
        return nodes, agents, placements

    def declaration(self, policy: FailoverPolicy) -> FailoverDeclaration:
        """Policy and targets."""
        others = {one: tuple(o for o in self.regions if o != one) for one in self.regions}
        return FailoverDeclaration(policy, self.targets or others, self.head_room)


@dataclass
class _Launch:
    """An order that was handed out, and the process that carries it out."""

    order: FailoverOrder
    run: OpsRun
    due_s: float | None = None
    """When it is started again."""
    tries: int = 1


class FailoverDrive:
    """The fleet, its store, its controllers and its runs.

    Args:
        policy: of failover.
        shape: of the fleet.
        seed: of the simulated cluster.
        without: rules that are switched off, to see whether anybody notices.
    """

    def __init__(
        self,
        policy: FailoverPolicy = PRODUCTION,
        shape: FleetShape = FleetShape(),
        *,
        seed: int = 0,
        without: frozenset[Rule] = frozenset(),
    ) -> None:
        """Bring everything up, and let the controller see it for a while; then it is second 0."""
        self.policy, self.shape, self.without = policy, shape, without
        self.pulse_s = min(policy.tick_interval_s, policy.suspect_min_s / 2)
        self.probing = ProbePolicy(
            interval_s=self.pulse_s,
            timeout_s=min(1.0, self.pulse_s / 2),
            refresh_s=2 * self.pulse_s,
            fresh_s=5 * self.pulse_s,
        )
        self.declaration = shape.declaration(policy)
        nodes, agents, placements = shape.declare()
        clock = VirtualClock(MONDAY)
        self.cluster = SimulatedCluster(
            nodes, agents, placements,
            seed=seed, clock=clock,
            heartbeat_interval_s=self.pulse_s, lease_ttl_s=policy.lease_ttl_s,
        )  # fmt: skip
        self.clock, self.machinery = clock, self.cluster.machinery
        self._store_clock = StoreClock(clock)
        self.store = InMemoryControlStore(self._store_clock)
        self._declare(nodes, agents, placements)
        self.probes = SimulatedProbes(self.cluster, self.probing)
        self.infrastructure = SimulatedInfrastructure(self.cluster)
        self.away: set[str] = set()
        """Who cannot reach the store: names of controllers, `ops`, or `*`."""
        self.deaf: set[str] = set()
        """Nodes whose heartbeats are lost while their leases are renewed."""
        self.mute: set[str] = set()
        """Nodes whose supervisor hangs: neither heartbeats nor renewals, while agents may work."""
        self.working: set[str] = set()
        """Nodes whose agents are seen to work by what they store."""
        self.stuck: dict[str, tuple[AgentReport, ...]] = {}
        """Nodes -> copies that nobody can end there: every report goes on naming them."""
        self.crash_next: list[tuple[int, bool]] = []
        """Where the runs to come die: writing call, and whether it takes effect."""
        self.run_restarts = True
        self.story = Story()
        self.violations: list[Violation] = []
        self.zero_s = 0.0
        self._node_leases: dict[str, Lease] = {}
        self._sent_us: dict[str, int] = {}
        self._followed = 0
        self._told = 0
        self._launches: dict[str, _Launch] = {}
        self._placed = {one.agent_id: one for one in self.store.placements()}
        self._ended = False
        self._moves: dict[str, tuple[float, int]] = {}
        """Move whose order was handed out -> when it was decided, by whichever leader; agents."""
        self._decided_s: dict[str, float] = {}
        self._publish()
        stateful = [one.agent_id for one in agents if one.workload != STATELESS]
        self.store.put_states([StatePut(one, 1, 0, b"state") for one in stateful])
        self.backups = SimulatedBackups(self.store, self._say_restored)
        self.controllers: dict[str, SimulatedController] = {}
        self.add_controller("c1")
        self.run(6 * self.pulse_s + policy.suspect_min_s)
        self.zero_s = self.clock.monotonic_s()
        self.story = Story()

    def _declare(
        self,
        nodes: list[NodeDeclaration],
        agents: list[AgentDeclaration],
        placements: list[Placement],
    ) -> None:
        self.store.declare_workloads(
            [
                Workload("w", "net", function="m:f"),
                Workload(STATELESS, "net", function="m:f", stateless=True),
            ]
        )
        self.store.declare_nodes(nodes)
        self.store.declare_agents(agents)
        self.store.place_agents([one._replace(epoch=0) for one in placements])

    # -- time ------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Seconds since the fleet was up and seen."""
        return round(self.clock.monotonic_s() - self.zero_s, 6)

    def run(self, seconds: float) -> None:
        """Let time pass, step by step."""
        end_s = self.clock.monotonic_s() + seconds
        while self.clock.monotonic_s() < end_s - 1e-6:
            self._step(end_s)

    def _step(self, end_s: float) -> None:
        """To the next pulse, or to the next moment at which a run wakes up."""
        now_s = self.clock.monotonic_s()
        pulse_s = (int(now_s / self.pulse_s + 1e-6) + 1) * self.pulse_s
        # A run that asks again and again is answered once between two pulses: sleeps may be late.
        next_s = min(pulse_s, end_s)
        self.cluster.advance(next_s - now_s)
        on_pulse = abs(next_s - pulse_s) < 1e-6
        self._publish()
        if on_pulse:
            for report in () if self.away & {"*"} else self.probes.round():
                self.store.report_probes_of_many([report])
        self._resume_runs()
        if on_pulse:
            for controller in list(self.controllers.values()):
                self._tick(controller)
        self._follow()
        self._tell_steps()
        self._check()

    # -- the nodes -------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Bring every heartbeat that has arrived into the store, dated as it arrived."""
        if "*" in self.away:
            return
        arrived = []
        for node in self.machinery.nodes.values():
            beat = node.beat(self.machinery.now_us)
            name = node.declaration.node_id
            if beat is not None and beat.sent_us > self._sent_us.get(name, -MICROSECONDS * 10):
                arrived.append((beat.received_us, name, beat, node))
        for _, name, beat, node in sorted(arrived, key=lambda one: one[:2]):
            self._store_clock.arrived_us = beat.received_us
            self._accept(name, beat, node)
        self._store_clock.arrived_us = None

    def _accept(self, name: str, beat: Beat, node: SimulatedNode) -> None:
        if name in self.mute:
            if name in self.working:
                self._work(name)
            return
        boot_id = f"{name}.{beat.segment.boot}"
        lease = self._node_leases.get(name)
        try:
            if lease is None or lease.holder != boot_id:
                ttl_s = self.policy.lease_ttl_s
                lease = self.store.acquire_lease(node_lease_name(name), boot_id, ttl_s)
            if name in self.deaf:
                lease = self.store.renew_lease(lease)
            else:
                report = self.cluster.report(name)
                assert report is not None
                agents = (*report.agents, *self.stuck.get(name, ()))
                report = report._replace(address=f"{name}:1", agents=agents)
                lease = self.store.report_node(report, lease)
        except LeaseLostError:
            self._node_leases.pop(name, None)
            return
        self._node_leases[name] = lease
        self._sent_us[name] = beat.sent_us
        if name in self.working:
            self._work(name)

    def _work(self, name: str) -> None:
        versions = {one.agent_id: one.version for one in self.store.state_infos()}
        for one in self.store.placements(name)[:1]:
            version = versions.get(one.agent_id, 0)
            self.store.put_states([StatePut(one.agent_id, one.epoch, version, b"newer")])

    def can_write(self, node: SimulatedNode) -> bool:
        """Whether agents there act: the node works, and its guard has not stopped them."""
        sent_us = self._sent_us.get(node.declaration.node_id)
        if sent_us is None or not node.condition.works:
            return False
        guard_us = as_microseconds(fence_times(self.policy.lease_ttl_s).kill_after_s)
        return self.machinery.now_us - sent_us <= guard_us

    def _follow(self) -> None:
        """Let the nodes know of placements in the store, as far as they can be told."""
        if self.store._history_id == self._followed:
            return
        self._followed = self.store._history_id
        newer = []
        for one in self.store.placements():
            before = self._placed[one.agent_id]
            if one.epoch > before.epoch:
                newer.append(one)
                self._note_move(before, one)
                self._placed[one.agent_id] = one
        self.cluster.apply_placements(newer)

    def _note_move(self, before: Placement, after: Placement) -> None:
        if after.term < before.term:
            self._break("term_rises", after.agent_id, f"{before.term} -> {after.term}")
        by_choice = "is back" in after.reason or "crash loops" in after.reason
        for copy in self.machinery.copies.get(after.agent_id, ()):
            name = copy.node.declaration.node_id
            still = copy.runs and self.can_write(copy.node) and not by_choice
            may = self._may_run_twice(after.agent_id)
            if still and name == before.node_id != after.node_id and not may:
                detail = f"epoch {before.epoch} still acts on {name}"
                self._break("fenced_before_move", f"agent/{after.agent_id}", detail)
        kind = "parked" if after.node_id == NO_NODE else "left"
        if kind == "left" and not self._has_state(after.agent_id):
            self._break("state_first", f"agent/{after.agent_id}", "starts without its state")
        self.story.mark(self.now_s, f"{kind}:{before.node_id}")
        self.story.mark(self.now_s, f"{kind}:{after.agent_id}")
        self.story.mark(self.now_s, f"into:{after.node_id}")

    def _has_state(self, agent_id: str) -> bool:
        """Every agent of this fleet has stored one before second 0, but for the stateless."""
        try:
            return self.store.state(agent_id) is not None or self._may_run_twice(agent_id)
        except CorruptObjectError:
            return False

    def _say_restored(self, agent_id: str, region: str) -> None:
        self.story.mark(self.now_s, f"restored:{agent_id}")
        self.story.say(self.now_s, "backup", f"{agent_id} comes back from the copy in {region}")

    def stick(self, name: str) -> None:
        """From now on the copies on a node cannot be ended there, whatever is placed."""
        report = self.cluster.report(name)
        assert report is not None
        self.stuck[name] = report.agents

    def _may_run_twice(self, agent_id: str) -> bool:
        """Declared so, and it holds nothing: two copies of it may act until the old one stops."""
        declared = self._placed[agent_id].workload == STATELESS
        return declared and all(one.agent_id != agent_id for one in self.store.state_infos())

    # -- controllers and runs --------------------------------------------------------------------

    def add_controller(self, name: str) -> SimulatedController:
        """Another deployment of the controller."""
        store = ReachedStore(self.store, name, self.away)

        def ports(clock: Any, lease: Any, reached: Any) -> WatchPorts:
            prober = SimulatedProber(self.probes)
            return WatchPorts(reached, clock, lease, prober, self.infrastructure)

        self.controllers[name] = SimulatedController(
            name, store, ports, self.declaration, self.probing, self.clock, self.without
        )
        return self.controllers[name]

    def _tick(self, controller: SimulatedController) -> None:
        tick = controller.tick()
        if tick is None:
            return
        self.violations += controller.checker.violations
        controller.checker.violations.clear()
        self.story.tell_tick(self.now_s, controller.name, tick)
        self._check_budget(controller, tick)
        for order in tick.orders:
            self._launch(order)

    def _launch(self, order: FailoverOrder) -> None:
        """Start a run, unless this very order has one, as the live sensor asks for it."""
        key = failover_request(order).run_key
        assert key
        if key in self._launches:
            return
        self._launches[key] = _Launch(order, self._start_run(order))
        self._resume(self._launches[key])

    def _start_run(self, order: FailoverOrder) -> OpsRun:
        crash_at, after = self.crash_next.pop(0) if self.crash_next else (NEVER, False)
        store = ReachedStore(self.store, "ops", self.away)

        def ports(reached: Any, clock: Any) -> FailoverPorts:
            return FailoverPorts(
                reached, self.cluster, clock, lambda _: self._follow(), self.cluster.evict,
                self.backups.through(reached),
            )  # fmt: skip

        return OpsRun(order, ports, store, self.clock, crash_at, after=after)

    def _resume_runs(self) -> None:
        now_s = self.clock.monotonic_s()
        for launch in list(self._launches.values()):
            if launch.due_s is not None and now_s >= launch.due_s:
                launch.due_s, launch.tries = None, launch.tries + 1
                launch.run = self._start_run(launch.order)
                self._resume(launch)
            elif not launch.run.outcome and now_s >= launch.run.wake_s - 1e-6:
                self._resume(launch)

    def _resume(self, launch: _Launch) -> None:
        launch.run.resume()
        outcome = launch.run.outcome
        if not outcome:
            return
        self.story.say(self.now_s, "run", f"{launch.order.incident_id}: {outcome}")
        again = launch.run.retry or (outcome == "crashed" and self.run_restarts)
        if again and launch.tries < 10:
            launch.due_s = self.clock.monotonic_s() + RUN_RETRY_S

    def runs_going(self) -> list[OpsRun]:
        """Processes that carry something out now."""
        return [one.run for one in self._launches.values() if not one.run.outcome]

    def close(self) -> None:
        """End every process."""
        for run in self.runs_going():
            run.kill()

    def _tell_steps(self) -> None:
        entries = list(self.store._journal.values())
        self.story.tell_steps(self.now_s, entries[self._told :])
        self._told = len(entries)

    # -- promises --------------------------------------------------------------------------------

    def _break(self, invariant: str, subject: str, detail: str) -> None:
        self.violations.append(Violation(invariant, subject, f"{self.now_s:g} s: {detail}"))

    def _check(self) -> None:
        """Of every agent at most one copy can act; nobody moves an agent of a node in order."""
        for agent_id, copies in self.machinery.copies.items():
            if len(copies) > 1 and not self._may_run_twice(agent_id):
                able = [one for one in copies if one.runs and self.can_write(one.node)]
                if len(able) > 1:
                    names = ", ".join(
                        f"{one.node.declaration.node_id} (epoch {one.last.epoch})" for one in able
                    )
                    self._break("one_writer", f"agent/{agent_id}", names)
        if self.violations and not self.without:
            self.close()
            raise AssertionError(self.violations)

    def _check_budget(self, controller: SimulatedController, tick: Tick) -> None:
        """The blast radius is one for all leaders that follow each other, in this tick too."""
        assert controller.mind is not None
        orders = controller.mind.reader.seen.directives
        handed_out = {(one.incident_id, one.subject) for one in tick.orders}
        for action in tick.decision.actions:
            if action.kind is not ActionKind.MOVE_NODE:
                continue
            key, name = action.move_key, action.subject.partition("/")[2]
            if action.attempt == 1 or key not in self._decided_s:
                self._decided_s[key] = self.now_s
            known = key in self._moves and action.attempt > 1
            if known:
                continue
            if (action.incident, name) not in handed_out:
                del self._decided_s[key]  # what is not ordered is decided again
                continue
            by_hand = action.subject in orders.forced or action.approval_keys & orders.approved
            self._check_move(action, by_hand=bool(by_hand))
            _, agents = self._moves.get(key, (0.0, 0))
            self._moves[key] = (self._decided_s[key], max(agents, action.agents))

    def _check_move(self, action: Action, *, by_hand: bool) -> None:
        window_s, now_s = self.policy.blast_window_s, self.now_s
        others = [
            agents
            for key, (at_s, agents) in self._moves.items()
            if key != action.move_key and now_s - at_s < window_s
        ]
        allowed = self.policy.blast_fraction * len(self._placed)
        if others and sum(others) + action.agents > allowed and not by_hand:
            detail = f"{sum(others) + action.agents} agents of {allowed:g}"
            self._break("blast_radius_of_all", action.subject, detail)

    def unsettled(self) -> list[str]:
        """Agents that neither run where they are placed nor are parked with a reason."""
        odd = []
        for one in self.store.placements():
            if one.desired == "parked" and one.reason:
                continue
            copies = self.machinery.copies.get(one.agent_id, ())
            if not any(
                copy.runs
                and self.can_write(copy.node)
                and (copy.last.epoch, copy.node.declaration.node_id) == (one.epoch, one.node_id)
                for copy in copies
            ):
                odd.append(f"{one.agent_id} on {one.node_id or 'no node'}, {one.desired}")
        return odd

    def unrecorded(self) -> list[str]:
        """Orders that were given without an incident that tells of them."""
        orders = (one.order for one in self._launches.values())
        return sorted(
            {one.incident_id for one in orders if self.store.incident(one.incident_id) is None}
        )

    def open_incidents(self) -> list[str]:
        """What has not come to an end."""
        return [one.incident_id for one in self.store.incidents(open_only=True)]
