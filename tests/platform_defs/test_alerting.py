"""Alerts of a deployment, end to end: settings, a real metric store, the shipped rules, people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from fleet.errors import LakeUnavailableError
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.samples import SampleBatch
from fleet.metrics.store_facts import MetricsDeclaration
from fleet.metrics.vectors import InstantVector
from fleet.ports.notifier import Alert, Delivery
from fleet.promql.engine import PromqlEngine
from ops.rule_samples import RuleSamples
from platform_defs.alerting import open_alert_evaluator
from platform_defs.settings import load_settings
from resources.circuit_breakers import CircuitBreakers
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.opening import open_metric_store
from tests.fakes.clock import ManualClock
from tests.platform_defs.settings_files import SMALL, write_settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class People:
    """Whoever is told."""

    def __init__(self) -> None:
        """Nobody was told anything."""
        self.told: list[Alert] = []

    def deliver(self, alert: Alert, only: object = ()) -> Delivery:
        """See the port."""
        self.told.append(alert)
        return Delivery(("people",))


def metric_store(folder: Path, clock: ManualClock) -> ObjectMetricStore:
    """A new one."""
    return open_metric_store(MetricsDeclaration(str(folder / "metrics"), shards=1), clock.now)


def scrape(store: ObjectMetricStore, at_ms: int, **values: float) -> None:
    """One sample of each platform metric."""
    series = MemorySeries()
    for name, value in values.items():
        series.put(labels_of(name), at_ms, value)
    store.append(series.batch(), f"scrape-{at_ms}")


def test_a_frozen_controller_reaches_people_and_its_series_the_store(tmp_path: Path) -> None:
    """From a scrape to a message with its runbook entry, and to the end of it."""
    settings = load_settings(write_settings(tmp_path, SMALL), {})
    clock, people = ManualClock(NOW), People()
    store = metric_store(tmp_path, clock)
    breakers = CircuitBreakers(clock)
    evaluator = open_alert_evaluator(settings, RuleSamples(store, "test"), people, breakers, clock)
    for tick in range(60):
        at_ms = int(clock.now().timestamp() * 1000)
        frozen = 1.0 if tick < 30 else 0.0
        scrape(store, at_ms, stateroom_controller_frozen=frozen, stateroom_leader_lease_held=1.0)
        done = evaluator.tick()
        assert done.problems == (), done.problems
        clock.advance(30)
    told = {(one.subject, one.severity) for one in people.told}
    assert ("ControllerFrozen", "error") in told
    assert ("ControllerFrozen", "resolved") in told
    assert not any("NobodyLeads" in subject for subject, _ in told)
    first = next(one for one in people.told if one.subject == "ControllerFrozen")
    assert "docs/runbook_alerts.md#controllerfrozen" in first.text
    query = 'count_over_time(ALERTS{alertname="ControllerFrozen",alertstate="firing"}[1h])'
    at_ms = int(clock.now().timestamp() * 1000)
    found = PromqlEngine(store).instant(query, at_ms)
    assert len(found) == 1
    assert found.values[0] > 10


def test_what_the_store_cannot_take_now_is_kept_with_the_next_flush(tmp_path: Path) -> None:
    """Rules see it meanwhile, and nothing is written twice."""

    class Refusing:
        """A store that is away."""

        def __init__(self, store: ObjectMetricStore) -> None:
            """Refuse until told otherwise."""
            self.store, self.away = store, True

        def append(self, batch: SampleBatch, batch_id: str) -> object:
            """Refuse or pass on."""
            if self.away:
                raise LakeUnavailableError("disk full")
            return self.store.append(batch, batch_id)

        def __getattr__(self, name: str) -> object:
            return getattr(self.store, name)

    clock = ManualClock(NOW)
    refusing = Refusing(metric_store(tmp_path, clock))
    samples = RuleSamples(refusing, "test")  # type: ignore[arg-type]
    at_ms = int(NOW.timestamp() * 1000)
    labels = labels_of("down:count")
    for minute in range(3):
        samples.write(InstantVector([labels], np.array([float(minute)]), at_ms - minute * 1000))
        try:
            samples.flush()
        except LakeUnavailableError:
            assert refusing.away
    ids = np.array([series_id(labels)])
    assert len(refusing.store.samples(ids, 0, at_ms)) == 0
    assert samples.reader.samples(ids, 0, at_ms).values.tolist() == [2.0, 1.0, 0.0]
    refusing.away = False
    samples.flush()
    samples.flush()
    assert refusing.store.samples(ids, 0, at_ms).values.tolist() == [2.0, 1.0, 0.0]
    assert samples.reader.samples(ids, 0, at_ms).values.tolist() == [2.0, 1.0, 0.0]
