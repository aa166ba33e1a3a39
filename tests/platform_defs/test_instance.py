"""dagster.yaml and workspace.yaml work from the repository and from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from ops.failover_jobs import FAILOVER_CLASS
from platform_defs.run_coordinator import UrgentRunCoordinator, UrgentRuns

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(command: Sequence[str], cwd: Path, home: Path) -> str:
    """Output of a command that must succeed, with an instance of its own."""
    environ = {**os.environ, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    environ["PYTHONPATH"] = str(ROOT)  # dagster.yaml names a module of this tree, not of an install
    environ.pop("STATEROOM_CONFIG", None)
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A DAGSTER_HOME with our dagster.yaml linked into it, as `stateroom up` makes it."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    return folder


def test_everything_the_instance_stores_lies_in_its_home(home: Path) -> None:
    """Runs, events, schedules and logs; nothing is written beside it."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = dg.materialize([_probe], instance=instance)
        assert result.success
        assert instance.root_directory == str(home)
    made = {path.name for path in home.iterdir()}
    assert {"history", "schedules", "storage"} <= made
    assert {path.name for path in home.parent.iterdir()} == {"dagster"}


@dg.asset
def _probe() -> None:
    """Anything."""


def test_the_instance_is_set_up_for_quick_failover(home: Path) -> None:
    """The levers that were measured: queue pace, threads, monitoring; and no telemetry."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_coordinator, UrgentRunCoordinator)
        assert instance.run_coordinator.urgent == UrgentRuns(*next(iter(FAILOVER_CLASS.items())), 4)
        assert instance.run_coordinator.dequeue_interval_seconds == 1
        assert instance.get_settings("sensors")["use_threads"] is True
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == 7200
        assert not instance.telemetry_enabled
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        limits = {each.get("value"): each["limit"] for each in queue.tag_concurrency_limits[:5]}
        assert limits == {
            "inventory": 1,
            "upkeep": 1,
            "backup": 2,
            "proof": 1,
            "failover_report": 1,
        }


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("dagster definitions validate", "Validation successful for code location stateroom"),
        ("dagster definitions validate -w {root}/workspace.yaml", "code location stateroom"),
        ("dagster asset list -m platform_defs.definitions", "node_inventory"),
        ("dg check defs", "All definitions loaded successfully"),
        ("dg list defs --json", "fleet_change_sensor"),
    ],
)
def test_the_tools_find_the_definitions_from_the_root(
    command: str, expected: str, home: Path
) -> None:
    """Without options beyond those that the tool always needs."""
    assert expected in run(command.format(root=ROOT).split(), ROOT, home)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("dagster definitions validate -w {root}/workspace.yaml", "code location stateroom"),
        ("dagster asset list -f {root}/platform_defs/definitions.py -d {root}", "node_inventory"),
        ("dg check defs --target-path {root}", "All definitions loaded successfully"),
        ("dg list defs --json --target-path {root}", "fleet_change_sensor"),
    ],
)
def test_the_tools_find_the_definitions_from_elsewhere(
    command: str, expected: str, home: Path, tmp_path: Path
) -> None:
    """The settings file is then the one beside the packages."""
    assert expected in run(command.format(root=ROOT).split(), tmp_path, home)
