"""A small fleet in a real SQLite store, and the command run on it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from fleet.agents import Activity, Note, Placement, StatePut
from fleet.inventory import AgentPhase
from fleet.leases import node_lease_name
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, AgentReport, NodeDeclaration, NodeReport
from platform_defs.command.main import cli
from platform_defs.settings import Settings, load_settings
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from tests.platform_defs.command.backed_up_fleet import copy_fleet, make_backed_up
from tests.platform_defs.settings_files import SMALL

Run = Callable[..., Result]

SETTINGS = (
    SMALL
    + """
[regions.eu]
nodes = 1
[control_store]
url = "sqlite:///{state_dir}/control.db"
"""
)


@pytest.fixture
def fleet_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings; the command finds them through STATEROOM_CONFIG."""
    path = tmp_path / "stateroom.toml"
    path.write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("STATEROOM_CONFIG", str(path))
    monkeypatch.delenv("STATEROOM_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def run(fleet_dir: Path) -> Run:
    """Run the command as its users do; output and errors are kept apart."""

    def invoke(*words: str, **extra: str) -> Result:
        return CliRunner().invoke(cli, list(words), prog_name="stateroom", env=extra)

    return invoke


@pytest.fixture(scope="session")
def filled_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder of a fleet in which one node is silent and one agent has failed."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "stateroom.toml").write_text(SETTINGS, encoding="utf-8")
    settings = load_settings(folder / "stateroom.toml", {})
    settings.fleet.state_dir.mkdir()
    store = open_control_store(settings.control_store.url, clock=SystemClock())
    try:
        fill(store)
    finally:
        store.close()
    return settings.fleet.state_dir


@pytest.fixture
def filled(filled_state: Path, fleet_dir: Path) -> Path:
    """A private copy of the filled state folder, where the settings look for it."""
    shutil.copytree(filled_state, fleet_dir / "state")
    return fleet_dir / "state"


@pytest.fixture
def store(filled: Path) -> Iterator[ControlStore]:
    """The filled store, to change what the command will see."""
    opened = open_control_store(f"sqlite:///{filled}/control.db", clock=SystemClock())
    yield opened
    opened.close()


def hide_ages(text: str) -> str:
    """The text with AGE for how long ago things were: the filled store is as old as the session."""
    return re.sub(r"\b(\d+\.\d s|\d+ (min|h))(?= ago|\n|\))", "AGE", text)


def fill(store: ControlStore) -> None:
    """Two nodes in us-west-2 (one silent), one in eu that has never reported; five agents."""
    now = datetime.now(UTC)
    store.declare_nodes(
        [
            NodeDeclaration("us-west-2-1", "us-west-2", "a", 2000, 2**30),
            NodeDeclaration("us-west-2-2", "us-west-2", "b", 2000, 2**30),
            NodeDeclaration("eu-1", "eu", "eu", 2000, 2**30),
        ]
    )
    homes = {"cpu-1": "us-west-2-1", "cpu-2": "us-west-2-1", "cpu-3": "us-west-2-2"}
    store.declare_agents(
        [AgentDeclaration(name, "watch", "cpu", "us-west-2", 10, 2**24) for name in homes]
        + [AgentDeclaration("eu-cpu-1", "other", "cpu", "eu", 10, 2**24)]
    )
    store.place_agents(
        [
            Placement(name, "watch", "cpu", node, "us-west-2", 0, 0, "running", "dealt", now)
            for name, node in homes.items()
        ]
    )
    beat = now - timedelta(seconds=1)
    reports = {
        "us-west-2-1": (
            AgentReport("cpu-1", 1, AgentPhase.RUNNING, 11, beat, beat, 0, 0.1, 2**20, "works"),
            AgentReport("cpu-2", 1, AgentPhase.FAILED, None, beat, beat, 5, None, None, "exit 1"),
        ),
        "us-west-2-2": (
            AgentReport("cpu-3", 1, AgentPhase.RUNNING, 12, beat, beat, 0, 0.1, 2**20, "works"),
        ),
    }
    for node, agents in reports.items():
        lease = store.acquire_lease(node_lease_name(node), f"boot-{node}", 86_400.0)
        report = NodeReport(
            node, f"boot-{node}", 1, "127.0.0.1:1", beat, now, 5.0, 2**20, 2**30, agents, ()
        )
        lease = store.report_node(report, lease)
        if node == "us-west-2-2":
            store.release_lease(lease)
    store.put_states([StatePut("cpu-1", 1, 0, b"remembered")])
    store.append_activities(
        [
            Activity("v1", "cpu-1", "watch", "observe", beat, 0.25, True, "load 0.5"),
            Activity("v2", "cpu-1", "watch", "observe", now, None, False, "no answer"),
        ]
    )
    store.append_notes([Note("n1", "cpu-1", "watch", beat, "the load is low")])


@pytest.fixture(scope="session")
def backed_up_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, datetime]:
    """A fleet with two snapshots, a journal and a copy; and the moment between the snapshots."""
    folder = tmp_path_factory.mktemp("backed-up")
    return folder, make_backed_up(folder)


class BackedUp(NamedTuple):
    """A private copy of that fleet, and the command run on it."""

    folder: Path
    between: datetime
    run: Run

    @property
    def settings(self) -> Settings:
        """As the command reads them."""
        return load_settings(self.folder / "stateroom.toml", {})

    def json(self, *words: str) -> Any:
        """What a command prints with `--json`."""
        done = self.run(*words, "--json")
        assert done.stdout, done.output
        return json.loads(done.stdout)

    def snapshots(self) -> list[str]:
        """Ids, newest first."""
        return [one["snapshot_id"] for one in self.json("backups", "list")]


@pytest.fixture
def backed_up(backed_up_template: tuple[Path, datetime], fleet_dir: Path, run: Run) -> BackedUp:
    """See `BackedUp`."""
    folder, between = backed_up_template
    copy_fleet(folder, fleet_dir)
    return BackedUp(fleet_dir, between, run)
