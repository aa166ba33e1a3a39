"""Dagster's part, as a scraper reads it: whether sensors and schedules tick, how runs ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from fleet.metrics.exported.readings import ExportedFamily, Reading

RUN_WINDOW_S = 3600.0
"""Runs that were asked for within this time are counted."""
JOBS_MAX = 100
"""Jobs told apart; definitions have some thirty."""


class TickFact(NamedTuple):
    """The newest tick of one sensor or schedule that is switched on."""

    name: str
    at: datetime | None
    """None: it has not ticked since it was switched on."""
    failed: bool


class RunFact(NamedTuple):
    """One run of a job."""

    job: str
    status: str
    """Lower case, as Dagster names it: `success`, `failure`, `started`, `queued`, ..."""


FAMILIES = (
    ExportedFamily(
        "stateroom_sensor_tick_age_seconds",
        "gauge",
        "Since a sensor or schedule that is switched on ticked.",
        ("sensor",),
        "sensors and schedules (some 30)",
    ),
    ExportedFamily(
        "stateroom_sensor_failing",
        "gauge",
        "1 when the newest tick failed.",
        ("sensor",),
        "sensors and schedules (some 30)",
    ),
    ExportedFamily(
        "stateroom_runs_recent",
        "gauge",
        "Runs that were asked for within the last hour, by how they stand.",
        ("job", "status"),
        f"{JOBS_MAX} jobs x statuses (8)",
    ),
)


def automation_readings(
    ticks: Iterable[TickFact], runs: Iterable[RunFact], now: datetime
) -> Iterator[Reading]:
    """Ages of ticks, and counts of runs.

    Args:
        ticks: one for each sensor or schedule that is on.
        runs: those of the last `RUN_WINDOW_S`.
        now: the moment of the look.
    """
    for tick in ticks:
        if tick.at is not None:
            age_s = max(0.0, (now - tick.at).total_seconds())
            yield Reading("stateroom_sensor_tick_age_seconds", (tick.name,), age_s)
        yield Reading("stateroom_sensor_failing", (tick.name,), tick.failed)
    counts = Counter(runs)
    jobs = set(sorted({run.job for run in counts})[:JOBS_MAX])
    for run, count in sorted(counts.items()):
        if run.job in jobs:
            yield Reading("stateroom_runs_recent", (run.job, run.status), count)
