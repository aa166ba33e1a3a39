"""Counters of what has ended since somebody began to count: runs of jobs, incidents.

A scraper reads counters as rates and knows a restart as a reset, so that nothing need be stored.
Each begins at 0, as soon as what it counts is known to exist: a rate is the difference of two
samples, and of a counter that begins at 1 nobody sees the first event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.incidents import IncidentHeader, IncidentKind
from fleet.metrics.exported.readings import ExportedFamily, Reading

OVERLAP = timedelta(minutes=10)
"""How far back a look goes behind the one before: what ended may be stored a little later."""
JOBS_MAX = 100
RESULTS = ("canceled", "failure", "success")
FAILOVERS = (IncidentKind.NODE, IncidentKind.REGION)


class EndedRun(NamedTuple):
    """A run of a job that has ended."""

    run_id: str
    job: str
    result: str
    """One of `RESULTS`."""
    ended_at: datetime


class RunCounts:
    """Runs by job and result; each is counted once, however often it is seen."""

    def __init__(self, since: datetime) -> None:
        """Count what ends after `since`."""
        self.since = since
        self._began = since
        self._seen: dict[str, datetime] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._jobs: set[str] = set()

    def know(self, jobs: Iterable[str]) -> None:
        """Begin to count the runs of these jobs, whether or not one has ended."""
        self._jobs.update(jobs)

    def add(self, runs: Iterable[EndedRun], now: datetime) -> None:
        """Take a look into account: runs that ended since `self.since`, known ones among them."""
        for run in runs:
            if run.ended_at >= self._began and run.run_id not in self._seen:
                self._jobs.add(run.job)
                self._counts[run.job, run.result] += 1
                self._seen[run.run_id] = run.ended_at
        self.since = max(self._began, now - OVERLAP)
        self._seen = {key: at for key, at in self._seen.items() if at >= self.since}

    def readings(self) -> Iterator[Reading]:
        """Every result of each job that is known."""
        for job in sorted(self._jobs)[:JOBS_MAX]:
            for result in RESULTS:
                count = self._counts[job, result]
                yield Reading("stateroom_runs_total", (job, result), count)


class FailoverCounts:
    """Incidents of nodes and regions that have ended, and how long they lasted together."""

    def __init__(self, since: datetime) -> None:
        """Count what ends after `since`."""
        self._began = since
        self._seen: dict[str, datetime] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._total_s: dict[tuple[str, str], float] = {}

    def add(self, incidents: Iterable[IncidentHeader], now: datetime) -> None:
        """Take a look into account: incidents that ended within the last day at least."""
        for one in incidents:
            if one.ended_at is None or one.ended_at < self._began or one.kind not in FAILOVERS:
                continue
            if one.incident_id not in self._seen:
                self._seen[one.incident_id] = one.ended_at
                key = (one.kind.value, one.region)
                lasted_s = max(0.0, (one.ended_at - one.opened_at).total_seconds())
                self._counts[key] += 1
                self._total_s[key] = self._total_s.get(key, 0.0) + lasted_s
        recent = now - timedelta(days=2)
        self._seen = {key: at for key, at in self._seen.items() if at >= recent}

    def readings(self, regions: Iterable[str] = ()) -> Iterator[Reading]:
        """Two counters by kind and region: their quotient is how long one lasts.

        Args:
            regions: those that are declared; what has not happened there is 0.
        """
        known = {(kind.value, region) for region in regions for kind in FAILOVERS}
        for key in sorted(known | self._counts.keys()):
            yield Reading("stateroom_failovers_total", key, self._counts[key])
            yield Reading("stateroom_failover_seconds_total", key, self._total_s.get(key, 0.0))


FAMILIES = (
    ExportedFamily(
        "stateroom_runs_total",
        "counter",
        "Runs that ended since the exporter began: success, failure, canceled.",
        ("dagster_job", "result"),
        f"{JOBS_MAX} jobs x 3",
    ),
    ExportedFamily(
        "stateroom_failovers_total",
        "counter",
        "Incidents of nodes and regions that ended since the exporter began.",
        ("kind", "region"),
        "2 x regions",
    ),
    ExportedFamily(
        "stateroom_failover_seconds_total",
        "counter",
        "How long these lasted, from opening to end, together.",
        ("kind", "region"),
        "2 x regions",
    ),
)
