"""The journal is written in the tick, copied to the replicas, and told once a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fleet.backup_tables import JOURNAL, OBJECTIVES, JournalReach, RecoveryObjective
from ops.backup_jobs import RETENTION_JOB
from ops.backup_rows import read_rows
from ops.state_journal import KEEP_S
from resources.object_store.directory import DirectoryObjectStore
from sensors.backup_journal import build_state_journal_sensor, decode_gathered
from tests.assets.backup_runs import AWAY, HOME, NETWORK, BackupRuns, open_backups


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BackupRuns]:
    """A fleet with states and prepared vaults."""
    with dg.DagsterInstance.ephemeral() as instance, open_backups(instance, tmp_path) as made:
        yield made


class JournalTicker:
    """Ticks the journal's sensor as the daemon does, and stores its events as the daemon does."""

    def __init__(self, runs: BackupRuns) -> None:
        """Begin without a cursor."""
        self.runs = runs
        self.cursor: str | None = None
        self.sensor = build_state_journal_sensor(5, running=True)

    def tick(self) -> dg.SensorExecutionData:
        """One evaluation; a second passes first."""
        runs = self.runs
        runs.clock.advance(1.0)
        resources: dict[str, Any] = {
            "backup_declaration": runs.declaration,
            "clock": runs.clock,
            "control_store": runs.store,
            "lake": runs.lake,
            "region_vaults": runs.vaults(),
        }
        with dg.build_sensor_context(
            instance=runs.instance, definitions=runs.defs, cursor=self.cursor, resources=resources
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        for event in data.asset_events:
            runs.instance.report_runless_asset_event(event)
        return data


def test_there_is_no_journal_without_a_snapshot_to_begin_at(runs: BackupRuns) -> None:
    """A segment restores nothing by itself."""
    assert "no network has a snapshot" in (JournalTicker(runs).tick().skip_message or "")


def test_a_state_written_after_the_snapshot_is_covered_in_every_region(runs: BackupRuns) -> None:
    """Segment, copy, lake row and event come from one tick; the objective improves with them."""
    runs.back_up()
    runs.clock.advance(600.0)
    runs.write("eu-1-a1", b"between two snapshots")
    (event,) = JournalTicker(runs).tick().asset_events
    assert event.partition == NETWORK
    shown = {name: value.value for name, value in event.metadata.items()}
    assert (shown["agents_stored"], shown["segments_copied"], shown["regions_behind"]) == (1, 1, 0)
    rows = {row.region: row for row in read_rows(runs.lake, JOURNAL, JournalReach)}
    assert rows[HOME].covered_until == rows[AWAY].covered_until is not None
    assert len(runs.objects(AWAY, "journal")) == len(runs.objects(HOME, "journal")) >= 1
    runs.judge()
    for row in read_rows(runs.lake, OBJECTIVES, RecoveryObjective):
        assert (row.rpo_s or 0) < 10
        assert (row.backup_age_s or 0) > 600


def test_events_come_once_a_minute_and_lose_no_number(runs: BackupRuns) -> None:
    """A tick every few seconds would flood the event log; what it did is added up instead."""
    runs.back_up()
    ticker = JournalTicker(runs)
    assert len(ticker.tick().asset_events) == 1
    for number in range(3):
        runs.clock.advance(10.0)
        runs.write("eu-1-a1", f"state {number}".encode())
        assert not ticker.tick().asset_events
    runs.clock.advance(40.0)
    (event,) = ticker.tick().asset_events
    assert event.metadata["agents_stored"].value == 3
    assert decode_gathered(ticker.cursor)[1] == {}


def test_a_region_that_is_away_does_not_stop_the_home(runs: BackupRuns) -> None:
    """The home's journal goes on; the row of the other region says what is wrong."""
    runs.back_up()
    vault = Path(runs.declaration.location(AWAY).path)
    vault.rename(vault.with_name("gone"))
    vault.write_text("not a folder")
    runs.write("eu-1-a1", b"newer")
    (event,) = JournalTicker(runs).tick().asset_events
    assert event.metadata["regions_behind"].value == 1
    rows = {row.region: row for row in read_rows(runs.lake, JOURNAL, JournalReach)}
    assert rows[HOME].covered_until is not None
    assert rows[AWAY].covered_until is None
    assert rows[AWAY].fault


def test_the_retention_trims_the_change_log_behind_journal_and_backup(runs: BackupRuns) -> None:
    """Two days later, once both have passed; neither notices."""
    runs.back_up()
    ticker = JournalTicker(runs)
    ticker.tick()
    runs.write("eu-1-a1", b"newer")
    ticker.tick()
    held = [one.change_id for one in runs.store.state_changes(0, 99)]
    runs.clock.advance(49 * 3600.0)
    assert runs.run(RETENTION_JOB).success
    left = [one.change_id for one in runs.store.state_changes(0, 99)]
    assert left == held[-2:], "the backup is one entry behind the journal, and that entry stays"
    runs.write("eu-1-a1", b"newest")
    runs.back_up()
    home = runs.vaults().home(NETWORK)
    newest = list(home.log.refresh().live)[-1]
    assert "whole" not in home.snapshot(newest).extra["cut"]["states"]
    (event,) = ticker.tick().asset_events
    assert event.metadata["agents_stored"].value >= 1
    (row, _) = read_rows(runs.lake, JOURNAL, JournalReach)
    assert row.gap == ""


def test_a_cursor_of_another_version_begins_anew() -> None:
    """A number lost is no reason to stop journalling."""
    assert decode_gathered('{"other": 1}') == (None, {})
    assert decode_gathered(None) == (None, {})


def test_a_tick_reads_only_what_is_new_in_the_logs(
    runs: BackupRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log only grows: opened once, its records are not asked for again."""
    runs.back_up()
    asked: list[str] = []
    read = DirectoryObjectStore.get

    def listen(
        store: DirectoryObjectStore, key: str, offset: int = 0, length: int | None = None
    ) -> bytes:
        asked.append(key)
        return read(store, key, offset, length)

    monkeypatch.setattr(DirectoryObjectStore, "get", listen)
    ticker = JournalTicker(runs)
    counts = []
    for number in range(3):
        runs.write("eu-1-a1", f"state {number}".encode())
        asked.clear()
        ticker.tick()
        counts.append(sum(key.startswith(("log/", "keys/")) for key in asked))
    assert counts[0] >= 2
    assert counts[1:] == [0, 0]
    runs.clock.advance(KEEP_S)
    asked.clear()
    ticker.tick()
    assert any(key.startswith("keys/") for key in asked)
