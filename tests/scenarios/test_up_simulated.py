"""`stateroom up --no-ui` on a simulated fleet: faults by command, and a second start."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.scenarios.running_fleet import COMMAND, RunningFleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RunningFleet]:
    """A simulated fleet of 25 nodes and 100 agents."""
    made = RunningFleet(tmp_path)
    made.environ |= {
        "STATEROOM_FLEET__CLUSTER": "simulated",
        "STATEROOM_REGIONS__US_WEST_2__NODES": "15",
        "STATEROOM_REGIONS__EU_CENTRAL_1__NODES": "10",
        "STATEROOM_WORKLOADS__CPU__REPLICAS_PER_NODE": "4",
        "STATEROOM_NODE__LEASE_TTL_S": "2.0",
    }
    yield made
    made.end()


def start(fleet: RunningFleet) -> None:
    """Start without the UI; returns when the nodes report."""
    with fleet.log_path.open("wb") as log:
        fleet.process = subprocess.Popen(
            [*COMMAND, "up", "--no-ui"], env=fleet.environ, cwd=fleet.folder, stdout=log, stderr=log
        )
    wait_until(lambda: "is up without a UI" in fleet.log(), fleet)


def wait_until(condition: Callable[[], object], fleet: RunningFleet) -> None:
    """Poll until something holds."""
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s, fleet.log()
        time.sleep(0.1)


@pytest.mark.long
def test_a_simulated_fleet_takes_faults_and_continues(fleet: RunningFleet) -> None:
    """A killed region goes silent, one node comes back; epochs survive the second start."""
    start(fleet)
    document = fleet.json("status")
    assert (document["nodes_live"], document["agents_running"]) == (25, 100)

    asked = fleet.run("chaos", "kill-region", "eu-central-1")
    assert asked.returncode == 130
    assert "Kill all 10 nodes of region eu-central-1" in asked.stdout
    killed = fleet.run("chaos", "kill-region", "eu-central-1", "--yes")
    assert killed.returncode == 0, killed.stderr
    assert len(re.findall("is down", killed.stdout)) == 10
    wait_until(lambda: fleet.json("status")["nodes_silent"] == 10, fleet)
    back = fleet.run("chaos", "start-node", "eu-central-1-7", "--yes")
    assert back.returncode == 0, back.stderr
    wait_until(lambda: fleet.json("status")["nodes_silent"] == 9, fleet)

    unknown = fleet.run("chaos", "kill-node", "eu-central-1-99", "--yes")
    assert unknown.returncode == 2
    assert "no node 'eu-central-1-99' is declared" in unknown.stderr

    before = {a["agent_id"]: a["epoch"] for a in fleet.json("agents", "--limit", "1000")}
    assert fleet.run("down").returncode == 0
    assert fleet.process is not None
    assert fleet.process.wait(10) == 0
    fleet.wait_gone(10)
    refused = fleet.run("chaos", "kill-node", "eu-central-1-7", "--yes")
    assert refused.returncode == 1
    assert "the fleet is not running" in refused.stderr
    start(fleet)
    after = {a["agent_id"]: a["epoch"] for a in fleet.json("agents", "--limit", "1000")}
    assert after == before
    assert len(after) == 100
