"""The local cluster keeps the cluster contract, with real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from fleet.agents import Placement
from fleet.inventory import AgentPhase
from fleet.ports.cluster import Cluster
from tests.contracts.cluster_contract import ClusterContract, World
from tests.resources.local.fleets import (
    REGION,
    Fleet,
    agents_of,
    eventually,
    node,
    open_fleet,
    shell,
)

AGENTS = 16
"""More than the contract has tests."""


@dataclass
class LocalWorld:
    """Two supervisors and one agent."""

    fleet: Fleet
    cluster: Cluster
    region: str
    placement: Placement
    other_node_id: str

    def settle(self) -> None:
        """Wait until each node has carried out what it was told and has reported it."""
        time.sleep(0.1)
        self.cluster.apply_placements([])  # nudges the nodes
        for _ in range(3):  # one report may be under way, one may have been made before
            self._wait_for_reports()

    def _wait_for_reports(self) -> None:
        asked_at = self._reported_at()
        eventually(
            lambda: all(a > b for a, b in zip(self._reported_at(), asked_at, strict=True)),
            "both nodes have reported",
        )

    def _reported_at(self) -> list[datetime]:
        return [n.heartbeat_at for n in self.fleet.store.nodes() if n.heartbeat_at]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Fleet, Iterator[Placement]]]:
    """Two nodes that report, for all tests, and the agents that they run, each for one test."""
    work = shell("work", "exec sleep 1000")
    with open_fleet() as fleet:
        fleet.start([node("n1"), node("n2")], [work], agents_of(work, AGENTS))
        eventually(
            lambda: all(one.phase == AgentPhase.RUNNING for one in fleet.store.agents()),
            "all agents run",
        )
        yield fleet, iter(fleet.store.placements())


@pytest.fixture
def world(running: tuple[Fleet, Iterator[Placement]]) -> World:
    """An agent that no other test has touched, under epoch 1 on the first of two nodes."""
    fleet, untouched = running
    placement = next(untouched)
    other = ({"n1", "n2"} - {placement.node_id}).pop()
    return LocalWorld(fleet, fleet.cluster, REGION, placement, other)


class TestLocalCluster(ClusterContract):
    """All of the contract."""
