"""README's "Prove it", run: damage is healed, a lost state comes back, on a real running fleet."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from platform_defs.command import exit_codes
from platform_defs.webserver_client import WebserverClient
from tests.scenarios.running_fleet import ROOT, RunningFleet

AWAY, AGENT, NETWORK = "eu-central-1", "us-west-2-cpu-1", "host-watch"
RUNS = "{runsOrError{... on Runs{results{runId jobName status}}}}"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RunningFleet]:
    """A fleet whose journal is written every five seconds, not yet started."""
    made = RunningFleet(tmp_path)
    settings = tmp_path / "stateroom.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text + "[backup]\njournal_interval_s = 5\n", encoding="utf-8")
    yield made
    made.end()


def wait_for(what: str, is_so: Callable[[], object], timeout_s: float = 180.0) -> None:
    """Wait until something is so."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, what
        time.sleep(1.0)


def prove_it() -> list[str]:
    """The shell commands of README's section, in order."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Prove it")[1]
    section = section.split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.long
def test_damage_is_healed_and_a_lost_state_comes_back(fleet: RunningFleet) -> None:
    """The commands of the README, with `up` running; then a backup without it."""
    url = fleet.up()
    wait_for("no copy", lambda: has_copy(fleet))
    commands = {line.split("#")[0].strip() for line in prove_it()}
    heal = f"stateroom backups heal --region {AWAY} --network {NETWORK}"
    verify = f"stateroom backups verify --region {AWAY} --network {NETWORK} --level V2"
    assert {heal, verify} <= commands

    shell(fleet, *[line for line in prove_it() if line.startswith(("pack=", "printf"))])
    found = fleet.run(*verify.split()[1:])
    assert found.returncode == exit_codes.FINDING
    assert f"! {AWAY}, {NETWORK}: packs/{NETWORK}/" in found.stdout
    healed = fleet.run(*heal.split()[1:])
    assert healed.returncode == exit_codes.OK, healed.stderr
    assert f"{AWAY}, {NETWORK}: healed packs/{NETWORK}/" in healed.stdout
    assert fleet.run(*verify.split()[1:]).returncode == exit_codes.OK

    moment = datetime.now(UTC)
    words = ("restore", "--network", NETWORK, "--agent", AGENT, "--at", moment.isoformat())
    wait_for("not covered", lambda: fleet.run(*words, "--dry-run").returncode == 0)
    before = fleet.json("agent", AGENT)["state"]
    delete_state(fleet)
    restored = fleet.run(*words, "--yes")
    assert restored.returncode == exit_codes.OK, restored.stderr
    assert "restored 1 agent" in restored.stdout
    after = fleet.json("agent", AGENT)["state"]
    assert 0 < after["version"] <= before["version"] + 1
    wait_for("not running", lambda: fleet.json("agent", AGENT)["agent"]["phase"] == "running")
    status = fleet.json("status")
    assert status["incidents"] == []
    (line,) = [one for one in status["backups"] if one["network_id"] == NETWORK]
    assert line["regions"] == 2

    with_up = fleet.json("backup", "now", "--network", NETWORK)
    runs = WebserverClient(url).query(RUNS)["runsOrError"]["results"]
    jobs = {run["runId"]: (run["jobName"], run["status"]) for run in runs}
    assert jobs[with_up["runs"][0]] == ("backup_job", "SUCCESS")
    assert fleet.run("down").returncode == 0
    (alone,) = fleet.json("backup", "now", "--network", NETWORK)["snapshots"]
    listed = fleet.json("backups", "list", "--network", NETWORK)
    assert listed[0]["snapshot_id"] == alone["snapshot_id"]


def has_copy(fleet: RunningFleet) -> bool:
    """Whether the other region lists a snapshot of the network."""
    done = fleet.run("backups", "list", "--region", AWAY, "--network", NETWORK)
    return done.returncode == 0 and NETWORK in done.stdout


def shell(fleet: RunningFleet, *lines: str) -> None:
    """Run lines of the README in the fleet's folder."""
    assert lines
    done = subprocess.run(
        ["/bin/sh", "-ec", "\n".join(lines)], cwd=fleet.folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def delete_state(fleet: RunningFleet) -> None:
    """The agent's state is gone from the control store, as in the README."""
    with closing(sqlite3.connect(fleet.folder / "state" / "control.db", timeout=30)) as database:
        database.execute("delete from agent_states where agent_id = ?", [AGENT])
        database.commit()
