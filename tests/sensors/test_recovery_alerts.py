"""An alert is raised once for each change, and nobody is told twice of the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from fleet.errors import NodeUnavailableError
from fleet.ports.notifier import Alert
from sensors.recovery_alerts import build_rpo_alert_sensor, decode_memory
from tests.assets.backup_runs import BackupRuns, open_backups


class Pager:
    """A notifier that remembers whom it told what; may be out of reach."""

    def __init__(self) -> None:
        """Reachable, and silent so far."""
        self.told: list[Alert] = []
        self.away = False

    def notify(self, alert: Alert) -> None:
        """Remember an alert."""
        if self.away:
            raise NodeUnavailableError("the pager does not answer")
        self.told.append(alert)


class AlertTicker:
    """Ticks the sensor as the daemon does."""

    def __init__(self, runs: BackupRuns) -> None:
        """Begin without a cursor."""
        self.runs, self.pager = runs, Pager()
        self.cursor: str | None = None
        self.sensor = build_rpo_alert_sensor(running=True)

    def tick(self, later_s: float = 0.0) -> list[tuple[str, str]]:
        """Let time pass and look; the alerts that were raised: subject and severity."""
        runs = self.runs
        runs.clock.advance(later_s)
        told = len(self.pager.told)
        resources = {
            "backup_declaration": runs.declaration,
            "clock": runs.clock,
            "lake": runs.lake,
            "notifier": self.pager,
        }
        with dg.build_sensor_context(
            instance=runs.instance, definitions=runs.defs, cursor=self.cursor, resources=resources
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        assert len(data.asset_events) == len(self.pager.told) - told
        return [(alert.subject, alert.severity) for alert in self.pager.told[told:]]


@pytest.fixture
def ticker(tmp_path: Path) -> Iterator[AlertTicker]:
    """A fleet that has just been backed up, without a journal."""
    with dg.DagsterInstance.ephemeral() as instance, open_backups(instance, tmp_path) as runs:
        runs.back_up()
        yield AlertTicker(runs)


EU, US = "recovery point of net in eu", "recovery point of net in us"


def test_a_missed_objective_is_told_once_and_its_end_once(ticker: AlertTicker) -> None:
    """From green to red to green: two alerts for each copy, however often somebody looks."""
    assert ticker.tick() == []
    assert ticker.tick(3700) == [(EU, "error"), (US, "error")]
    assert ticker.tick(30) == []
    ticker.runs.back_up()
    assert ticker.tick() == [(EU, "resolved"), (US, "resolved")]
    assert ticker.tick(30) == []


def test_an_alert_that_reached_nobody_is_raised_again(ticker: AlertTicker) -> None:
    """The cursor moves only once somebody was told."""
    ticker.pager.away = True
    assert ticker.tick(3700) == []
    ticker.pager.away = False
    assert ticker.tick(30) == [(EU, "error"), (US, "error")]


def test_a_cursor_of_another_version_is_no_alarm() -> None:
    """At worst somebody is told once more."""
    assert decode_memory("[1]") == decode_memory("no JSON") == decode_memory(None) == {}
