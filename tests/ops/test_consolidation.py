"""The two looks of consolidation, and what earlier proposals count for, on in-memory stores."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from fleet.agents import Placement
from fleet.consolidation.records import (
    PLAN_TABLE,
    ConsolidationPolicy,
    ConsolidationProposal,
)
from fleet.costs.prices import PriceBook
from fleet.errors import StoreUnavailableError
from fleet.reports import AgentDeclaration
from ops.consolidation import (
    PARTITION,
    look_at_loads,
    look_once_more,
    mark_of,
    propose_consolidation,
    read_plan,
)
from ops.consolidation_run import NodeOrders, empty_nodes, running_on
from resources.lake.records import to_table
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import MIB, SeededFleet, declare_fleet
from tests.fakes.lake import InMemoryLake

SOON = ConsolidationPolicy(settle_s=0.0)


class World:
    """Two regions of two nodes with two agents each, on in-memory stores."""

    def __init__(self) -> None:
        """Report once."""
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        self.lake = InMemoryLake()
        self.declaration = declare_fleet()
        self.fleet = SeededFleet(self.store, self.clock, self.declaration)
        self.fleet.beat()
        self.clock.on_pause = self.fleet.beat
        self.said: list[str] = []

    def propose(self, policy: ConsolidationPolicy = SOON) -> list[ConsolidationProposal]:
        """Both looks."""
        return propose_consolidation(
            self.store, self.lake, policy, PriceBook(), self.declaration.heartbeats, self.clock
        )

    def look_again(self, one: ConsolidationProposal) -> ConsolidationProposal:
        """At the moment of carrying it out."""
        beats, now = self.declaration.heartbeats, self.clock.now()
        return look_once_more(self.store, self.lake, one, SOON, PriceBook(), beats, now)

    def give_up(self, node_id: str) -> None:
        """What the controller does: the agents belong to the region's other node."""
        region, _, number = node_id.partition("-")
        other = f"{region}-{3 - int(number)}"
        here = self.store.placements(node_id=node_id)
        self.store.place_agents([one._replace(node_id=other) for one in here])

    def empty(self, one: ConsolidationProposal, give_up: Callable[[str], object]) -> int:
        """Carry it out."""
        orders = NodeOrders("ann", "cheaper", give_up, self.said.append)
        return empty_nodes(self.store, one, orders, self.clock, 5.0)

    def record(self, rows: list[ConsolidationProposal]) -> None:
        """As the op does."""
        now = self.clock.now()
        self.lake.write(PLAN_TABLE, PARTITION, to_table(rows, ConsolidationProposal), now)


def test_a_proposal_that_both_looks_see_is_validated_and_not_carried_out() -> None:
    """Fifteen seconds lie between them; nothing is placed anew."""
    world = World()
    before = world.store.placements()
    assert {row.standing for row in world.propose()} == {"validated"}
    assert world.clock.pauses == [15.0]
    assert world.store.placements() == before


def test_silence_between_the_looks_drops_a_proposal() -> None:
    """The first look sees a ready node, the second a late one."""
    world = World()
    world.clock.on_pause = lambda: world.fleet.beat("eu-1", "us-1")
    found = world.propose()
    assert [(row.standing, row.nodes) for row in found] == [
        ("dropped", ("eu-1",)),
        ("dropped", ("us-1",)),
    ]
    assert all("not ready" in row.reason for row in found)


def test_a_process_that_is_asked_to_end_proposes_nothing() -> None:
    """It may be asked again; nothing was recorded."""
    world = World()
    world.clock.ending = True
    with pytest.raises(StoreUnavailableError, match="before the second look"):
        world.propose()
    assert read_plan(world.lake) == []


def test_what_was_carried_out_uses_the_budget_up_and_what_was_only_proposed_does_not() -> None:
    """One node of a region of two a day: the same node again, until it is gone."""
    world = World()
    first = world.propose()
    world.record(first)
    world.clock.advance(3600)
    world.fleet.beat()
    assert [row.nodes for row in world.propose()] == [row.nodes for row in first]
    world.clock.advance(3600)
    world.fleet.beat("eu-1")
    eu = [row for row in world.propose() if row.region == "eu"]
    assert eu == []


