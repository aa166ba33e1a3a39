"""The lake and the run history stay bounded, and nothing that is the newest is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from fleet.agents import Activity
from ops.pools import POOL_LIMITS
from platform_defs.bootstrap import apply_pool_limits, declared_pool_limits
from tests.assets.inventory_runs import InventoryRuns, materialized, open_runs

DAY_S = 86_400.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on SQLite files."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as made:
        yield made


def test_finished_days_are_merged_without_losing_a_row(runs: InventoryRuns) -> None:
    """48 hours after its end a day is one object for each table and region."""
    for _ in range(3):
        runs.run()
    rows = sum(each.rows for each in runs.lake.objects("agent_inventory", "eu"))
    runs.clock.advance(4 * DAY_S)
    result = runs.run(job="lake_upkeep_job")
    assert result.success
    metadata = materialized(result)["lake_catalog", ""]
    assert (metadata["days_compacted"], metadata["objects_compacted"]) == (8, 24)
    assert (metadata["objects_removed"], metadata["objects"]) == (0, 8)
    (merged,) = runs.lake.objects("agent_inventory", "eu")
    assert (merged.kind, merged.rows) == ("day", rows)
    again = materialized(runs.run(job="lake_upkeep_job"))["lake_catalog", ""]
    assert again["days_compacted"] == 0


def test_old_objects_are_removed_but_never_the_newest_of_a_partition(runs: InventoryRuns) -> None:
    """After 90 days only what is still the last known remains."""
    runs.run()
    runs.clock.advance(2 * DAY_S)
    runs.run("eu")
    runs.clock.advance(100 * DAY_S)
    metadata = materialized(runs.run(job="lake_upkeep_job"))["lake_catalog", ""]
    assert metadata["objects_removed"] == 4
    counts = [len(runs.lake.objects("node_inventory", region)) for region in ("eu", "us")]
    assert counts == [1, 1]
    table = {(row.data["table"], row.data["partition"]) for row in metadata["catalogue"].records}
    assert len(table) == metadata["objects"] == 8


def test_old_activities_are_forgotten_and_nothing_else(runs: InventoryRuns) -> None:
    """Seven days of what agents did stay; a second run finds nothing."""
    for number in range(4):
        at = runs.clock.now()
        done = Activity(f"id-{number}", "a", "net", "task", at, None, True, "{}")
        runs.store.append_activities([done])
        runs.clock.advance(3 * DAY_S)
    states = runs.store.state_infos()
    metadata = materialized(runs.run(job="trim_activities_job"))["activity_history", ""]
    assert metadata["activities_removed"] == 2
    left = [activity.activity_id for activity in runs.store.activities(None, 9)]
    assert left == ["id-3", "id-2"]
    assert runs.store.state_infos() == states
    again = materialized(runs.run(job="trim_activities_job"))["activity_history", ""]
    assert again["activities_removed"] == 0


def test_a_damaged_tick_is_quarantined_and_the_rest_of_its_day_is_merged(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Upkeep does not stop at one bad object."""
    with open_runs(instance, tmp_path) as runs:
        for _ in range(3):
            runs.run()
        first = runs.lake.objects("node_inventory", "us")[0]
        assert runs.lake_path is not None
        (damaged,) = runs.lake_path.rglob(first.key.rpartition("/")[2])
        damaged.chmod(0o644)
        damaged.write_bytes(damaged.read_bytes()[:-1])
        runs.clock.advance(4 * DAY_S)
        result = runs.run(job="lake_upkeep_job")
        assert materialized(result)["lake_catalog", ""]["objects_quarantined"] == 1
        (merged,) = runs.lake.objects("node_inventory", "us")
        assert (merged.kind, merged.rows) == ("day", 4)


def run_ids(instance: dg.DagsterInstance) -> set[str]:
    """Ids of all runs that the instance knows."""
    return {run.run_id for run in instance.get_runs()}


def test_old_runs_are_forgotten_with_their_files_but_not_the_newest_of_a_region(
    home: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Of the runs of one region each, the last of each region stays, however old."""
    with open_runs(home, tmp_path) as runs:
        first, us, eu = runs.run().run_id, runs.run("us").run_id, runs.run("eu").run_id
        last = runs.judge().run_id
        now = max(record.create_timestamp for record in home.get_run_records())
        runs.clock.jump((now + timedelta(days=15) - runs.clock.now()).total_seconds())
        result = runs.run(job="prune_run_history_job")
        assert result.success
        assert run_ids(home) == {us, eu, last, result.run_id}
        assert materialized(result)["run_history", ""]["runs_forgotten"] == 1
        left = {path.name for path in (tmp_path / "home").rglob(f"*{first}*")}
        assert left == set()
        assert home.get_latest_materialization_event(dg.AssetKey("node_inventory")) is not None


def test_young_runs_stay(home: dg.DagsterInstance, tmp_path: Path) -> None:
    """14 days is the rule."""
    with open_runs(home, tmp_path) as runs:
        first = runs.run().run_id
        runs.run()
        now = max(record.create_timestamp for record in home.get_run_records())
        runs.clock.jump((now + timedelta(days=13) - runs.clock.now()).total_seconds())
        runs.run(job="prune_run_history_job")
        assert first in run_ids(home)


def test_files_without_a_run_are_swept_once_they_are_old(
    home: dg.DagsterInstance, tmp_path: Path
) -> None:
    """What a crash between the run's row and its file left behind goes with the next pruning."""
    with open_runs(home, tmp_path) as runs:
        kept = runs.run().run_id
        folder = next((tmp_path / "home").rglob(f"{kept}.db")).parent
        old, young = folder / "11111111-old.db", folder / "22222222-young.db"
        for path in (old, young):
            path.write_bytes(b"")
        for path in (old, folder / f"{kept}.db"):
            os.utime(path, (1.0, 1.0))
        metadata = materialized(runs.run(job="prune_run_history_job"))["run_history", ""]
        assert metadata["files_swept"] == 1
        assert (old.exists(), young.exists()) == (False, True)
        assert (folder / f"{kept}.db").exists()
        assert (folder / "index.db").exists()


def test_as_many_builds_run_at_once_as_the_settings_say(
    home: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each GPU; settings that are wrong leave the limits as they are shipped."""
    monkeypatch.setenv("STATEROOM_VECTORS__BUILDS_AT_ONCE", "8")
    assert declared_pool_limits() == {**POOL_LIMITS, "vector_builds": 8}
    assert apply_pool_limits(home, declared_pool_limits())["vector_builds"] == 8
    monkeypatch.setenv("STATEROOM_VECTORS__BUILDS_AT_ONCE", "0")
    assert declared_pool_limits() == POOL_LIMITS


def test_pool_limits_are_set_once(home: dg.DagsterInstance) -> None:
    """The bootstrap changes nothing when it is repeated, and mends what somebody changed."""
    assert apply_pool_limits(home) == POOL_LIMITS
    assert apply_pool_limits(home) == {}
    home.event_log_storage.set_concurrency_slots("lake_upkeep", 7)
    home.event_log_storage.set_concurrency_slots("somebody_elses", 3)
    assert apply_pool_limits(home) == {"lake_upkeep": 1}
    limits = {pool.name: pool.limit for pool in home.event_log_storage.get_pool_limits()}
    assert limits == {**POOL_LIMITS, "somebody_elses": 3}
