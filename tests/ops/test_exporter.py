"""The exporter reads each source apart, and keeps what it read for a moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fleet.errors import StoreUnavailableError
from fleet.heartbeats import HeartbeatPolicy
from fleet.metrics.exported.readings import Reading
from fleet.metrics.exported.table import BY_NAME, grouped
from fleet.reports import NodeDeclaration
from ops.exporter import (
    Exporter,
    dagster_sources,
    lake_sources,
    metric_sources,
    store_sources,
    vector_sources,
)
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore


def test_a_source_that_fails_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is 0 in `source_up`, said once in the log, and again when it answers."""
    clock, broken = ManualClock(), [True]

    def failing(_: datetime) -> Iterable[Reading]:
        if broken:
            raise StoreUnavailableError("it is locked")
        return [Reading("stateroom_automation_paused", (), 0)]

    exporter = Exporter(
        {"bad": failing, "good": lambda _: [Reading("stateroom_leader_term", (), 7)]}, clock
    )
    for _ in range(3):
        found = {one[:2]: one.value for one in exporter.readings()}
        clock.advance(10)
    assert found["stateroom_exporter_source_up", ("bad",)] == 0
    assert found["stateroom_exporter_source_up", ("good",)] == 1
    assert found["stateroom_leader_term", ()] == 7
    broken.clear()
    assert Reading("stateroom_exporter_source_up", ("bad",), 1) in exporter.readings()
    assert [record.getMessage() for record in caplog.records] == [
        "source bad: it is locked",
        "source bad: answers again",
    ]


def test_a_source_that_fails_half_way_gives_nothing() -> None:
    """Half of a source would look like the whole."""

    def half(_: datetime) -> Iterable[Reading]:
        yield Reading("stateroom_leader_term", (), 7)
        raise StoreUnavailableError("gone")

    (reading,) = Exporter({"half": half}, ManualClock()).readings()
    assert reading == Reading("stateroom_exporter_source_up", ("half",), 0)


def test_several_scrapers_cost_one_look() -> None:
    """Within a moment; then the world is looked at anew."""
    clock = ManualClock()
    looks: list[datetime] = []

    def look(now: datetime) -> Iterable[Reading]:
        looks.append(now)
        return []

    exporter = Exporter({"one": look}, clock, kept_s=2.0)
    for pause_s in (0.0, 1.0, 0.5, 0.5, 1.0):
        clock.advance(pause_s)
        exporter.readings()
    assert len(looks) == 2


def test_a_store_and_an_instance_without_history_give_declared_families() -> None:
    """Before anything has happened, what is known is little, and nothing fails."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    with dg.instance_for_test() as instance:
        exporter = Exporter(
            store_sources(store, clock.now(), HeartbeatPolicy())
            | dagster_sources(instance, clock.now()),
            clock,
        )
        found = grouped(exporter.readings())
    ups = {one.labels[0]: one.value for one in found["stateroom_exporter_source_up"]}
    assert ups == dict.fromkeys(
        ["fleet", "controller", "incidents", "circuits", "gpus", "scaling", "automation"], 1
    )
    assert found["stateroom_leader_lease_held"][0].value == 0


def test_a_storage_of_dagster_that_cannot_be_read_hides_nothing_else() -> None:
    """The page goes on without it, and says that it is away: an alert rests on that."""
    clock = ManualClock(datetime.now(UTC))
    with dg.instance_for_test() as instance:
        exporter = Exporter(
            dagster_sources(instance, clock.now())
            | {"good": lambda _: [Reading("stateroom_leader_term", (), 7)]},
            clock,
            kept_s=0.0,
        )
        assert Reading("stateroom_exporter_source_up", ("automation",), 1) in exporter.readings()
        for path in Path(instance.root_directory).rglob("*.db"):
            path.write_bytes(b"damaged " * 1000)
        found = exporter.readings()
    assert found == [
        Reading("stateroom_exporter_source_up", ("automation",), 0),
        Reading("stateroom_exporter_source_up", ("good",), 1),
        Reading("stateroom_leader_term", (), 7),
    ]


def test_failovers_of_every_region_are_counted_from_the_start() -> None:
    """A counter that appears with its first event has no rate."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    store.declare_nodes([NodeDeclaration("n1", "eu", "a", 1000, 2**30, 0)])
    found = grouped(
        Exporter(store_sources(store, clock.now(), HeartbeatPolicy()), clock).readings()
    )
    assert [one.labels for one in found["stateroom_failovers_total"]] == [
        ("node", "eu"),
        ("region", "eu"),
    ]


def test_the_declared_bound_of_sources_is_their_number() -> None:
    """Of all that an exporter inside of a collector can have."""
    nobody: Any = None  # only asked when a source is read
    clock = ManualClock()
    sources = (
        store_sources(nobody, clock.now(), HeartbeatPolicy())
        | lake_sources(nobody)
        | dagster_sources(nobody, clock.now())
        | vector_sources(nobody, nobody)
        | metric_sources(nobody, nobody, nobody)
    )
    assert BY_NAME["stateroom_exporter_source_up"].bound == f"sources ({len(sources)})"


@dg.op
def nothing() -> None:
    """Does nothing."""


@dg.job
def quiet_job() -> None:
    """Succeeds."""
    nothing()


def test_runs_of_the_last_hour_are_counted() -> None:
    """By job and by how they stand."""
    with dg.instance_for_test() as instance:
        assert quiet_job.execute_in_process(instance=instance).success
        clock = ManualClock(datetime.now(UTC))
        hour_ago = clock.now() - timedelta(hours=1)
        found = grouped(Exporter(dagster_sources(instance, hour_ago), clock).readings())
        later = Exporter(dagster_sources(instance, clock.now() + timedelta(seconds=9)), clock)
        ended_before = grouped(later.readings())["stateroom_runs_total"]
        assert [one.value for one in ended_before] == [0, 0, 0]
    assert found["stateroom_runs_recent"] == [
        Reading("stateroom_runs_recent", ("quiet_job", "success"), 1)
    ]
    assert found["stateroom_runs_total"] == [
        Reading("stateroom_runs_total", ("quiet_job", "canceled"), 0),
        Reading("stateroom_runs_total", ("quiet_job", "failure"), 0),
        Reading("stateroom_runs_total", ("quiet_job", "success"), 1),
    ]
