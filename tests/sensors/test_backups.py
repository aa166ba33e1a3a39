"""Backups are asked for when they are due, once, and at once where waiting costs data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fleet.backup_schedule import BackupCrons
from ops.backup_jobs import (
    BACKUP_JOB,
    DRILL_JOB,
    OBJECTIVES_JOB,
    REPLICATE_JOB,
    RESTORE_TEST_JOB,
    SCRUB_JOB,
)
from ops.inventory_jobs import RANGE_END, RANGE_START
from sensors.backup_schedules import build_backup_schedules
from sensors.backups import build_backup_sensors
from tests.assets.backup_runs import NETWORK, BackupRuns, open_backups
from tests.assets.inventory_runs import materialized


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BackupRuns]:
    """A fleet with states and prepared vaults; a schedule's tick wants an instance on disk."""
    (tmp_path / "dagster").mkdir()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance,
        open_backups(instance, tmp_path) as made,
    ):
        yield made


class Ticker:
    """Ticks one sensor as the daemon does: the cursor of a tick is given to the next."""

    def __init__(self, runs: BackupRuns, name: str) -> None:
        """Begin without a cursor."""
        self.runs = runs
        self.cursor: str | None = None
        self.sensor = next(s for s in build_backup_sensors(running=True) if s.name == name)

    def tick(self) -> dg.SensorExecutionData:
        """One evaluation."""
        resources: dict[str, Any] = {
            "artefact_declarations": (),
            "backup_declaration": self.runs.declaration,
            "clock": self.runs.clock,
            "control_store": self.runs.store,
            "lake": self.runs.lake,
        }
        wanted = {name: resources[name] for name in self.sensor.required_resource_keys}
        with dg.build_sensor_context(
            instance=self.runs.instance,
            definitions=self.runs.defs,
            cursor=self.cursor,
            resources=wanted,
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        return data


def evaluate(runs: BackupRuns, name: str, at: datetime, **crons: str) -> dg.ScheduleExecutionData:
    """One evaluation of a schedule at the moment that it was due."""
    schedules = build_backup_schedules(BackupCrons(**crons), running=True)
    schedule = next(one for one in schedules if one.name == name)
    with dg.build_schedule_context(
        instance=runs.instance,
        scheduled_execution_time=at,
        resources={"backup_declaration": runs.declaration, "clock": runs.clock},
    ) as context:
        return schedule.evaluate_tick(context)


def at_work(runs: BackupRuns, request: dg.RunRequest) -> None:
    """Carry a request out, and leave a run behind as the daemon does."""
    assert runs.request(request).success


def test_a_network_gets_its_first_snapshot_as_soon_as_an_agent_has_a_state(
    runs: BackupRuns,
) -> None:
    """Not at the next full hour; and once it has one, the sensor has nothing to do."""
    states = dict(runs.store._states)
    runs.store._states.clear()
    ticker = Ticker(runs, "first_snapshot_sensor")
    assert "nothing to back up yet: net, platform" in (ticker.tick().skip_message or "")
    runs.store._states.update(states)
    assert ticker.tick().skip_message == "2 networks without a snapshot"
    runs.clock.advance(11.0)
    (request,) = ticker.tick().run_requests or ()
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (NETWORK, NETWORK)
    result = runs.request(request)
    assert materialized(result)["backup_snapshots", NETWORK]["agents"] == 8
    runs.clock.advance(600.0)
    assert ticker.tick().skip_message == "nothing to back up yet: platform"


def test_looks_for_a_first_state_become_rarer(runs: BackupRuns) -> None:
    """A declared network without agents must not cost a full read every few seconds."""
    runs.store._states.clear()
    ticker = Ticker(runs, "first_snapshot_sensor")
    looks = 0
    for _ in range(300):  # twenty minutes of passes of the sensor daemon, four seconds each
        looks += "nothing to back up yet" in (ticker.tick().skip_message or "")
        runs.clock.advance(4.0)
    assert 5 < looks < 20


def test_a_snapshot_starts_one_replication_to_all_regions(runs: BackupRuns) -> None:
    """The cursor is the snapshot's materialization: none is copied twice, none is missed."""
    ticker = Ticker(runs, "replicate_sensor")
    assert not ticker.tick().run_requests
    runs.run(BACKUP_JOB)
    (request,) = ticker.tick().run_requests or ()
    assert request.job_name == REPLICATE_JOB
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("eu", "us")
    at_work(runs, request)
    assert not ticker.tick().run_requests
    runs.run(BACKUP_JOB)
    (second,) = ticker.tick().run_requests or ()
    assert second.run_key != request.run_key


def test_hourly_snapshots_wait_for_the_first_one(runs: BackupRuns) -> None:
    """A network without agents would fail its run every hour."""
    at = runs.clock.now()
    data = evaluate(runs, "snapshot_schedule", at)
    assert "no network has a snapshot yet" in (data.skip_message or "")
    runs.run(BACKUP_JOB)
    (request,) = evaluate(runs, "snapshot_schedule", runs.clock.now()).run_requests or ()
    assert request.tags["stateroom/duty"] == "snapshot"
    result = runs.request(request)
    assert materialized(result)["backup_snapshots", NETWORK]["reason"].startswith("due at")


def test_missed_runs_are_made_up_for_once(runs: BackupRuns) -> None:
    """After a downtime the latest missed tick runs, unless somebody was faster since."""
    runs.run(BACKUP_JOB)
    # runs are dated by the machine's clock, so the fleet's must agree with it
    runs.clock.advance((datetime.now(UTC) - runs.clock.now()).total_seconds() + 60.0)
    due = runs.clock.now() - timedelta(hours=5)
    (request,) = evaluate(runs, "snapshot_schedule", due).run_requests or ()
    assert "5.0 h ago: made up for" in request.tags["stateroom/reason"]
    at_work(runs, request)
    again = evaluate(runs, "snapshot_schedule", due)
    assert not again.run_requests
    assert "made up for: a run began" in (again.skip_message or "")
    on_time = evaluate(runs, "snapshot_schedule", runs.clock.now())
    assert len(on_time.run_requests or ()) == 1


@pytest.mark.parametrize(
    ("schedule", "job"),
    [
        ("verify_structure_schedule", "verify_job"),
        ("scrub_schedule", SCRUB_JOB),
        ("recovery_objectives_schedule", OBJECTIVES_JOB),
        ("restore_test_schedule", RESTORE_TEST_JOB),
        ("drill_schedule", DRILL_JOB),
    ],
)
def test_a_schedule_over_regions_asks_for_one_run_of_its_job(
    runs: BackupRuns, schedule: str, job: str
) -> None:
    """All regions in one run; the key holds the tick."""
    at = runs.clock.now()
    (request,) = evaluate(runs, schedule, at).run_requests or ()
    assert (request.job_name, request.tags[RANGE_START], request.tags[RANGE_END]) == (
        job,
        "eu",
        "us",
    )
    assert request.run_key is not None
    assert at.isoformat() in request.run_key


def test_disabled_backups_are_defined_and_stopped(tmp_path: Path) -> None:
    """Somebody may start them in the UI; nothing starts them by itself."""
    with (
        dg.DagsterInstance.ephemeral() as instance,
        open_backups(instance, tmp_path, enabled=False) as runs,
    ):
        repository = runs.defs.get_repository_def()
        ours = [s for s in repository.schedule_defs if s.job_name.startswith(("backup", "verify"))]
        assert ours
        assert {s.default_status for s in ours} == {dg.DefaultScheduleStatus.STOPPED}
        sensor = repository.get_sensor_def("replicate_sensor")
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_crons_come_from_the_settings() -> None:
    """No cron stands in the code of a schedule whose duty has a setting."""
    crons = BackupCrons(snapshot="1 * * * *", structure="2 * * * *", scrub="3 3 * * *")
    found = {one.name: one.cron_schedule for one in build_backup_schedules(crons, running=True)}
    assert found["snapshot_schedule"] == "1 * * * *"
    assert found["verify_structure_schedule"] == "2 * * * *"
    assert found["scrub_schedule"] == "3 3 * * *"
