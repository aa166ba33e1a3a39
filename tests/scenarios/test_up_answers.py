"""`stateroom up` answers in its UI, on its commands and to questions about its metrics."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

from platform_defs.webserver_client import WebserverClient
from tests.scenarios.running_fleet import RunningFleet

ASSETS = "{assetNodes{assetKey{path} isMaterializable assetMaterializations(limit: 1){runId}}}"


FIRST = {"node_inventory", "agent_inventory", "agent_states", "gpu_inventory"}


def materialized(url: str) -> set[str]:
    """Assets with at least one materialization, as the UI shows them."""
    nodes = WebserverClient(url).query(ASSETS)["assetNodes"]
    return {"/".join(n["assetKey"]["path"]) for n in nodes if n["assetMaterializations"]}


def answered(fleet: RunningFleet, *words: str) -> list[dict[str, Any]]:
    """What a metrics query finds; nothing before the first samples are stored."""
    done = fleet.run(*words, "--json")
    return list(json.loads(done.stdout)["result"]) if done.returncode == 0 else []


def wait_until_collected(fleet: RunningFleet) -> None:
    """The collector has scraped both pages of each node, and the exporter."""
    asked = ("metrics", "query", 'sum(stateroom_agents{state="running"})')
    end_s = time.monotonic() + 300
    while [one["values"][0][1] for one in answered(fleet, *asked)] != [4]:
        assert time.monotonic() < end_s, "nothing is collected"
        time.sleep(1.0)
    (targets,) = answered(fleet, "metrics", "query", "count(up == 1)")
    assert targets["values"][0][1] == 5


def wait_until_well(fleet: RunningFleet) -> list[dict[str, Any]]:
    """What the doctor finds once nothing is wrong: a busy machine may have slowed a leader down."""
    end_s = time.monotonic() + 300
    while True:
        found: list[dict[str, Any]] = fleet.json("doctor")
        wrong = [one for one in found if one["verdict"] == "wrong"]
        if not wrong:
            return found
        assert time.monotonic() < end_s, wrong
        time.sleep(1.0)


def test_up_serves_collects_and_refuses_a_second(watched_fleet: RunningFleet) -> None:
    """UI, assets, commands and metrics are there; a state folder has one owner."""
    fleet = watched_fleet
    with urllib.request.urlopen(f"{fleet.url}/server_info", timeout=10) as reply:
        assert json.load(reply)["dagster_webserver_version"]
    assert materialized(fleet.url) >= FIRST
    (count,) = fleet.json("sql", "SELECT count(*) AS agents FROM agent_inventory")
    assert count == {"agents": 4}
    findings = wait_until_well(fleet)
    status = fleet.json("status")
    assert (status["healthy"], status["nodes_live"], status["agents_running"]) == (True, 2, 4)
    assert status["url"] == fleet.url
    assert {"dagster", "code_location", "supervisors", "store", "lake"} <= {
        f["check"] for f in findings if f["verdict"] == "ok"
    }
    shown = fleet.json("agents")
    assert len(shown) == 4
    assert fleet.json("agent", shown[0]["agent_id"])["agent"]["epoch"] == 1

    second = fleet.run("up")
    assert fleet.process is not None
    assert second.returncode == 4
    assert f"already running on {fleet.folder}/state (pid {fleet.process.pid})" in second.stderr
    wait_until_collected(fleet)
