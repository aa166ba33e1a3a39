"""When rollups are made: as soon as the log says that a partition is dirty, newest first.

The list of dirty partitions is what the log says, not a cursor: a lost tick or a failed run leaves
them dirty, and they are asked for again.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets.metrics import SAMPLES
from fleet.errors import StateroomError
from fleet.metrics.levels import Level
from fleet.metrics.store_facts import StoreFacts
from fleet.ports.clock import Clock
from fleet.ports.metric_keeper import MetricKeeper
from ops.metrics import DAYS_JOB, HOURS_JOB, METRIC_CLASS, RETENTION_JOB, partition_key

SENSOR = "metric_rollup_sensor"
INTERVAL_S = 29
HOURS_MAX, DAYS_MAX = 8, 2
"""Partitions that one tick asks for."""
TURNS_SHARE = 4
"""A quarter of them, and at least one, are older ones in turn: newest ones that cannot be made (a
part is damaged) keep no other waiting for ever."""
AGAIN_S = 300
"""A partition is asked for once in this time: late samples trickle, failed runs are repeated."""
EVIDENCE_S = 60
"""Shortest time between two materializations of the samples."""
LEVELS = {HOURS_JOB: (Level.M1, Level.M5), DAYS_JOB: (Level.H1, Level.D1)}


def build_rollup_sensor(
    jobs: Sequence[Any], first_day: str, *, running: bool
) -> dg.SensorDefinition:
    """The sensor that asks for rollups.

    Args:
        jobs: those of hours and of days.
        first_day: of the partitions; what is older cannot be asked for.
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=SENSOR,
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Asks for rollups of hours and days that are dirty, newest first.",
    )
    def metric_rollup_sensor(
        context: dg.SensorEvaluationContext,
        metric_keeper: dg.ResourceParam[MetricKeeper],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            facts = metric_keeper.facts()
        except StateroomError as error:
            return dg.SkipReason(f"tried again at the next look: {error}")
        now_s = clock.now().timestamp()
        requests = list(plan_requests(facts, now_s, first_day))
        events, cursor = plan_evidence(facts, now_s, context.cursor)
        if not requests and not events:
            return dg.SkipReason(f"nothing is dirty after {facts.commits} commits")
        return dg.SensorResult(run_requests=requests, asset_events=events, cursor=cursor)

    return metric_rollup_sensor


def plan_requests(facts: StoreFacts, now_s: float, first_day: str) -> Iterator[dg.RunRequest]:
    """Runs for dirty partitions, newest first; one for the levels that share a partition.

    Args:
        facts: of the store.
        now_s: seconds since 1970.
        first_day: of the partitions.
    """
    for job, levels in LEVELS.items():
        dirty = {one.partition_ms for level in levels for one in facts.levels[level].dirty}
        most = HOURS_MAX if job == HOURS_JOB else DAYS_MAX
        keys = [partition_key(levels[0], start) for start in sorted(dirty, reverse=True)]
        wanted = [one for one in keys if one >= first_day]
        for key in select_asked(wanted, most, int(now_s) // AGAIN_S):
            yield dg.RunRequest(
                run_key=f"{job}/{key}/{int(now_s) // AGAIN_S}",
                job_name=job,
                partition_key=key,
                tags=METRIC_CLASS,
            )


def select_asked(keys: Sequence[str], most: int, turn: int) -> list[str]:
    """Which partitions a tick asks for: the newest, and some of the others in turn.

    Args:
        keys: of all dirty ones, newest first.
        most: that are asked for, 2 or more.
        turn: grows by one each time that a partition may be asked for again.
    """
    if len(keys) <= most:
        return list(keys)
    others = max(1, most // TURNS_SHARE)
    newest, rest = list(keys[: most - others]), keys[most - others :]
    return newest + [rest[(turn * others + one) % len(rest)] for one in range(others)]


def plan_evidence(
    facts: StoreFacts, now_s: float, cursor: str | None
) -> tuple[list[dg.AssetMaterialization], str | None]:
    """What is told of new samples, once a minute at most; and the cursor after it."""
    commits, told_s = read_cursor(cursor)
    if facts.commits == commits or now_s - told_s < EVIDENCE_S:
        return [], cursor
    event = dg.AssetMaterialization(
        SAMPLES,
        description=f"{facts.commits - commits} commits",
        metadata={
            "commits": facts.commits,
            "dagster/row_count": facts.raw_rows,
            "raw_parts": facts.raw_parts,
            "raw_bytes": facts.raw_bytes,
            "open_rows": facts.open_rows,
            "series": facts.series_rows,
            **facts.counted._asdict(),
        },
    )
    return [event], json.dumps([facts.commits, now_s])


def read_cursor(cursor: str | None) -> tuple[int, float]:
    """Commits told of, and when; nothing from an unknown cursor."""
    try:
        commits, told_s = json.loads(cursor or "[0, 0]")
        return int(commits), float(told_s)
    except (ValueError, TypeError):
        return 0, 0.0


def build_retention_schedule(cron: str, *, running: bool) -> dg.ScheduleDefinition:
    """When the store is merged, thinned and verified.

    Args:
        cron: UTC.
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=f"{RETENTION_JOB.removesuffix('_job')}_schedule",
        job_name=RETENTION_JOB,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description="Merges parts, lets old ones go, verifies a share of all bytes.",
    )
