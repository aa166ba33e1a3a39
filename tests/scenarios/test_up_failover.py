"""Under `stateroom up`, the agents of a killed node and of a killed region run elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.scenarios.running_fleet import RunningFleet

REGIONS = """
[regions.ap-southeast-2]
nodes = 2
"""


def until(what: str, look: Callable[[], Any], timeout_s: float = 180.0) -> Any:
    """Look again and again."""
    end_s = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < end_s, what
        time.sleep(1.0)
    return found


@pytest.mark.long
def test_what_is_killed_runs_elsewhere_and_the_incident_tells_it() -> None:
    """A node's agents stay in their region while it has another node; a region's leave it."""
    with TemporaryDirectory(prefix="sr-") as name:
        fleet = RunningFleet(Path(name))
        settings = fleet.folder / "stateroom.toml"
        settings.write_text(settings.read_text(encoding="utf-8") + REGIONS, encoding="utf-8")
        try:
            fleet.up()

            def agents() -> dict[str, Any]:
                found = json.loads(fleet.run("agents", "--json").stdout)
                return {one["agent_id"]: one for one in found}

            def run_on(node_ids: set[str], agent_ids: set[str]) -> bool:
                seen = agents()
                return all(
                    seen[one]["phase"] == "running" and seen[one]["node_id"] in node_ids
                    for one in agent_ids
                )

            everybody = agents()
            lost = {n for n, one in everybody.items() if one["node_id"] == "ap-southeast-2-1"}
            time.sleep(10)  # the controller has seen everybody beat
            fleet.run("chaos", "kill-node", "ap-southeast-2-1", "--yes")
            until("moved within the region", lambda: run_on({"ap-southeast-2-2"}, lost))
            until(
                "the incident has ended",
                lambda: "ended after" in fleet.run("incident", "ap-southeast-2-1").stdout,
            )
            gone = {n for n, one in everybody.items() if one["region"] == "us-west-2"}
            fleet.run("chaos", "kill-region", "us-west-2", "--yes")
            others = {"eu-central-1-1", "ap-southeast-2-2"}
            until("moved out of the region", lambda: run_on(others, gone))
            until(
                "the region's incident has ended",
                lambda: "nothing is lost" in fleet.run("incident", "us-west-2").stdout,
            )
        finally:
            fleet.end()
