"""`stateroom up` as an operator meets it: real processes, real UI, a real second start."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platform_defs.dagster_processes import LOCATION
from platform_defs.running import ENDED
from platform_defs.webserver_client import WebserverClient
from resources.local.linux_processes import child_pids
from sensors.upkeep import RUN_HISTORY_JOB
from tests.scenarios.running_fleet import RunningFleet

ASSETS = "{assetNodes{assetKey{path} isMaterializable assetMaterializations(limit: 1){runId}}}"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RunningFleet]:
    """A fleet that has not been started."""
    made = RunningFleet(tmp_path)
    yield made
    made.end()


def materialized(url: str) -> set[str]:
    """Assets with at least one materialization, as the UI shows them."""
    nodes = WebserverClient(url).query(ASSETS)["assetNodes"]
    return {"/".join(n["assetKey"]["path"]) for n in nodes if n["assetMaterializations"]}


def states(fleet: RunningFleet) -> dict[str, tuple[int, int]]:
    """Epoch and state version of every agent."""
    found = {}
    for agent in fleet.json("agents"):
        details = fleet.json("agent", agent["agent_id"])
        version = details["state"]["version"] if details["state"] else 0
        found[agent["agent_id"]] = (agent["epoch"], version)
    return found


def answered(fleet: RunningFleet, *words: str) -> list[dict[str, Any]]:
    """What a metrics query finds; nothing before the first samples are stored."""
    done = fleet.run(*words, "--json")
    return list(json.loads(done.stdout)["result"]) if done.returncode == 0 else []


def wait_until_collected(fleet: RunningFleet) -> None:
    """The collector has scraped both pages of each node, and the exporter."""
    asked = ("metrics", "query", 'sum(stateroom_agents{state="running"})')
    end_s = time.monotonic() + 120
    while [one["values"][0][1] for one in answered(fleet, *asked)] != [4]:
        assert time.monotonic() < end_s, "nothing is collected"
        time.sleep(1.0)
    (targets,) = answered(fleet, "metrics", "query", "count(up == 1)")
    assert targets["values"][0][1] == 5


def warm_parent(fleet: RunningFleet) -> tuple[int, int]:
    """Pid of the process that run workers are forked from, and clock ticks of those that ended."""
    up = json.loads((fleet.folder / "state/run/up.json").read_text(encoding="utf-8"))
    for pid in child_pids(up["processes"]["code-server"]):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        if "(warm-parent)" in fields:
            return pid, int(fields.rpartition(")")[2].split()[13])  # cutime of proc(5)
    raise AssertionError("the code server has no warm parent")


def run_job(client: WebserverClient, job: str) -> str:
    """Status with which a run of it ends."""
    run_id = client.launch_job(LOCATION, job, {}, {})
    end_s = time.monotonic() + 120
    while (status := client.run_status(run_id)) not in ENDED:
        assert time.monotonic() < end_s, f"{job} does not end: {status}"
        time.sleep(0.2)
    return status


def run_workers_are_forked_warm(fleet: RunningFleet, url: str) -> None:
    """The inventory was; and after a SIGKILL of the warm parent so is the next run, by another."""
    killed, spent = warm_parent(fleet)
    assert spent > 0
    os.kill(killed, signal.SIGKILL)
    assert run_job(WebserverClient(url), RUN_HISTORY_JOB) == "SUCCESS"
    end_s = time.monotonic() + 60
    while (found := warm_parent(fleet))[1] == 0:  # the worker ends a little after its run
        assert time.monotonic() < end_s, "the run was not forked from the warm parent"
        time.sleep(0.1)
    assert found[0] != killed
    log = (fleet.folder / "state/logs/code-server.log").read_text(encoding="utf-8")
    assert "fresh interpreters" not in log


def test_up_serves_refuses_a_second_stops_clean_and_continues(fleet: RunningFleet) -> None:
    """UI and assets are there; one owner; Ctrl-C leaves nothing; the next start goes on."""
    url = fleet.up()
    with urllib.request.urlopen(f"{url}/server_info", timeout=10) as reply:
        assert json.load(reply)["dagster_webserver_version"]
    first = materialized(url)
    assert {"node_inventory", "agent_inventory", "agent_states", "gpu_inventory"} <= first
    (count,) = fleet.json("sql", "SELECT count(*) AS agents FROM agent_inventory")
    assert count == {"agents": 4}
    status = fleet.json("status")
    assert (status["healthy"], status["nodes_live"], status["agents_running"]) == (True, 2, 4)
    assert status["url"] == url
    findings = fleet.json("doctor")
    assert [f for f in findings if f["verdict"] == "wrong"] == []
    assert {"dagster", "code_location", "supervisors", "store", "lake"} <= {
        f["check"] for f in findings if f["verdict"] == "ok"
    }

    second = fleet.run("up")
    assert fleet.process is not None
    assert second.returncode == 4
    assert f"already running on {fleet.folder}/state (pid {fleet.process.pid})" in second.stderr

    end_s = time.monotonic() + 60
    while not all(version for _, version in states(fleet).values()):
        assert time.monotonic() < end_s, "agents store no states"
        time.sleep(0.5)

    wait_until_collected(fleet)

    fleet.process.send_signal(signal.SIGINT)
    assert fleet.process.wait(30) == 0
    fleet.wait_gone(5)
    before = states(fleet)

    url = fleet.up()
    after = states(fleet)
    assert {name: epoch for name, (epoch, _) in after.items()} == {
        name: epoch for name, (epoch, _) in before.items()
    }
    assert all(after[name][1] >= version for name, (_, version) in before.items())
    assert first <= materialized(url)
    runs = WebserverClient(url).query("{runsOrError{... on Runs{count}}}")["runsOrError"]["count"]
    assert runs >= 2
    assert "placed as before" in fleet.log()
    run_workers_are_forked_warm(fleet, url)

    killed = fleet.run("chaos", "kill-node", "eu-central-1-1", "--yes")
    assert killed.returncode == 0, killed.stderr
    end_s = time.monotonic() + 30
    while "eu-central-1: none of 1 nodes is live" not in fleet.json("status")["findings"]:
        assert time.monotonic() < end_s, "a killed node stays healthy"
        time.sleep(0.2)
    assert not fleet.json("status")["healthy"]
    assert "node_terminated eu-central-1-1" in fleet.log()

    assert fleet.run("down").returncode == 0
    assert fleet.process.wait(10) == 0
    fleet.wait_gone(5)


def test_killing_up_leaves_no_orphan(fleet: RunningFleet) -> None:
    """SIGKILL of the front, with Dagster, nodes and agents below it."""
    fleet.up()
    assert fleet.process is not None
    assert len(fleet.processes()) > 8
    fleet.process.kill()
    fleet.process.wait()
    fleet.wait_gone(30)


def test_a_port_in_use_is_refused_before_anything_starts(fleet: RunningFleet) -> None:
    """The message names the process; exit code 4; no store was made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        fleet.environ["STATEROOM_WEB__PORT"] = str(port)
        refused = fleet.run("up")
    assert refused.returncode == 4
    assert f"port {port} on 127.0.0.1 is in use by pid" in refused.stderr
    assert not (fleet.folder / "state" / "control.db").exists()


def test_a_start_that_fails_says_why_and_leaves_nothing(fleet: RunningFleet) -> None:
    """The code server ends at once: its last lines are shown, the nodes are stopped again."""
    (fleet.folder / "dagster.yaml").write_text("no_such_key: 1\n", encoding="utf-8")
    failed = fleet.run("up")
    assert failed.returncode == 1
    assert "code-server ended with 1 while starting" in failed.stderr
    assert "no_such_key" in failed.stderr
    assert "logs/code-server.log" in failed.stderr
    fleet.wait_gone(5)
    assert fleet.json("status")["running"] is False
