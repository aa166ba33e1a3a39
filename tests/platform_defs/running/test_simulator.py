"""The process of a simulated fleet: follows the settings, the store and the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.ports.control_store import ControlStore
from platform_defs.declared_fleet import declared_agents, declared_nodes, declared_workloads
from platform_defs.settings import Settings, load_settings
from platform_defs.simulator import build_cluster, run_simulator
from platform_defs.stopping import StopAskedError, StopSwitch
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.node_spec import DEFAULT_GPU_PROBE
from tests.platform_defs.settings_files import SMALL, write_settings
from tests.servers.empty_stores import sqlite_url

ENVIRON = {
    "STATEROOM_FLEET__CLUSTER": "simulated",
    "STATEROOM_WORKLOADS__CPU__REPLICAS_PER_NODE": "3",
    "STATEROOM_NODE__HEARTBEAT_INTERVAL_S": "0.1",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two nodes, six agents."""
    found = load_settings(write_settings(tmp_path), ENVIRON)
    found.fleet.state_dir.mkdir()
    return found


@pytest.fixture
def store(settings: Settings) -> Iterator[ControlStore]:
    """An empty store."""
    made = sqlite_url(settings.fleet.state_dir)
    assert settings.control_store.url == made
    opened = open_control_store(settings.control_store.url, clock=SystemClock())
    yield opened
    opened.close()


def test_the_settings_declare_nodes_workloads_and_agents(tmp_path: Path) -> None:
    """Replicas times nodes of each region; an agent's name holds no node."""
    text = SMALL + "replicas_per_node = 2\nmemory_mib = 3\n[regions.eu]\nnodes = ['n1']\n"
    settings = load_settings(write_settings(tmp_path, text), {})
    nodes = [(node.node_id, node.region, node.zone) for node in declared_nodes(settings)]
    assert nodes == [
        ("us-west-2-1", "us-west-2", "a"),
        ("us-west-2-2", "us-west-2", "b"),
        ("n1", "eu", "eu"),
    ]
    agents = declared_agents(settings)
    assert [agent.agent_id for agent in agents] == [
        *(f"us-west-2-cpu-{number}" for number in range(1, 5)),
        *(f"eu-cpu-{number}" for number in range(1, 3)),
    ]
    assert {agent.memory_bytes for agent in agents} == {3 * 1024 * 1024}
    assert [workload.workload for workload in declared_workloads(settings)] == ["cpu"]


def test_one_node_of_a_machine_looks_after_its_gpus(tmp_path: Path) -> None:
    """Else each node would report the same devices."""
    from platform_defs.local_nodes import node_specs

    specs = node_specs(load_settings(write_settings(tmp_path), {}))
    assert [spec.gpu_probe for spec in specs] == [DEFAULT_GPU_PROBE, ""]
    assert len({spec.socket_path for spec in specs}) == 2


def test_a_second_start_continues_with_the_stores_placements(
    settings: Settings, store: ControlStore
) -> None:
    """Placements and epochs are read, not made anew; what is not declared any more is gone."""
    build_cluster(settings, store)
    first = store.placements()
    assert len(first) == 6
    moved = first[0]._replace(node_id=first[1].node_id)
    store.place_agents([moved])
    placed = {p.agent_id: (p.node_id, p.epoch) for p in store.placements()}
    assert placed[moved.agent_id] == (first[1].node_id, 2)
    cluster = build_cluster(settings, store)
    assert {p.agent_id: (p.node_id, p.epoch) for p in cluster.placements()} == placed
    fewer = load_settings(settings.path, ENVIRON | {"STATEROOM_REGIONS__US_WEST_2__NODES": "1"})
    build_cluster(fewer, store)
    assert [node.node_id for node in store.nodes()] == ["us-west-2-1"]
    assert len(store.placements()) == 3


def test_the_simulated_nodes_report_until_asked_to_stop(
    settings: Settings, store: ControlStore
) -> None:
    """Heartbeats go on with the real clock, and newer placements are followed."""
    switch, failed = StopSwitch(), []

    def run() -> None:
        try:
            run_simulator(settings, store, switch)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        _wait(lambda: [c.agents_running for c in store.fleet_counts()] == [6])
        before = max(node.heartbeat_at for node in store.nodes() if node.heartbeat_at)
        _wait(lambda: all(n.heartbeat_at and n.heartbeat_at > before for n in store.nodes()))
        placed = store.placements()[0]
        target = next(n.node_id for n in store.nodes() if n.node_id != placed.node_id)
        store.place_agents([placed._replace(node_id=target)])

        def followed() -> bool:
            agent = store.agent(placed.agent_id)
            return agent is not None and (agent.epoch, agent.phase) == (2, "running")

        _wait(followed)
    finally:
        switch.asked = True
        thread.join(20)
    assert not thread.is_alive()
    assert failed == []


def _wait(condition: object) -> None:
    assert callable(condition)
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)


def test_a_stop_is_noticed_at_the_next_pause() -> None:
    """A pause that is asked to stop before it begins does not sleep."""
    switch = StopSwitch()
    assert switch.wait_for(lambda: True, 0.0)
    assert not switch.wait_for(lambda: False, 0.0)
    switch.asked = True
    with pytest.raises(StopAskedError):
        switch.pause(3600.0)
    with pytest.raises(StopAskedError):
        switch.wait_for(lambda: False, 3600.0)
