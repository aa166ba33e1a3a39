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
from fleet.incidents import IncidentKind
from fleet.leases import LEADER_LEASE
from fleet.metrics.exported.automation import RUN_WINDOW_S, automation_readings
from fleet.metrics.exported.backups import recovery_readings, verification_readings
from fleet.metrics.exported.fleet import (
    circuit_readings,
    controller_readings,
    fleet_readings,
    incident_readings,
)
from fleet.metrics.exported.gpus import gpu_readings
from fleet.metrics.exported.readings import Reading
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.backup_rows import read_rows
from resources.dagster_record import latest_runs, newest_ticks

Source = Callable[[datetime], Iterable[Reading]]

KEPT_S = 2.0
"""How long readings are given again."""
RECENT = timedelta(days=1)
"""How long an ended incident is counted."""
INCIDENTS_MAX = 10_000

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


def store_sources(store: ControlStore) -> dict[str, Source]:
    """What the control store knows."""

    def incidents(now: datetime) -> Iterable[Reading]:
        found = store.incidents(ended_since=now - RECENT, limit=INCIDENTS_MAX)
        return incident_readings(found, now)

    return {
        "fleet": lambda now: fleet_readings(store.fleet_counts(), now),
        "controller": lambda _: _controller(store),
        "incidents": incidents,
        "circuits": lambda _: circuit_readings(store.breakers()),
        "gpus": lambda _: gpu_readings(store.gpus()),
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


def dagster_sources(instance: DagsterInstance) -> dict[str, Source]:
    """What Dagster recorded of its sensors and runs."""

    def automation(now: datetime) -> Iterable[Reading]:
        since = now - timedelta(seconds=RUN_WINDOW_S)
        return automation_readings(newest_ticks(instance), latest_runs(instance, since), now)

    return {"automation": automation}


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
