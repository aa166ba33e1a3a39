"""Commands run the jobs of the platform in their own process, and the UI has the runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest

from platform_defs.command import exit_codes, progress_bar
from platform_defs.command.job_runs import instance_of
from tests.platform_defs.command.backed_up_fleet import (
    AWAY,
    HOME,
    damage,
    objects,
    opened_store,
    write_state,
)
from tests.platform_defs.command.conftest import BackedUp


def runs_of(fleet: BackedUp) -> dict[str, dg.DagsterRun]:
    """What the instance of the UI has recorded, by run id."""
    with instance_of(fleet.settings) as instance:
        return {run.run_id: run for run in instance.get_runs()}


def test_a_backup_is_a_run_with_a_materialization_and_says_what_it_took(
    backed_up: BackedUp,
) -> None:
    """Only what changed is stored; reason and run stand with the snapshot."""
    with opened_store(backed_up.settings) as store:
        write_state(store, "cpu-3", b"cpu-3 two")
    words = ("backup", "now", "--network", "watch", "--reason", "before the upgrade")
    document = backed_up.json(*words)
    (run_id,) = document["runs"]
    (taken,) = document["snapshots"]
    assert (taken["agents"], taken["changed"], taken["items"]) == (3, 3, 1)
    assert (taken["run_id"], taken["reason"]) == (run_id, "before the upgrade")
    run = runs_of(backed_up)[run_id]
    assert (run.job_name, run.status) == ("backup_job", dg.DagsterRunStatus.SUCCESS)
    assert run.tags["stateroom/started-by"] == "command"
    with instance_of(backed_up.settings) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("backup_snapshots")) == {"watch"}
    assert backed_up.snapshots()[0] == taken["snapshot_id"]
    again = backed_up.run(*words)
    assert again.exit_code == exit_codes.OK
    assert again.stdout.splitlines()[1].split()[:5] == [
        "watch", *again.stdout.splitlines()[1].split()[1:3], "3", "0",
    ]  # fmt: skip


def test_damage_that_a_verification_finds_is_named_and_exits_with_1(backed_up: BackedUp) -> None:
    """The run succeeds, for it found out; the whole copy stays ok; the next step is named."""
    pack = objects(backed_up.folder, AWAY, "packs/watch")[0]
    damage(pack)
    done = backed_up.run("backups", "verify", "--network", "watch", "--level", "V2")
    assert done.exit_code == exit_codes.FINDING
    assert f"  ! {AWAY}, watch: packs/watch/" in done.stdout
    assert pack.name in done.stdout
    assert f"  -> stateroom backups heal --region {AWAY} --network watch" in done.stdout
    assert f"! {HOME}" not in done.stdout
    assert {run.status for run in runs_of(backed_up).values()} == {dg.DagsterRunStatus.SUCCESS}
    backed_up.run("backups", "heal", "--region", AWAY, "--network", "watch")
    oldest = backed_up.snapshots()[-1]
    words = ("backups", "verify", "--network", "watch", "--region", AWAY, "--level", "V3")
    rows = backed_up.json(*words, "--snapshot", oldest)["verified"]
    assert [(one["level"], one["snapshot_id"], one["passed"]) for one in rows] == [
        ("V3", oldest, True)
    ]
    shown = backed_up.json("backups", "show", oldest, "--region", AWAY)
    assert [(one["level"], one["failures"]) for one in shown["evidence"][-1:]] == [("V3", [])]


def test_a_network_without_a_copy_is_no_failure_and_is_named(backed_up: BackedUp) -> None:
    """Nothing to verify is not the same as verified."""
    done = backed_up.run("backups", "verify", "--network", "staging")
    assert done.exit_code == exit_codes.OK, done.output
    assert done.stdout == f"nothing to verify yet: staging in {AWAY}, staging in {HOME}\n"


class Recorded:
    """A `Progress` that remembers."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.calls: dict[str, list[tuple[int, int]]] = {}

    def advance(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """Remember."""
        self.calls.setdefault(what, []).append((done_bytes, total_bytes))

    def finish(self, what: str, seconds: float) -> None:
        """Nothing."""


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """What a terminal's bars would be told."""
    found = Recorded()

    @contextmanager
    def watched() -> Iterator[Recorded]:
        yield found

    for module in ("backup_now", "backups_proof", "restore", "restore_artefact"):
        monkeypatch.setattr(f"platform_defs.command.{module}.watched", watched)
    return found


def test_progress_counts_to_its_own_estimate(backed_up: BackedUp, recorded: Recorded) -> None:
    """States that changed, stored bytes that are hashed, frames that are restored."""
    backed_up.run("backup", "now", "--network", "watch")
    calls = recorded.calls.pop("agent states")
    changed = len(b"cpu-1 newest") + len(b"cpu-2 newest")
    assert (calls[0], calls[-1]) == ((0, changed), (changed, changed))
    backed_up.run("backups", "verify", "--network", "watch", "--region", HOME, "--level", "V2")
    done, total = recorded.calls.pop(HOME)[-1]
    folders = ("packs/watch", "manifests/watch")
    stored = [path for one in folders for path in objects(backed_up.folder, HOME, one)]
    assert total == sum(path.stat().st_size for path in stored)
    assert done >= total
    backed_up.run("restore", "--network", "watch", "--into-folder", str(backed_up.folder / "x"),
                  "--yes")  # fmt: skip
    assert recorded.calls[HOME][-1][0] > 0


def test_without_a_terminal_nothing_is_drawn(backed_up: BackedUp) -> None:
    """Logs of scripts stay clean."""
    with progress_bar.watched() as progress:
        progress.advance("work", 1, 2)
        progress.finish("work", 1.0)
    done = backed_up.run("backup", "now", "--network", "watch")
    assert done.stderr == ""


def test_a_bar_on_a_terminal_shows_bytes_and_time_left() -> None:
    """Drawn by rich; an estimate that was too low grows."""
    import io

    from rich.console import Console
    from rich.progress import Progress

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with Progress(*progress_bar.bar_columns(), console=console) as bars:
        bar = progress_bar.TerminalBars(bars)
        bar.advance("eu", 512, 1024)
        bars.refresh()
        bar.advance("eu", 4096, 1024)
    assert "512 bytes" in screen.getvalue() or "0.5/1.0 KiB" in screen.getvalue()
    assert "4.0/4.0 KiB" in screen.getvalue()
