"""The simulated cluster: `fleet.ports.Cluster` and `FaultInjector` on a virtual clock.

Invariant: everything observable is a function of the constructor's arguments and of the calls that
change something, each at its virtual time. Looking changes nothing; how time is sliced changes
nothing. One thread uses it at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fleet.agents import Placement, RestartPolicy
from fleet.errors import InvalidInputError, NodeUnavailableError, NotFoundError, StaleEpochError
from fleet.faults import Crash, Fault, Pause, SlowHeartbeats, Subject, SubjectKind
from fleet.inventory import Agent, AgentPhase, Node
from fleet.ports.cluster import ClusterEvent, FleetSnapshot
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration, NodeReport
from fleet.scaling import plan_scale
from resources.simulated.clock import MICROSECONDS, VirtualClock, as_microseconds
from resources.simulated.faulting import FaultPlayer
from resources.simulated.machinery import Machinery
from resources.simulated.nodes import SimulatedNode
from resources.simulated.placing import PlacementBook
from resources.simulated.publishing import PublishResult, StorePublisher
from resources.simulated.truth import GroundTruth
from resources.simulated.views import ClusterView

_DAY_US = 86_400 * MICROSECONDS


class SimulatedCluster:
    """Nodes and agents that exist in memory and obey placements, faults and chance."""

    def __init__(
        self,
        nodes: Sequence[NodeDeclaration],
        agents: Sequence[AgentDeclaration] = (),
        placements: Sequence[Placement] = (),
        *,
        faults: Iterable[Fault] = (),
        seed: int = 0,
        clock: VirtualClock | None = None,
        restart_policies: Mapping[str, RestartPolicy] | None = None,
        agent_crashes_per_day: float = 0.0,
        heartbeat_interval_s: float = 1.0,
        lease_ttl_s: float = 5.0,
        heartbeat_lost_s: float = 10.0,
        controller_region: str | None = None,
        store_region: str | None = None,
        events_kept: int = 100_000,
    ) -> None:
        """Bring up a fleet that has been running for one heartbeat: all nodes have been heard of.

        Args:
            nodes: declared nodes, all up.
            agents: declared agents.
            placements: with the epochs the agents run under (at least 1); others are pending.
            faults: script; times count from the clock's present.
            seed: of spontaneous crashes, of the spread of heartbeats, of the readings.
            clock: a new one when None. It may be advanced directly; the cluster catches up.
            restart_policies: by workload; the default policy where absent.
            agent_crashes_per_day: mean number of spontaneous crashes of one agent a day.
            heartbeat_interval_s: of every node.
            lease_ttl_s: shown as the end of a node's lease after its last heartbeat.
            heartbeat_lost_s: agents of a node that is silent for longer are UNKNOWN.
            controller_region: where the controller lives; None: outside of all regions.
            store_region: where the control store lives; None: outside of all regions.
            events_kept: how many events `watch` and the ground truth look back.

        Raises:
            InvalidInputError: a value out of range, a duplicate, a fault for an unknown subject.
            NotFoundError: a placement of an unknown agent or node.
        """
        _check_range("heartbeat_interval_s", heartbeat_interval_s, 0.001, 3600.0)
        _check_range("agent_crashes_per_day", agent_crashes_per_day, 0.0, 86_400.0)
        _check_range("events_kept", events_kept, 1, 10_000_000)
        _check_unique("node_id", [node.node_id for node in nodes])
        _check_unique("agent_id", [agent.agent_id for agent in agents])
        self.clock = clock if clock is not None else VirtualClock()
        self._machinery = Machinery(self.clock, seed, heartbeat_interval_s, events_kept)
        self._machinery.queue.now_us = self.clock.elapsed_us
        self._machinery.policies.update(restart_policies or {})
        born_us = self.clock.elapsed_us - self._machinery.interval_us
        self._machinery.add_nodes(nodes, born_us)
        self._machinery.add_agents(agents)
        self.lease_ttl_s = lease_ttl_s
        """How long a node's lease lasts after its last heartbeat."""
        self._view = ClusterView(self._machinery, lease_ttl_s, heartbeat_lost_s)
        self._player = FaultPlayer(self._machinery, controller_region, store_region)
        self._book = PlacementBook(self._machinery)
        self._book.apply(placements, born_us)
        self.play(faults)
        if agent_crashes_per_day > 0.0 and agents:
            mean_us = _DAY_US / (agent_crashes_per_day * len(agents))
            self._machinery.plan_random_crash(mean_us)

    # -- time ------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, and everything happen that falls into it.

        `advance(60)` equals sixty times `advance(1)`; the cost is per event, not per second.

        Raises:
            InvalidInputError: negative or not finite.
        """
        self.clock.advance(seconds)
        self._catch_up()

    def _catch_up(self) -> Machinery:
        """Let everything happen up to the clock's present."""
        self._machinery.queue.run_until(self.clock.elapsed_us)
        return self._machinery

    @property
    def events_handled(self) -> int:
        """Events processed so far, for benchmarks."""
        return self._machinery.queue.handled

    # -- declarations ----------------------------------------------------------------------------

    def declare_nodes(self, nodes: Sequence[NodeDeclaration]) -> None:
        """Add nodes, up from now on, or replace the declarations of known ones."""
        self._catch_up().add_nodes(nodes, self.clock.elapsed_us)

    def declare_agents(
        self, agents: Sequence[AgentDeclaration], reasons: Mapping[str, str] | None = None
    ) -> None:
        """Add agents that are pending until they are placed, with the reason to show."""
        self._catch_up().add_agents(agents)
        self._book.reasons.update(reasons or {})

    def node_declarations(self) -> list[NodeDeclaration]:
        """All nodes as declared, ordered by node_id."""
        return sorted(node.declaration for node in self._machinery.nodes.values())

    def agent_declarations(self) -> list[AgentDeclaration]:
        """All agents as declared, ordered by agent_id."""
        return sorted(self._machinery.agents.values())

    def placements(self) -> list[Placement]:
        """All placements as applied, ordered by agent_id; unplaced agents have none."""
        return sorted(self._machinery.placements.values())

    # -- fleet.ports.Cluster ---------------------------------------------------------------------

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        return sorted({node.declaration.region for node in self._machinery.nodes.values()})

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region as their last heartbeats and the placements say.

        Raises:
            NotFoundError: no node of the cluster is in this region.
        """
        nodes = self._nodes_of(region)
        gpus = [gpu for node in nodes for gpu in self._view.gpus(node)]
        placed = self._book.in_region(region)
        return FleetSnapshot(
            region=region,
            observed_at=self.clock.now(),
            nodes=[self._view.node(node) for node in nodes],
            gpus=gpus,
            agents=self._view.agents(placed, nodes),
        )

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Make the nodes run what the placements say, as soon as they can know it.

        Nothing is applied unless every placement may be. A repeated placement changes nothing.

        Raises:
            StaleEpochError: an epoch or term is lower than the present one, or the same epoch
                names another node.
            NotFoundError: unknown agent or node.
            InvalidInputError: epoch below 1, unknown `desired`, region not that of the node.
        """
        self._catch_up()
        self._book.apply(placements)

    def scale(self, workload: str, region: str, replicas: int) -> None:
        """Set the wanted number of a workload's agents in a region.

        Surplus agents are stopped, those not placed yet and then the last by name first. Missing
        ones are revived where they were stopped, or declared anew and left pending: placing is
        not the simulator's decision.

        Raises:
            InvalidInputError: negative replicas.
            NotFoundError: unknown region, or no agent of this workload to take the shape from.
        """
        machinery = self._catch_up()
        self._nodes_of(region)
        plan = plan_scale(
            workload, region, replicas, machinery.agents, machinery.placements, self.clock.now()
        )
        machinery.add_agents(plan.declared)
        self._book.reasons.update(dict.fromkeys((a.agent_id for a in plan.declared), plan.reason))
        for placement in plan.changed:
            machinery.place(placement)
        for node_id in dict.fromkeys(p.node_id for p in plan.changed if p.node_id):
            machinery.reconcile(machinery.nodes[node_id])

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """Stop an agent at once; under this epoch it stays down.

        Simulated agents stop when asked, so the grace period is never used up.

        Raises:
            NotFoundError: unknown agent, or not placed.
            StaleEpochError: the placement has another epoch.
            NodeUnavailableError: its node is down, frozen or cut off from the controller.
            InvalidInputError: negative grace period.
        """
        machinery = self._catch_up()
        _check_range("grace_s", grace_s, 0.0, 86_400.0)
        placed = machinery.placements.get(agent_id)
        if placed is None or not placed.node_id:
            raise NotFoundError(f"agent {agent_id} is not placed on any node")
        if epoch != placed.epoch:
            raise StaleEpochError(
                f"agent {agent_id}: epoch {epoch} given, {placed.epoch} is placed",
                hint="Read the placement again.",
            )
        node = machinery.nodes[placed.node_id]
        if not node.condition.works or node.condition.controller_cut:
            raise NodeUnavailableError(
                f"node {placed.node_id} does not answer; agent {agent_id} was not evicted",
                hint="Fail the node over instead: raise the epochs of its agents.",
            )
        held = node.copies.get(agent_id)
        if held is None or not held.exists or held.last.epoch != epoch:
            return
        if held.last.phase is not AgentPhase.STOPPED:
            machinery.stop(held, "evicted")
            machinery.emit("agent_evicted", agent_id, f"from {placed.node_id}, epoch {epoch}")

    def watch(self, cursor: str, timeout_s: float) -> list[ClusterEvent]:
        """Events after the cursor; waiting lets virtual time pass, at most `timeout_s`.

        Raises:
            InvalidInputError: not a cursor of this cluster.
            NotFoundError: events after the cursor have been dropped; take a snapshot instead.
        """
        machinery = self._catch_up()
        _check_range("timeout_s", timeout_s, 0.0, 86_400.0)
        newest = machinery.events_dropped + len(machinery.events)
        after = newest if cursor == "" else _parse_cursor(cursor, newest)
        if after < machinery.events_dropped:
            raise NotFoundError(
                f"events after cursor {cursor} have been dropped",
                hint="Take a snapshot, then watch from ''.",
            )
        end_us = self.clock.elapsed_us + as_microseconds(timeout_s)
        while machinery.events_dropped + len(machinery.events) == after:
            next_us = machinery.queue.next_us()
            step_us = end_us if next_us is None else min(next_us, end_us)
            if step_us >= end_us and self.clock.elapsed_us >= end_us:
                break
            self.clock.advance_to(step_us)
            self._catch_up()
        return machinery.events[after - machinery.events_dropped :]

    # -- fleet.ports.FaultInjector ---------------------------------------------------------------

    def kill_node(self, node_id: str) -> str:
        """End a node without warning; it stays down until `start_node`."""
        self._strike(Crash(start_s=0.0, subject=self._subject(node_id)))
        return f"node {node_id} is down, with all its agents"

    def pause_node(self, node_id: str, duration_s: float) -> str:
        """Freeze a node; it goes on after `duration_s` as if nothing had been."""
        subject = self._subject(node_id)
        self._strike(Pause(start_s=0.0, subject=subject, duration_s=duration_s))
        return f"node {node_id} is frozen for {duration_s:g} s"

    def slow_node(self, node_id: str, delay_s: float, duration_s: float) -> str:
        """Delay a node's heartbeats by `delay_s` for `duration_s`."""
        subject = self._subject(node_id)
        self._strike(
            SlowHeartbeats(start_s=0.0, subject=subject, duration_s=duration_s, delay_s=delay_s)
        )
        return f"heartbeats of node {node_id} are {delay_s:g} s late for {duration_s:g} s"

    def start_node(self, node_id: str) -> str:
        """Bring a node up that is down, whatever took it down; other faults go on."""
        self._subject(node_id)
        machinery = self._catch_up()
        node = machinery.nodes[node_id]
        if node.condition.up:
            return f"node {node_id} is up already"
        for key in [key for key, effect in node.effects.items() if effect.down]:
            del node.effects[key]
        machinery.refresh(node)
        return f"node {node_id} is up, boot {node.boot}"

    def play(self, faults: Iterable[Fault]) -> None:
        """Plan more faults; their times count from the present.

        Raises:
            InvalidInputError: a fault strikes what the cluster does not have; none is planned.
        """
        self._catch_up()
        self._player.plan(faults)
        self._catch_up()

    def _strike(self, fault: Fault) -> None:
        self._catch_up()
        self._player.begin(fault)

    # -- beyond the ports ------------------------------------------------------------------------

    @property
    def machinery(self) -> Machinery:
        """The truth itself, up to the clock's present, for what simulates its surroundings."""
        return self._catch_up()

    @property
    def truth(self) -> GroundTruth:
        """What really happens, up to the clock's present."""
        self._catch_up()
        return GroundTruth(self._machinery)

    def nodes(self, region: str | None = None) -> list[Node]:
        """Nodes as seen, ordered by node_id: a snapshot without GPUs and agents."""
        return [self._view.node(node) for node in self._nodes_of(region)]

    def reports(self, region: str | None = None) -> list[NodeReport]:
        """The last report that arrived from each node, ordered by node_id."""
        reports = (self._view.report(node) for node in self._nodes_of(region))
        return [report for report in reports if report is not None]

    def last_beats(self) -> dict[str, tuple[int, float]]:
        """node_id -> (boot, age in seconds by the receiver's clock) of the last heartbeat seen."""
        now_us = self._catch_up().now_us
        beats = {node_id: node.beat(now_us) for node_id, node in self._machinery.nodes.items()}
        return {
            node_id: (beat.segment.boot, (now_us - beat.received_us) / MICROSECONDS)
            for node_id, beat in beats.items()
            if beat is not None
        }

    def report(self, node_id: str) -> NodeReport | None:
        """The last report that arrived from one node; None when none has."""
        self._subject(node_id)
        return self._view.report(self._catch_up().nodes[node_id])

    def agents(self, region: str) -> list[Agent]:
        """Agents of a region as seen, ordered by agent_id: a snapshot without nodes and GPUs."""
        return self._view.agents(self._book.in_region(region), self._nodes_of(region))

    def seed_store(self, store: ControlStore) -> PublishResult:
        """Write nodes, agents, placements and last reports into a control store, in batches.

        Resumable: every batch is committed by itself, and a second call writes what is missing.

        Raises:
            StaleEpochError: the store holds a placement that differs from the simulated one.
        """
        publisher = StorePublisher(self, store)
        publisher.declare()
        return publisher.publish()

    # -- inside ----------------------------------------------------------------------------------

    def _nodes_of(self, region: str | None) -> list[SimulatedNode]:
        nodes = self._catch_up().nodes.values()
        chosen = [n for n in nodes if region is None or n.declaration.region == region]
        if not chosen and region is not None:
            raise NotFoundError(
                f"region {region} has no node", hint=f"Regions: {', '.join(self.regions())}"
            )
        return sorted(chosen, key=lambda node: node.declaration.node_id)

    def _subject(self, node_id: str) -> Subject:
        if node_id not in self._machinery.nodes:
            raise NotFoundError(f"node {node_id} is not part of the simulated cluster")
        return Subject(SubjectKind.NODE, node_id)


def _parse_cursor(cursor: str, newest: int) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19 and int(cursor) <= newest):
        raise InvalidInputError("cursor", cursor, f"'' or a cursor of this cluster, up to {newest}")
    return int(cursor)


def _check_range(field: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise InvalidInputError(field, value, f"{lowest:g} to {highest:g}")


def _check_unique(field: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInputError(field, twice, "each name once")
