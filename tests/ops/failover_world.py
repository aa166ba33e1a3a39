"""A small fleet in the in-memory store whose nodes obey placements, die, wake up and write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleet.agents import Placement, StatePut, StateRestore
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incidents import IncidentKind, IncidentOpening
from fleet.inventory import AgentPhase, Node, NodePhase
from fleet.leases import LEADER_LEASE, node_lease_name
from fleet.ports.state_rescue import RescuedState
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from ops.failover_ports import FailoverPorts
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

LEADER = "controller-1"
TTL_S = 5.0


class CrashedError(BaseException):
    """The process was killed; nothing may catch it."""


class CrashingCalls:
    """A store whose n-th writing call kills the caller, before or after it took effect."""

    WRITES = (
        "append_journal", "place_agents", "fence_nodes", "update_incident", "restore_states",
        "remove_endpoints",
    )  # fmt: skip

    def __init__(self, store: InMemoryControlStore, crash_at: int, *, after: bool) -> None:
        """Count from 0; -1 never crashes."""
        self._store, self._crash_at, self._after = store, crash_at, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        """The store's own, or one that counts."""
        found = getattr(self._store, name)
        return self.counted(found) if name in self.WRITES else found

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, as one that may be the last."""

        def call_or_crash(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self._crash_at and not self._after:
                raise CrashedError
            result = call(*args, **kwargs)
            if number == self._crash_at:
                raise CrashedError
            return result

        return call_or_crash


class BackupOf:
    """`StateRescue` that holds some bodies."""

    def __init__(self, world: FailoverWorld, bodies: dict[str, tuple[int, bytes]]) -> None:
        """Version and body by agent."""
        self._world, self._bodies = world, bodies
        self.asked: list[tuple[str, ...]] = []

    def rescue_states(
        self, network_id: str, agent_ids: Sequence[str], lost_regions: object
    ) -> list[RescuedState]:
        """Restores what it has."""
        del network_id, lost_regions
        self.asked.append(tuple(agent_ids))
        store, at = self._world.store, self._world.clock.now()
        found = []
        for agent_id in agent_ids:
            version, body = self._bodies.get(agent_id, (0, b""))
            if version:
                live = {one.agent_id: one.version for one in store.state_infos()}.get(agent_id, 0)
                store.restore_states([StateRestore(agent_id, live, version, body)])
            found.append(RescuedState(agent_id, version, at if version else None, "us/s", ""))
        return found


class FailoverWorld:
    """Two regions of two nodes with four agents each; `beat` lets what works report."""

    def __init__(self, cpu_milli: int = 1000) -> None:
        """Everything runs, one controller leads."""
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        self.dead: set[str] = set()
        self.terminated: set[str] = set()
        self.holding: set[str] = set()
        """Agents that do not start anywhere."""
        self.stopped: set[tuple[str, int]] = set()
        """Copies that were asked to stop, by agent and epoch."""
        self.nodes = [
            NodeDeclaration(f"{region}-{number}", region, f"{region}-{number}", cpu_milli, 2**40)
            for region in ("eu", "us")
            for number in (1, 2)
        ]
        self.store.declare_nodes(self.nodes)
        agents = [
            AgentDeclaration(f"{node.node_id}-a{n}", "net", "w", node.region, 100, 1)
            for node in self.nodes
            for n in range(4)
        ]
        self.store.declare_agents(agents)
        now = self.clock.now()
        self.store.place_agents(
            [
                Placement(
                    one.agent_id, "net", "w", one.agent_id[:4], one.region, 0, 0, "running", "", now
                )
                for one in agents
            ]
        )
        self.beat()
        for one in agents:
            self.put(one.agent_id, b"state of " + one.agent_id.encode())
        self.leader = self.store.acquire_lease(LEADER_LEASE, LEADER, 15.0)

    # -- the fleet -------------------------------------------------------------------------------

    def beat(self) -> None:
        """Every node that works reports, and runs what it is placed."""
        for node in self.nodes:
            if node.node_id not in self.dead:
                lease = self.store.acquire_lease(node_lease_name(node.node_id), "boot", TTL_S)
                self.store.report_node(self._report(node.node_id), lease)

    def _report(self, node_id: str) -> NodeReport:
        now = self.clock.now()
        agents = tuple(
            AgentReport(one.agent_id, one.epoch, AgentPhase.RUNNING, 1, now, now, 0, None, None, "")
            for one in self.store.placements(node_id)
            if one.desired == "running"
            and one.agent_id not in self.holding
            and (one.agent_id, one.epoch) not in self.stopped
        )
        return NodeReport(
            node_id, "boot", 1, f"{node_id}:1", now, now, None, None, None, agents, ()
        )

    def put(self, agent_id: str, body: bytes, epoch: int = 1) -> bool:
        """An agent writes its next state; whether it was accepted."""
        state = self.store.state(agent_id)
        version = state.version if state else 0
        (result,) = self.store.put_states([StatePut(agent_id, epoch, version, body)])
        return result.error is None

    def kill(self, *node_ids: str, terminated: bool = False) -> None:
        """Nodes fall silent; `terminated`: the infrastructure has seen it."""
        self.dead.update(node_ids)
        if terminated:
            self.terminated.update(node_ids)

    def pass_time(self, seconds: float) -> None:
        """In steps of a second, with heartbeats and the leader's renewals."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.tick()

    def tick(self) -> None:
        """What happens all the time."""
        self.beat()
        self.leader = self.store.renew_lease(self.leader)

    # -- fleet.ports.FleetReader -----------------------------------------------------------------

    def regions(self) -> list[str]:
        """Both."""
        return ["eu", "us"]

    def nodes_of(self, region: str) -> list[Node]:
        """As the store knows them, corrected by who has ended."""
        return [
            one._replace(phase=NodePhase.TERMINATED) if one.node_id in self.terminated else one
            for one in self.store.nodes(region)
        ]

    # -- runs ------------------------------------------------------------------------------------

    def order(self, *node_ids: str, **changes: Any) -> FailoverOrder:
        """The order that a controller would give now."""
        opening = IncidentOpening(
            IncidentKind.NODE, node_ids[0], "eu", "it is silent", self.clock.now()
        )
        incident = self.store.open_incident(opening)
        beats = {one.node_id: one.heartbeat_us for one in self.store.node_beats()}
        order = FailoverOrder(
            OrderKind.NODE,
            node_ids[0],
            incident.incident_id,
            1,
            self.leader.term,
            f"node {node_ids[0]} was lost",
            nodes=node_ids,
            heartbeats={one: beats[one] for one in node_ids},
        )
        return order._replace(**changes)

    def ports(self, store: Any = None, rescue: BackupOf | None = None) -> FailoverPorts:
        """The world as a run sees it; while it waits, time passes and nodes beat."""
        self.clock.on_pause = self.tick
        return FailoverPorts(
            store or self.store,
            _Reader(self),
            self.clock,
            lambda _placed: self.beat(),
            self._evict,
            rescue,
        )

    def _evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        del grace_s
        self.stopped.add((agent_id, epoch))

    def running(self) -> dict[str, str]:
        """Agent -> node that reports it as running under its present epoch."""
        return {
            one.agent_id: one.node_id
            for one in self.store.agents()
            if one.phase == AgentPhase.RUNNING
        }


class _Reader:
    """`FleetReader` of a world."""

    def __init__(self, world: FailoverWorld) -> None:
        self._world = world

    def regions(self) -> list[str]:
        """Both."""
        return self._world.regions()

    def nodes(self, region: str) -> list[Node]:
        """Corrected by who has ended."""
        return self._world.nodes_of(region)

    def snapshot(self, region: str) -> Any:
        """Nobody needs it here."""
        raise AssertionError(region)
