"""One look for each region and run; readers of the fleet give what was reported."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from fleet.errors import InvalidInputError, NodeUnavailableError
from fleet.inventory import NodePhase
from fleet.ports.cluster import FleetReader
from resources.cluster_resource import cluster_resource
from resources.local.local_cluster import LocalCluster
from resources.observation import FleetObservation
from resources.reported_fleet import ReportedFleet
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import FaultyFleet, SeededFleet, declare_fleet


@pytest.fixture
def reported() -> SeededFleet:
    """Two regions of two nodes of two agents, all of which have just reported."""
    clock = ManualClock()
    fleet = SeededFleet(InMemoryControlStore(clock), clock, declare_fleet())
    fleet.beat()
    return fleet


def test_a_region_is_looked_at_once_and_again_after_its_agents_were_released(
    reported: SeededFleet,
) -> None:
    """A released look is never handed out without its agents."""
    cluster = FaultyFleet(ReportedFleet(reported.store, reported.clock))
    observation = FleetObservation(cluster)
    first = observation.snapshot("eu")
    assert len(first.agents) == 4
    assert observation.snapshot("eu") == first
    assert observation.without_agents("eu").nodes == first.nodes
    assert cluster.looks == ["eu"]
    observation.release_agents()
    assert observation.without_agents("eu").nodes == first.nodes
    assert cluster.looks == ["eu"]
    assert len(observation.snapshot("eu").agents) == 4
    assert cluster.looks == ["eu", "eu"]


def test_a_look_that_failed_is_repeated(reported: SeededFleet) -> None:
    """Only what was seen is remembered."""
    cluster = FaultyFleet(ReportedFleet(reported.store, reported.clock))
    cluster.errors["eu"] = NodeUnavailableError("no answer")
    cluster.failures_left["eu"] = 1
    observation = FleetObservation(cluster)
    with pytest.raises(NodeUnavailableError):
        observation.snapshot("eu")
    assert len(observation.snapshot("eu").nodes) == 2


def test_the_reported_fleet_shows_each_region_its_own(reported: SeededFleet) -> None:
    """Nodes, agents and the time of the look."""
    fleet = ReportedFleet(reported.store, reported.clock)
    assert fleet.regions() == ["eu", "us"]
    seen = fleet.snapshot("us")
    assert [node.node_id for node in seen.nodes] == ["us-1", "us-2"]
    assert {agent.region for agent in seen.agents} == {"us"}
    assert seen.observed_at == reported.clock.now()
    assert fleet.nodes("us") == seen.nodes


def open_cluster(kind: str, reported: SeededFleet, state_dir: Path) -> FleetReader:
    """The cluster that a run of this deployment would get."""
    configured = cluster_resource.configured({"kind": kind, "state_dir": str(state_dir)})
    resources = {
        "cluster": configured,
        "control_store": reported.store,
        "clock": reported.clock,
    }
    with dg.build_resources(resources) as opened:
        cluster: FleetReader = opened.cluster
        return cluster


def test_a_local_cluster_sees_at_once_that_a_node_has_no_process(
    reported: SeededFleet, tmp_path: Path
) -> None:
    """The nodes of the store have reported, yet nothing runs on this machine."""
    cluster = open_cluster("local", reported, tmp_path)
    assert isinstance(cluster, LocalCluster)
    assert cluster.nodes("eu") == cluster.snapshot("eu").nodes
    assert {node.node_id for node in cluster.nodes("eu")} == {"eu-1", "eu-2"}


def test_a_simulated_cluster_is_what_it_reports(reported: SeededFleet, tmp_path: Path) -> None:
    """The simulator is another process; the store is what both share."""
    cluster = open_cluster("simulated", reported, tmp_path)
    assert isinstance(cluster, ReportedFleet)
    assert {node.phase for node in cluster.nodes("eu")} == {NodePhase.RUNNING}


def test_an_unknown_kind_of_cluster_is_refused(reported: SeededFleet, tmp_path: Path) -> None:
    """The error names the setting and what is allowed."""
    with pytest.raises(dg.DagsterResourceFunctionError) as caught:
        open_cluster("abacus", reported, tmp_path)
    assert isinstance(caught.value.__cause__, InvalidInputError)
    assert "local or simulated" in str(caught.value.__cause__)
