"""Collects what the platform says of itself: each source apart, so that one that fails hides none.

A source is a function that reads a store and gives readings. Readings are kept for a few seconds:
several scrapers cost one look.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from dagster import DagsterInstance

from fleet.backup_tables import (
    OBJECTIVES,
    VERIFICATIONS,
    ProvenLevel,
    RecoveryObjective,
)
from fleet.controller_view import ControllerView
from fleet.errors import LeaseLostError, StateroomError
from fleet.failover.records import ControllerState
from fleet.heartbeats import HeartbeatPolicy
from fleet.incidents import IncidentKind
from fleet.inventory_checks import judge_gpus
from fleet.leases import LEADER_LEASE
from fleet.metrics.exported.automation import RUN_WINDOW_S, automation_readings
from fleet.metrics.exported.backups import recovery_readings, verification_readings
from fleet.metrics.exported.collection import collection_readings, store_readings
from fleet.metrics.exported.ended import FailoverCounts, RunCounts
from fleet.metrics.exported.fleet import (
    circuit_readings,
    controller_readings,
    fleet_readings,
    incident_readings,
    unplaced_readings,
)
from fleet.metrics.exported.gpus import gpu_lease_readings, gpu_readings, gpu_state_readings
from fleet.metrics.exported.readings import Reading
from fleet.metrics.exported.scaling import ScalingCounts
from fleet.metrics.exported.vectors import index_readings
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.ports.metric_keeper import MetricKeeper
from fleet.ports.note_store import NoteIndexStore
from fleet.vectors.declaration import VectorDeclaration
from fleet.vectors.health import COUNT_MAX, all_health
from ops.backup_rows import read_rows
from ops.metric_collection import MetricCollection
from resources.dagster_record import ended_runs, latest_runs, newest_ticks

Source = Callable[[datetime], Iterable[Reading]]

KEPT_S = 2.0
"""How long readings are given again."""
RECENT = timedelta(days=1)
"""How long an ended incident is counted."""
INCIDENTS_MAX = 10_000
DECISIONS_MAX = 20_000
"""Rows of the log of rescaling in one reading."""

_log = logging.getLogger(__name__)


class Exporter:
    """Readings of all sources, as of now or a moment ago; one lock, so one look at a time.

    Args:
        sources: by name.
        clock: dates the looks.
        kept_s: how long a look is good for.
    """

    def __init__(self, sources: Mapping[str, Source], clock: Clock, kept_s: float = KEPT_S) -> None:
        """Look at nothing yet."""
        self._sources, self._clock, self._kept_s = sources, clock, kept_s
        self._lock = threading.Lock()
        self._readings: list[Reading] = []
        self._looked_s = float("-inf")
        self._problems: dict[str, str] = {}

    def add_sources(self, sources: Mapping[str, Source]) -> None:
        """Read these, too, from the next look on."""
        with self._lock:
            self._sources = {**self._sources, **sources}

    def readings(self) -> list[Reading]:
        """Everything that is known; a source that fails has `stateroom_exporter_source_up` 0."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._looked_s >= self._kept_s:
                self._readings = list(self._look(self._clock.now()))
                self._looked_s = self._clock.monotonic_s()
            return self._readings

    def _look(self, now: datetime) -> Iterator[Reading]:
        for name, read in self._sources.items():
            try:
                readings = list(read(now))
            except StateroomError as error:
                problem, readings = str(error), []
            else:
                problem = ""
            if problem != self._problems.get(name, ""):
                _log.warning("source %s: %s", name, problem or "answers again")
            self._problems[name] = problem
            yield Reading("stateroom_exporter_source_up", (name,), not problem)
            yield from readings


