"""What every `fleet.ports.Cluster` must do, whatever runs behind it.

An adapter's test module subclasses `ClusterContract` and gives the fixture `world`. The suite knows
nothing of processes or virtual time: `World.settle` lets enough time pass for orders to take effect
and to be seen.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from fleet.agents import Placement
from fleet.errors import StaleEpochError
from fleet.inventory import Agent, AgentPhase
from fleet.ports.cluster import Cluster


class World(Protocol):
    """A cluster with two nodes in one region and one running agent, at epoch 1, on the first."""

    cluster: Cluster
    region: str
    placement: Placement
    other_node_id: str

    def settle(self) -> None:
        """Let enough time pass for what was asked to happen and to be visible."""
        ...


class ClusterContract:
    """Subclassed per adapter."""

    def agent(self, world: World) -> Agent:
        """The one agent, as a snapshot shows it."""
        agents = world.cluster.snapshot(world.region).agents
        (found,) = [a for a in agents if a.agent_id == world.placement.agent_id]
        return found

    def test_regions_are_sorted_and_hold_the_nodes(self, world: World) -> None:
        """Each region named can be looked at, and its nodes are its own."""
        regions = world.cluster.regions()
        assert regions == sorted(set(regions))
        assert world.region in regions
        for region in regions:
            snapshot = world.cluster.snapshot(region)
            assert snapshot.region == region
            assert snapshot.observed_at.tzinfo is not None
            assert {node.region for node in snapshot.nodes} <= {region}

    def test_a_snapshot_is_ordered_and_free_of_duplicates(self, world: World) -> None:
        """Nodes by node_id, agents by agent_id."""
        snapshot = world.cluster.snapshot(world.region)
        for names in (
            [node.node_id for node in snapshot.nodes],
            [agent.agent_id for agent in snapshot.agents],
        ):
            assert names == sorted(set(names))

    def test_a_placed_agent_runs_on_its_node(self, world: World) -> None:
        """After settling, the snapshot shows it where it was placed."""
        world.settle()
        agent = self.agent(world)
        assert (agent.phase, agent.node_id, agent.epoch) == (
            AgentPhase.RUNNING,
            world.placement.node_id,
            1,
        )

    def test_applying_placements_again_restarts_nothing(self, world: World) -> None:
        """Idempotent: the same process goes on."""
        world.settle()
        before = self.agent(world)
        world.cluster.apply_placements([world.placement])
        world.settle()
        after = self.agent(world)
        assert (after.started_at, after.restarts) == (before.started_at, before.restarts)

    def test_a_higher_epoch_moves_an_agent(self, world: World) -> None:
        """The new node runs it under the new epoch."""
        moved = world.placement._replace(node_id=world.other_node_id, epoch=2)
        world.cluster.apply_placements([moved])
        world.settle()
        agent = self.agent(world)
        assert (agent.phase, agent.node_id, agent.epoch) == (
            AgentPhase.RUNNING,
            world.other_node_id,
            2,
        )

    def test_a_lower_epoch_is_refused_and_changes_nothing(self, world: World) -> None:
        """Whoever planned on an old view must plan again."""
        moved = world.placement._replace(node_id=world.other_node_id, epoch=2)
        world.cluster.apply_placements([moved])
        with pytest.raises(StaleEpochError):
            world.cluster.apply_placements([world.placement])
        world.settle()
        assert self.agent(world).node_id == world.other_node_id

    def test_an_evicted_agent_is_gone_when_evict_returns(self, world: World) -> None:
        """And it stays down under its epoch, also when its placement is applied again."""
        world.settle()
        world.cluster.evict(world.placement.agent_id, 1, 5.0)
        world.cluster.apply_placements([world.placement])
        world.settle()
        assert self.agent(world).phase == AgentPhase.STOPPED

    def test_an_eviction_with_another_epoch_is_refused(self, world: World) -> None:
        """The caller speaks of a copy that is not the one in force."""
        world.settle()
        with pytest.raises(StaleEpochError):
            world.cluster.evict(world.placement.agent_id, 7, 5.0)
        assert self.agent(world).phase == AgentPhase.RUNNING

    def test_a_watch_without_events_ends_empty(self, world: World) -> None:
        """From now, nothing has happened yet."""
        assert world.cluster.watch("", 0.0) == []
