"""Contract of `HomeStore`: the fake, SQLite and PostgreSQL count alike."""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.agents import Placement
from fleet.ports.control_store import ControlStore
from fleet.ports.home_store import PlacementCounts
from fleet.reports import AgentDeclaration

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def place(
    store: ControlStore, agent_id: str, node_id: str, region: str, desired: str = "running"
) -> None:
    """Place an agent that is at home in `eu`, wherever it is now."""
    store.declare_agents([AgentDeclaration(agent_id, "net", "work", "eu", 1, 1)])
    known = {one.agent_id: one.epoch for one in store.placements()}
    epoch = known.get(agent_id, 0)
    wanted = Placement(agent_id, "net", "work", node_id, region, epoch, 0, desired, "why", AT)
    assert store.place_agents([wanted])


def test_running_agents_are_counted_by_node_and_those_abroad_by_home(store: ControlStore) -> None:
    """Parked ones count for nobody's node, stopped ones for nothing."""
    assert store.placement_counts() == PlacementCounts({}, {}, 0)
    place(store, "a1", "eu-1", "eu")
    place(store, "a2", "us-1", "us")
    place(store, "a3", "us-1", "us")
    place(store, "a4", "", "eu", "parked")
    place(store, "a5", "eu-1", "eu", "stopped")
    counts = store.placement_counts()
    assert counts == PlacementCounts({"eu-1": 1, "us-1": 2}, {"eu": 2}, 1)
    assert [one.agent_id for one in store.agents_abroad("eu")] == ["a2", "a3"]
    assert store.agents_abroad("us") == []


def test_who_came_home_or_is_not_declared_any_more_is_not_abroad(store: ControlStore) -> None:
    """Nothing is left of either."""
    for agent_id in ("a1", "a2"):
        place(store, agent_id, "us-1", "us")
    place(store, "a1", "eu-1", "eu")
    store.retire_agents(["a2"])
    assert store.placement_counts() == PlacementCounts({"eu-1": 1}, {}, 0)
    assert store.agents_abroad("eu") == []


def test_agents_that_are_to_run_nowhere_are_counted_by_network_and_home(
    store: ControlStore,
) -> None:
    """Parked ones and those never placed; one that is stopped on purpose is no such agent."""
    place(store, "a1", "eu-1", "eu")
    place(store, "a2", "", "us", "parked")
    place(store, "a3", "eu-1", "eu", "stopped")
    store.declare_agents([AgentDeclaration("a4", "net", "work", "eu", 1, 1)])
    store.declare_agents([AgentDeclaration("b1", "other", "work", "us", 1, 1)])
    assert store.unplaced_counts() == {("net", "eu"): 2, ("other", "us"): 1}
    store.retire_agents(["a4", "b1"])
    assert store.unplaced_counts() == {("net", "eu"): 1}