def store_sources(
    store: ControlStore, since: datetime, heartbeats: HeartbeatPolicy
) -> dict[str, Source]:
    """What the control store knows.

    Args:
        store: of the fleet.
        since: incidents that ended, and decisions of rescaling, are counted from here on.
        heartbeats: how old a node's report may be to be believed of its GPUs.
    """
    ended, scaled = FailoverCounts(since), ScalingCounts(since)

    def gpus(now: datetime) -> Iterable[Reading]:
        found, nodes = store.gpus(), store.nodes()
        yield from gpu_readings(found)
        observed_at = {node.region: now for node in nodes}
        yield from gpu_state_readings(judge_gpus(found, nodes, observed_at, heartbeats).verdicts)
        yield from gpu_lease_readings(store.gpu_leases(), store.gpu_fallbacks())

    def fleet(now: datetime) -> Iterable[Reading]:
        yield from fleet_readings(store.fleet_counts(), now)
        yield from unplaced_readings(store.unplaced_counts())

    def incidents(now: datetime) -> Iterable[Reading]:
        found = store.incidents(ended_since=now - RECENT, limit=INCIDENTS_MAX)
        ended.add(found, now)
        yield from incident_readings(found, now)
        yield from ended.readings(one.region for one in store.fleet_counts())

    def scaling(now: datetime) -> Iterable[Reading]:
        while page := store.scaling_decisions_since(*scaled.cursor, DECISIONS_MAX):
            scaled.add(page, now)
            if len(page) < DECISIONS_MAX:
                break
        yield from scaled.readings()

    return {
        "fleet": fleet,
        "controller": lambda _: _controller(store),
        "incidents": incidents,
        "circuits": lambda _: circuit_readings(store.breakers()),
        "gpus": gpus,
        "scaling": scaling,
    }


def lake_sources(lake: Lake) -> dict[str, Source]:
    """What was recorded of backups; nothing before the first one."""
    return {
        "recovery": lambda now: recovery_readings(
            read_rows(lake, OBJECTIVES, RecoveryObjective), now
        ),
        "verifications": lambda _: verification_readings(
            read_rows(lake, VERIFICATIONS, ProvenLevel)
        ),
    }


def dagster_sources(instance: DagsterInstance, began: datetime) -> dict[str, Source]:
    """What Dagster recorded of its sensors and runs; those that ended are counted from `began`."""
    runs = RunCounts(began)

    def automation(now: datetime) -> Iterable[Reading]:
        latest = latest_runs(instance, now - timedelta(seconds=RUN_WINDOW_S))
        yield from automation_readings(newest_ticks(instance), latest, now)
        runs.know(run.job for run in latest)
        runs.add(ended_runs(instance, runs.since), now)
        yield from runs.readings()

    return {"automation": automation}


def vector_sources(store: NoteIndexStore, declaration: VectorDeclaration) -> dict[str, Source]:
    """How vector indexes stand; nothing before the first note.

    Args:
        store: of the fleet.
        declaration: thresholds of each network.
    """
    return {
        "indexes": lambda now: index_readings(
            all_health(store.note_backlogs(COUNT_MAX), declaration, now), now
        )
    }


def metric_sources(
    collection: MetricCollection, keeper: MetricKeeper, scraping: Callable[[], tuple[int, int]]
) -> dict[str, Source]:
    """What a collector knows of itself.

    Args:
        collection: of this process.
        keeper: of its store.
        scraping: gives targets, and scrapes that were left out.
    """
    return {
        "collection": lambda _: collection_readings(collection.facts(*scraping())),
        "rollups": lambda _: store_readings(keeper.facts()),
    }


def _controller(store: ControlStore) -> Iterable[Reading]:
    lease = store.lease(LEADER_LEASE)
    leads = lease is not None
    if lease is not None:
        try:
            store.demand_leader_term(lease.term)
        except LeaseLostError:
            leads = False
    kept = store.controller_view()
    view: ControllerView | None = None
    if kept is not None and lease is not None and kept.view.term == lease.term:
        view = kept.view
    told = store.incidents(open_only=True, limit=INCIDENTS_MAX)
    frozen = view is not None and view.controller is ControllerState.FROZEN
    return controller_readings(
        leads=leads,
        term=None if lease is None else lease.term,
        frozen=frozen or any(one.kind is IncidentKind.CONTROLLER for one in told),
        paused=store.automation().paused,
    )