def test_nodes_that_are_worked_on_are_left_alone() -> None:
    """A mark on the node or on its region."""
    world = World()
    until = world.clock.now() + timedelta(hours=1)
    world.store.start_maintenance("region/eu", until, "ann", "power")
    world.store.start_maintenance("node/us-1", until, "ann", "disks")
    book, beats = PriceBook(), world.declaration.heartbeats
    loads = look_at_loads(world.store, book, beats, world.clock.now())
    assert {load.node.node_id for load in loads if load.ready} == {"us-2"}
    assert all(load.price_per_hour > 0 for load in loads)
    assert {len(load.agents) for load in loads} == {2}


def test_agents_that_hold_nothing_do_not_keep_a_node() -> None:
    """A parked agent has no node."""
    world = World()
    lost = AgentDeclaration("parked", "net", "work", "eu", 100, 16 * MIB)
    world.store.declare_agents([lost])
    now = world.clock.now()
    parked = Placement("parked", "net", "work", "", "eu", 0, 0, "parked", "no room", now)
    world.store.place_agents([parked])
    loads = look_at_loads(world.store, PriceBook(), world.declaration.heartbeats, now)
    assert sum(len(load.agents) for load in loads) == 8


def test_an_approved_proposal_empties_its_nodes_and_closes_them() -> None:
    """Marked with its id, told node by node; a second call finds nothing to move."""
    world = World()
    one = world.propose()[0]
    world.record([one])
    world.clock.advance(60)
    world.fleet.beat()
    assert world.look_again(one).standing == "validated"
    assert world.empty(one, world.give_up) == 2
    assert running_on(world.store, "eu-1") == 0
    (mark,) = world.store.maintenances()
    assert (mark.subject, mark.reason) == ("node/eu-1", f"{mark_of(one.proposal_id)}: cheaper")
    assert world.said == ["eu-1: 2 agents moved away"]
    world.fleet.beat("eu-1")
    world.clock.advance(60)
    world.fleet.beat("eu-1")
    assert world.look_again(one).standing == "validated"  # its own work does not count against it
    assert world.empty(one, lambda _: pytest.fail("nothing is there to be moved")) == 0


def test_what_changed_since_it_was_validated_is_not_carried_out() -> None:
    """Somebody works on the node, or it has gone silent."""
    world = World()
    one = world.propose()[0]
    until = world.clock.now() + timedelta(hours=1)
    world.clock.advance(60)
    world.fleet.beat()
    world.store.start_maintenance("node/eu-1", until, "bob", "disks")
    assert "not ready" in world.look_again(one).reason
    world.store.end_maintenance("node/eu-1", "bob", "done")
    assert world.look_again(one).standing == "validated"
    world.clock.advance(60)
    world.fleet.beat("eu-2")
    assert world.look_again(one).standing == "dropped"


@pytest.mark.parametrize("ending", [False, True])
def test_a_node_that_is_not_emptied_in_time_is_told_and_the_same_call_goes_on(
    ending: bool,
) -> None:
    """Cut off between the order and the move: mark and order stand, the next call finishes."""
    world = World()
    one = world.propose()[0]
    ordered: list[str] = []
    world.clock.ending = ending
    with pytest.raises(StoreUnavailableError, match=r"still ha[sd] 2 agents"):
        world.empty(one, ordered.append)
    assert (ordered, world.said) == (["eu-1"], [])
    assert [mark.subject for mark in world.store.maintenances()] == ["node/eu-1"]
    world.clock.ending = False
    world.clock.advance(3600)
    world.fleet.beat("eu-1")  # the controller has ended it, and its agents are still to be moved
    assert world.look_again(one).standing == "validated"
    world.clock.on_pause = lambda: (world.give_up("eu-1"), world.fleet.beat())
    assert world.empty(one, ordered.append) == 2
    assert ordered == ["eu-1", "eu-1"]
