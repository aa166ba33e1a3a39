"""Agents that are scaled away and wanted again, in every order of what can happen between.

Two controllers scale and place, nodes read, start, stop, report and fall silent, a person retires
agents, a failover moves who runs on silent nodes: drawn by seed, each step of a node apart from the
next, so that reports and placements are old when they are used.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from fleet.agents import Placement, Workload
from fleet.inventory import AgentPhase, NodePhase
from fleet.leases import RESCALING_LEASE, node_lease_name
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.ports.cluster import ScaleWish
from fleet.ports.control_store import ControlStore
from fleet.reconcile import ActionKind, AgentSlot, WantedAgent, plan_reconcile
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from fleet.rescaling.observation import AutoscalerState
from resources.control_store.opening import open_control_store
from resources.placing import place_waiting
from resources.store_scaling import rescale_in_store
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.servers.empty_stores import sqlite_url

ROOM = 3
"""Agents that a node holds."""
NODES = ("n1", "n2", "n3")
QUOTA = 7
TTL_S = 20.0
WORKLOADS = ("chat", "batch")


class ModelNode:
    """A supervisor: reads placements, acts on what it has read, reports; each at its own time."""

    def __init__(self, name: str) -> None:
        """Nothing runs; no lease."""
        self.name = name
        self.wanted: list[Placement] = []
        self.slots: dict[str, AgentSlot] = {}
        self.report: tuple[AgentReport, ...] | None = None
        self.has_read = False
        """Placements were read under the present lease."""
        self.has_lease = False
        self.is_cut = False

    def read(self, store: ControlStore) -> None:
        """Take over what is placed here."""
        self.wanted = store.placements(self.name)
        self.has_read = self.has_lease

    def act(self, now: ManualClock) -> None:
        """Start and stop what was read."""
        wanted = [
            WantedAgent(one.agent_id, one.epoch, "r")
            for one in self.wanted
            if one.desired == "running" and self.has_read
        ]
        for action in plan_reconcile(wanted, self.slots.values(), now.now()):
            slot = self.slots.get(action.agent_id)
            if action.kind is ActionKind.START:
                self.slots[action.agent_id] = AgentSlot(
                    action.agent_id, action.epoch, "r", AgentPhase.RUNNING, alive=True
                )
            elif action.kind is ActionKind.FORGET:
                del self.slots[action.agent_id]
            elif slot is not None:
                due = now.now() + timedelta(seconds=3600)
                self.slots[action.agent_id] = slot._replace(kill_at=due)

    def end_one(self, random: Random) -> None:
        """A process that was told to stop has ended."""
        ending = [one for one in self.slots.values() if one.alive and one.kill_at]
        if ending:
            one = random.choice(ending)
            self.slots[one.agent_id] = one._replace(
                alive=False, kill_at=None, phase=AgentPhase.STOPPED
            )

    def compose(self) -> None:
        """Write a report, to be sent later."""
        told = {
            one.agent_id: AgentReport(
                one.agent_id, one.epoch, one.phase, 1, None, None, 0, None, None, ""
            )
            for one in self.slots.values()
        }
        for placed in self.wanted:
            slot = self.slots.get(placed.agent_id)
            if placed.desired == "stopped" and not (slot and slot.alive):
                told[placed.agent_id] = AgentReport(
                    placed.agent_id, placed.epoch, AgentPhase.STOPPED,
                    None, None, None, 0, None, None, "",
                )  # fmt: skip
        self.report = tuple(told.values())

    def send(self, store: ControlStore, clock: ManualClock) -> None:
        """Store the report, which renews the lease."""
        if self.is_cut or self.report is None:
            return
        if not self.has_lease:
            self.has_lease, self.has_read = True, False
        lease = store.acquire_lease(node_lease_name(self.name), "boot", TTL_S)
        now = clock.now()
        store.report_node(
            NodeReport(self.name, "boot", 1, "x:1", now, now, None, None, None, self.report, ()),
            lease,
        )
        self.report = None

    def fall_silent(self) -> None:
        """Without a lease nothing runs: its agents are gone before others may know."""
        self.slots.clear()
        self.has_lease = self.has_read = False
        self.report = None

    @property
    def running(self) -> list[AgentSlot]:
        """Processes."""
        return [one for one in self.slots.values() if one.alive]


class World:
    """A store, three nodes, and everybody who acts on them."""

    def __init__(self, store: ControlStore, clock: ManualClock, seed: int) -> None:
        """Two agents of each workload are placed."""
        self.store, self.clock, self.random = store, clock, Random(seed)
        self.nodes = {name: ModelNode(name) for name in NODES}
        self.scales: Counter[str] = Counter()
        store.declare_nodes([NodeDeclaration(name, "eu", "z", ROOM, 99) for name in NODES])
        store.declare_workloads([Workload(name, "net", function="m:f") for name in WORKLOADS])
        store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=QUOTA))])
        store.declare_agents(
            [
                AgentDeclaration(f"{name}-{n}", "net", name, "eu", 1, 1)
                for name in WORKLOADS
                for n in (1, 2)
            ]
        )
        for node in self.nodes.values():
            node.compose()
            node.send(store, clock)
        self.place()

    def place(self) -> None:
        """One of those who place."""
        alive = [one.node_id for one in self.store.nodes() if one.phase is NodePhase.RUNNING]
        limit = self.random.choice([None, 1])
        place_waiting(self.store, alive, now=self.clock.now(), term=0, limit=limit)

    def scale(self) -> None:
        """One of two controllers, which has had the lease or takes it."""
        term = self.store.acquire_lease(RESCALING_LEASE, "one", 1e6).term
        name = self.random.choice(WORKLOADS)
        stale = self.random.random() < 0.1
        wish = ScaleWish(
            name, "eu", self.random.randrange(6), self.scales[name] - stale, AutoscalerState(), "t"
        )
        (result,) = rescale_in_store(
            self.store, self.clock, [wish], {}, self.store.nodes, term, self._meanwhile
        )
        self.scales[name] += result.made

    def _meanwhile(self, _: object) -> None:
        """While the plan is under way others act."""
        for _ in range(self.random.randrange(4)):
            self.random.choice([self.node_step, self.release, self.place])()

    def release(self) -> None:
        """One of those who look for ends."""
        self.store.release_ended()

    def node_step(self) -> None:
        """One node does one thing."""
        node = self.random.choice(list(self.nodes.values()))
        if node.is_cut:
            return
        match self.random.randrange(5):
            case 0:
                node.read(self.store)
            case 1:
                node.act(self.clock)
            case 2:
                node.end_one(self.random)
            case 3:
                node.compose()
            case 4:
                node.send(self.store, self.clock)

    def cut(self) -> None:
        """A node is cut off or comes back; its lease runs out after its agents have ended."""
        node = self.random.choice(list(self.nodes.values()))
        if node.is_cut:
            node.is_cut = False
        elif not any(one.is_cut for one in self.nodes.values()):
            node.is_cut = True
            node.fall_silent()
            self.clock.advance(TTL_S + 1)
            for other in self.nodes.values():
                if not other.is_cut:
                    other.compose()
                    other.send(self.store, self.clock)
                    other.read(self.store)

    def fail_over(self) -> None:
        """Who runs on a silent node goes elsewhere, as far as there is room."""
        phases = {one.node_id: one.phase for one in self.store.nodes()}
        for placed in self.store.placements():
            if placed.desired == "running" and phases.get(placed.node_id) is NodePhase.UNKNOWN:
                target = self.random.choice(NODES)
                if phases[target] is NodePhase.RUNNING:
                    moved = placed._replace(node_id=target, reason="lost")
                    self.store.place_agents([moved], within_limits=True)

    def retire(self) -> None:
        """An agent that has ended is declared no more; another one of its name may come later."""
        gone = [
            one.agent_id
            for one in self.store.placements()
            if one.desired == "stopped" and not one.node_id and not one.agent_id.endswith("-1")
        ]
        if gone:
            self.store.retire_agents([self.random.choice(gone)])

    def check(self) -> None:
        """The claims that hold at every moment."""
        placements = {one.agent_id: one for one in self.store.placements()}
        held = Counter(one.node_id for one in placements.values() if one.node_id)
        assert max(held.values(), default=0) <= ROOM, "allocated beyond a node's room"
        assert sum(held.values()) <= QUOTA, "allocated beyond the quota"
        copies: Counter[str] = Counter()
        for node in self.nodes.values():
            assert len(node.running) <= ROOM, f"{node.name} runs more than it has room for"
            copies.update(one.agent_id for one in node.running)
        assert max(copies.values(), default=0) <= 1, "two live copies of an agent"

    def step(self) -> None:
        """Something happens."""
        (deed,) = self.random.choices(
            [self.node_step, self.scale, self.release, self.place, self.cut, self.fail_over,
             self.retire],
            [60, 6, 6, 6, 6, 6, 1],
        )  # fmt: skip
        deed()
        self.check()

    def settle(self) -> None:
        """All is well again and everybody does what is due."""
        for _ in range(4):
            for node in self.nodes.values():
                node.is_cut = False
                for _ in range(3):
                    node.read(self.store)
                    node.act(self.clock)
                    while any(one.kill_at and one.alive for one in node.slots.values()):
                        node.end_one(self.random)
                        self.check()
                    node.compose()
                    node.send(self.store, self.clock)
                self.check()
            self.place()
            self.check()


def play(store: ControlStore, clock: ManualClock, seed: int, steps: int) -> None:
    """One history, and what must be true at its end."""
    world = World(store, clock, seed)
    for _ in range(steps):
        world.step()
    world.settle()
    placements = world.store.placements()
    assert not [one for one in placements if one.desired == "stopped" and one.node_id]
    held = sum(bool(one.node_id) for one in placements)
    waiting = [one for one in placements if one.desired == "parked"]
    assert not waiting or held >= min(QUOTA, ROOM * len(NODES)), "parked beside free room"
    runs = {one.agent_id for node in world.nodes.values() for one in node.running}
    assert runs == {one.agent_id for one in placements if one.node_id}


@pytest.mark.parametrize("seed", range(12))
def test_no_node_is_overdrawn_and_no_agent_lives_twice_whatever_happens(seed: int) -> None:
    """Nor is a quota; in the end all room of stopped agents is free, and nobody waits beside it."""
    clock = ManualClock()
    play(InMemoryControlStore(clock), clock, seed, 250)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 300))
def test_the_same_over_many_histories(seed: int) -> None:
    """Of the same kinds."""
    clock = ManualClock()
    play(InMemoryControlStore(clock), clock, seed, 600)


def test_the_same_on_sql(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One history on the real store."""
    clock = ManualClock()
    store = open_control_store(sqlite_url(tmp_path_factory.mktemp("store")), clock=clock)
    try:
        play(store, clock, 7, 150)
    finally:
        store.close()
