"""`stateroom up` as an operator meets it: real processes, real UI, a real second start."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from platform_defs.dagster_processes import LOCATION
from platform_defs.running import ENDED
from platform_defs.webserver_client import WebserverClient
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.linux_processes import child_pids
from sensors.upkeep import RUN_HISTORY_JOB
from tests.scenarios.running_fleet import RunningFleet
from tests.scenarios.test_up_answers import FIRST, materialized

QUIET = {
    "STATEROOM_BACKUP__ENABLED": "false",
    "STATEROOM_METRICS__ENABLED": "false",
    "STATEROOM_METRICS__COLLECT": "false",
}
"""Nothing is done but what the tests of starts and ends are about."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RunningFleet]:
    """A fleet that has not been started."""
    made = RunningFleet(tmp_path)
    made.environ |= QUIET
    yield made
    made.end()


def states(fleet: RunningFleet) -> dict[str, tuple[int, int]]:
    """Epoch and state version of every agent, from the store itself."""
    url = f"sqlite:///{fleet.folder}/state/control.db"
    with closing(open_control_store(url, clock=SystemClock())) as store:
        versions = {info.agent_id: info.version for info in store.state_infos()}
        return {
            one.agent_id: (one.epoch, versions.get(one.agent_id, 0)) for one in store.placements()
        }


def warm_parent(fleet: RunningFleet) -> tuple[int, int]:
    """Pid of the process that run workers are forked from, and clock ticks of those that ended."""
    up = json.loads((fleet.folder / "state/run/up.json").read_text(encoding="utf-8"))
    for pid in child_pids(up["processes"]["code-server"]):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        if "(warm-parent)" in fields:
            return pid, int(fields.rpartition(")")[2].split()[13])  # cutime of proc(5)
    raise AssertionError("the code server has no warm parent")


def parent_of_a_run(fleet: RunningFleet) -> int:
    """Pid of the warm parent once a worker of its own has ended, a little after its run."""
    end_s = time.monotonic() + 60
    while (found := warm_parent(fleet))[1] == 0:
        assert time.monotonic() < end_s, "no run was forked from the warm parent"
        time.sleep(0.1)
    return found[0]


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
    killed = parent_of_a_run(fleet)
    os.kill(killed, signal.SIGKILL)
    assert run_job(WebserverClient(url), RUN_HISTORY_JOB) == "SUCCESS"
    assert parent_of_a_run(fleet) != killed
    log = (fleet.folder / "state/logs/code-server.log").read_text(encoding="utf-8")
    assert "fresh interpreters" not in log


def test_up_stops_clean_and_continues_and_killed_it_leaves_no_orphan(fleet: RunningFleet) -> None:
    """Ctrl-C leaves nothing; the next start goes on; nor does anything outlive a SIGKILL of it."""
    url = fleet.up()
    end_s = time.monotonic() + 60
    while not all(version for _, version in states(fleet).values()):
        assert time.monotonic() < end_s, "agents store no states"
        time.sleep(0.2)
    first = materialized(url)
    assert first >= FIRST

    assert fleet.process is not None
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

    assert len(fleet.processes()) > 6
    fleet.process.kill()
    fleet.process.wait()
    fleet.wait_gone(30)


def test_down_stops_what_up_has_started(fleet: RunningFleet) -> None:
    """From another terminal, in order: nothing is left, and `up` ends well."""
    fleet.up("--no-ui")
    assert fleet.process is not None
    assert len(fleet.processes()) >= 4
    assert fleet.run("down").returncode == 0
    assert fleet.process.wait(10) == 0
    fleet.wait_gone(5)


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
