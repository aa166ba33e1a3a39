"""What stores do about quotas and about what has become impossible since it was planned."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from fleet.agents import Placement
from fleet.errors import InvalidInputError
from fleet.placement.quotas import LimitRange, NetworkLimits, ResourceQuota, ResourceUse
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUOTA = NetworkLimits("net", ResourceQuota(agents=2), LimitRange(cpu_milli_max=9))


def agent(name: str, network: str = "net", cpu: int = 4) -> AgentDeclaration:
    """An agent that needs CPU and a share of a GPU."""
    return AgentDeclaration(name, network, "w", "eu", cpu, 8, 0, 250)


def placed(name: str, node: str, epoch: int = 0, network: str = "net") -> Placement:
    """On a node, or parked."""
    desired = "running" if node else "parked"
    return Placement(name, network, "w", node, "eu", epoch, 0, desired, "test", NOW)


def fill(store: ControlStore, *agents: AgentDeclaration) -> None:
    """Two nodes with room for two such agents each."""
    store.declare_nodes(
        [NodeDeclaration(name, "eu", "z", 10, 100, 0, 1, 0) for name in ("n1", "n2")]
    )
    store.declare_agents(agents)


def ids(placements: list[Placement]) -> list[str]:
    """Whose they are."""
    return [one.agent_id for one in placements]


def test_limits_are_replaced_as_a_whole(store: ControlStore) -> None:
    """Who is not named has none any more; what nobody could keep to is refused, with all others."""
    bare = NetworkLimits("a")
    store.declare_network_limits([QUOTA, bare])
    assert store.network_limits() == [bare, QUOTA]
    with pytest.raises(InvalidInputError, match=r"networks.x.quota.agents"):
        store.declare_network_limits([NetworkLimits("x", ResourceQuota(agents=-1))])
    assert store.network_limits() == [bare, QUOTA]
    store.declare_network_limits([bare])
    assert store.network_limits() == [bare]
    store.declare_network_limits([])
    assert store.network_limits() == []


def test_use_is_what_agents_with_a_node_have(store: ControlStore) -> None:
    """Parked, retired and other networks' agents do not count; stopped ones on a node do."""
    fill(store, agent("a"), agent("b"), agent("c"), agent("d", "other"), agent("e"))
    rows = [placed("a", "n1"), placed("b", "n1"), placed("c", ""), placed("d", "n2"),
            placed("e", "n2")]  # fmt: skip
    rows[1] = rows[1]._replace(desired="stopped")
    store.place_agents(rows)
    store.retire_agents(["e"])
    assert store.network_uses(["net", "none"]) == {"net": ResourceUse(2, 8, 16, 500)}
    assert store.network_uses([]) == {}


def test_what_has_become_impossible_is_left_alone_and_the_rest_is_stored(
    store: ControlStore,
) -> None:
    """A node that is gone, a node that would be overdrawn; an agent that was overtaken."""
    fill(store, *(agent(name) for name in "abcdef"))
    store.place_agents([placed("a", "n1")])
    batch = [placed("b", "n1"), placed("c", "n1"), placed("d", "gone"), placed("e", "n2")]
    batch.append(placed("a", "n2", epoch=7))
    assert ids(store.place_agents(batch, within_limits=True)) == ["e"]
    assert ids(store.place_agents([batch[0]], within_limits=True)) == ["b"]
    assert ids(store.place_agents([placed("f", "")], within_limits=True)) == ["f"]


def test_a_node_that_is_left_has_room_for_who_comes_in_the_same_batch(
    store: ControlStore,
) -> None:
    """As preemption does it: the victim goes, the newcomer comes."""
    fill(store, *(agent(name) for name in "abc"))
    store.place_agents([placed("a", "n1"), placed("b", "n1")])
    assert store.place_agents([placed("c", "n1")], within_limits=True) == []
    batch = [placed("a", "n2", epoch=1), placed("c", "n1")]
    assert ids(store.place_agents(batch, within_limits=True)) == ["a", "c"]


def test_no_batch_takes_a_network_past_its_quota(store: ControlStore) -> None:
    """All of a network that would pass it are left; moves and other networks are not."""
    fill(store, *(agent(name) for name in "abc"), agent("x", "other"))
    store.declare_network_limits([QUOTA])
    batch = [placed("a", "n1"), placed("b", "n1"), placed("c", "n2")]
    other = placed("x", "n2", network="other")
    assert ids(store.place_agents([*batch, other], within_limits=True)) == ["x"]
    assert ids(store.place_agents(batch[:2], within_limits=True)) == ["a", "b"]
    store.declare_network_limits([QUOTA._replace(quota=ResourceQuota(agents=1))])
    assert ids(store.place_agents([placed("a", "n2", epoch=1)], within_limits=True)) == ["a"]
    assert store.place_agents([batch[2]], within_limits=True) == []
    assert ids(store.place_agents([batch[2]])) == ["c"]  # failover asks for no leave


def test_of_two_placers_that_saw_the_same_free_place_one_has_it(store: ControlStore) -> None:
    """For a node's last room and for a quota's: never both, whoever comes first."""
    fill(store, *(agent(f"a{n}") for n in range(8)))
    for quota in (None, ResourceQuota(agents=2)):
        store.retire_agents([f"a{n}" for n in range(8)])
        store.declare_agents([agent(f"a{n}") for n in range(8)])
        limits = [] if quota is None else [NetworkLimits("net", quota)]
        store.declare_network_limits(limits)
        gate, won = threading.Barrier(2), list[str]()

        def place(first: int, gate: threading.Barrier = gate, won: list[str] = won) -> None:
            gate.wait(timeout=60)
            for n in range(first, 8, 2):
                done = store.place_agents([placed(f"a{n}", "n1")], within_limits=True)
                won.extend(ids(done))

        threads = [threading.Thread(target=place, args=(first,)) for first in (0, 1)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(timeout=120)
        assert len(won) == 2
        assert len(store.placements("n1")) == 2
