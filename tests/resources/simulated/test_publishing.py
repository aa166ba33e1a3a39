"""A simulated fleet in a control store: the same fleet, resumable, silent nodes stay silent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fleet.agents import Placement
from fleet.errors import StaleEpochError, StoreUnavailableError
from fleet.inventory import AgentPhase, NodePhase
from resources.simulated import publishing
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.publishing import StorePublisher
from tests.fakes.control_store import InMemoryControlStore
from tests.resources.simulated.fleets import dealt_fleet, four_nodes, placed


def store_for(cluster: SimulatedCluster) -> InMemoryControlStore:
    """A store that judges leases by the cluster's clock."""
    return InMemoryControlStore(clock=cluster.clock)


def test_a_seeded_store_shows_the_fleet_that_the_cluster_shows() -> None:
    """Placements, agents and GPUs are equal record by record, nodes in what they report."""
    cluster = dealt_fleet(12, 60)
    store = store_for(cluster)
    assert cluster.seed_store(store) == (12, 0, 0)
    snapshots = [cluster.snapshot(region) for region in cluster.regions()]
    assert store.placements() == cluster.placements()
    assert store.agents() == sorted(agent for s in snapshots for agent in s.agents)
    assert store.gpus() == sorted(
        (gpu for s in snapshots for gpu in s.gpus), key=lambda gpu: (gpu.node_id, gpu.device_index)
    )
    shown = {node.node_id: node for s in snapshots for node in s.nodes}
    for row in store.nodes():
        same = ("cpu_milli", "boot_id", "pid", "started_at", "cpu_percent", "agents_running")
        assert [getattr(row, f) for f in same] == [getattr(shown[row.node_id], f) for f in same]


def test_placements_with_higher_epochs_are_seeded_as_they_are() -> None:
    """The store raises epochs one at a time; seeding goes through all of them."""
    cluster = four_nodes()
    cluster.apply_placements([placed("a1", "n2", 5), placed("a2", "n1", 3)])
    store = store_for(cluster)
    cluster.seed_store(store)
    assert {p.agent_id: (p.epoch, p.node_id) for p in store.placements()} == {
        "a1": (5, "n2"),
        "a2": (3, "n1"),
        "a3": (1, "n3"),
        "a4": (1, "n4"),
    }


class DyingStore(InMemoryControlStore):
    """Loses its connection after some batches of placements."""

    batches_left = 2

    def place_agents(self, placements: Sequence[Placement]) -> list[Placement]:
        """Store a batch while it lasts."""
        if self.batches_left == 0:
            raise StoreUnavailableError("the connection is gone")
        self.batches_left -= 1
        return super().place_agents(placements)


@pytest.mark.parametrize("batches", range(6))
def test_seeding_that_was_interrupted_is_completed_by_calling_again(
    batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every interrupted state a second call leads to the same store."""
    monkeypatch.setattr(publishing, "BATCH_ROWS", 7)
    cluster = dealt_fleet(3, 30)
    cluster.apply_placements([cluster.placements()[0]._replace(epoch=2)])
    store = DyingStore(clock=cluster.clock)
    store.batches_left = batches
    with pytest.raises(StoreUnavailableError):
        cluster.seed_store(store)
    store.batches_left = 100
    cluster.seed_store(store)
    assert store.placements() == cluster.placements()
    assert cluster.seed_store(store) == (3, 0, 0)


def test_a_store_that_has_been_planned_on_is_not_overwritten() -> None:
    """Seeding refuses to lower an epoch, and says which agent and what is held."""
    cluster = four_nodes()
    store = store_for(cluster)
    cluster.seed_store(store)
    store.place_agents([placed("a1", "n2", 1)])
    with pytest.raises(StaleEpochError, match=r"agent a1.*epoch 1.*epoch 2 on 'n2'"):
        cluster.seed_store(store)


def test_only_nodes_that_are_heard_of_are_reported() -> None:
    """A hidden node's lease runs out in the store, and comes back when it is heard again."""
    cluster = four_nodes("at 10 for 55 partition node/n1 peer=store\nat 10 for 55 crash node/n2")
    store = store_for(cluster)
    publisher = StorePublisher(cluster, store)
    publisher.declare()
    counts = []
    for _ in range(9):
        counts.append(publisher.publish())
        cluster.advance(10)
    assert [count.reported for count in counts] == [4, 4, 2, 2, 2, 2, 2, 4, 4]
    assert [count.silent for count in counts] == [0, 0, 2, 2, 2, 2, 2, 0, 0]
    publisher.publish()
    assert {node.phase for node in store.nodes()} == {NodePhase.RUNNING}
    assert {agent.phase for agent in store.agents()} == {AgentPhase.RUNNING}


def test_a_quick_reboot_waits_for_the_lease_of_its_predecessor() -> None:
    """The store refuses the new boot until the old lease is over; the count tells."""
    cluster = four_nodes("at 10 for 1 crash node/n1")
    store = store_for(cluster)
    publisher = StorePublisher(cluster, store)
    publisher.declare()
    cluster.advance(9.9)
    publisher.publish()
    cluster.advance(3)
    assert publisher.publish() == (3, 0, 1)
    cluster.advance(3)
    assert publisher.publish() == (4, 0, 0)
    assert store.nodes("eu")[0].boot_id == "n1.2"


def test_the_cluster_follows_what_is_placed_in_the_store() -> None:
    """A failover decided on the store moves the agent; following twice changes nothing."""
    cluster = four_nodes()
    store = store_for(cluster)
    publisher = StorePublisher(cluster, store)
    publisher.declare()
    store.place_agents([placed("a1", "n2", 1), placed("a3", "n4", 1)])
    assert publisher.follow() == 2
    assert publisher.follow() == 0
    cluster.advance(2)
    assert [c.node_id for c in cluster.truth.copies("a1")] == ["n2"]
    assert [c.epoch for c in cluster.truth.copies("a3")] == [2]
