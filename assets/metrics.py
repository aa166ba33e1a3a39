"""Metrics: raw samples, and rollups at four levels, each made from the one before it.

Raw samples are written by collectors, not by runs; what a run makes is always a whole partition,
from what the store's log says now. The rows lie in the metric store (docs/formats/metrics.md).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.lake_tables import OWNERS, beside, describe_table, with_freshness
from fleet.metrics.levels import DAY_MS, Level
from fleet.metrics.store_state import CODE, LOWER
from ops.metrics import build_roll_up_op, retain_metrics_op

GROUP = "metrics"
SAMPLES, OPEN, RETENTION = "metric_samples", "rollup_open", "metric_retention"
OVERVIEW = "fleet_overview"

HOURLY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=4), warn_window=timedelta(hours=2)
)
"""Made when an hour is over, tidied up once an hour."""
DAILY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
)

_LOWER_NAMES: Mapping[Level, str] = {
    Level.M1: SAMPLES,
    **{level: lower.asset for level, lower in LOWER.items()},
}


def build_metric_specs() -> list[dg.AssetSpec]:
    """What no run makes: the samples, the view of open hours, and the overview of the fleet."""
    return [
        dg.AssetSpec(
            SAMPLES,
            description=(
                "Raw samples as collectors committed them.\n\nGrain: one series and time. Late, "
                "repeated and out-of-order samples are taken; of two values at one time the last "
                "committed counts. Source: collectors and imports. Freshness: seconds."
            ),
            group_name=GROUP,
            owners=OWNERS,
            kinds={"parquet"},
        ),
        dg.AssetSpec(
            OPEN,
            description=(
                "Records of hours that are still open, made from samples when they are asked for "
                "(`open_records` of the metric store); never stored.\n\nGrain: one series and "
                "bucket. Source: `metric_samples`. Freshness: that of the samples."
            ),
            group_name=GROUP,
            owners=OWNERS,
            kinds={"view"},
            deps=[SAMPLES],
        ),
        dg.AssetSpec(
            OVERVIEW,
            description=(
                "The fleet at a glance: nodes, agents, tasks, requests, errors, latencies, load, "
                "incidents, alerts, what would be lost. Its plots are the page to keep open.\n\n"
                "Grain: one set of numbers a minute; what was not measured is missing, never 0. "
                "Source: `metric_samples`, asked in PromQL (`fleet/metrics/overview.py`). "
                "Freshness: two minutes."
            ),
            group_name=GROUP,
            owners=OWNERS,
            kinds={"view"},
            deps=[SAMPLES],
        ),
    ]


def build_metric_assets(first_day: str) -> list[dg.AssetsDefinition]:
    """The four levels and the retention.

    Args:
        first_day: of the partitions, as 2025-01-01.
    """
    levels = [_level_asset(level, first_day) for level in Level]

    @dg.graph_asset(
        name=RETENTION,
        description=(
            "What the metric store lets go, merges and verifies.\n\nA day of raw samples goes only "
            "when every rollup of it is built, a level's only when the next one's is. Grain: the "
            "store as a whole. Freshness: hourly."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"parquet"},
        ins=beside(SAMPLES),
    )
    def metric_retention(metric_samples: Any) -> Any:
        return retain_metrics_op(metric_samples)

    return [*levels, *with_freshness([metric_retention], HOURLY)]


def _level_asset(level: Level, first_day: str) -> dg.AssetsDefinition:
    """One level; its partitions are hours or days (UTC)."""
    op = build_roll_up_op(level)
    lower = _LOWER_NAMES[level]
    is_daily = level.partition_ms == DAY_MS
    # the day that is not over is a partition, too: its 1h records are made after each of its hours
    partitions: dg.PartitionsDefinition[str] = (
        dg.DailyPartitionsDefinition(start_date=first_day, end_offset=1)
        if is_daily
        else dg.HourlyPartitionsDefinition(start_date=f"{first_day}-00:00")
    )
    description = (
        f"Mergeable records of {level.text}: count, sums, extremes, first and last value, resets.\n"
        f"\nGrain: one series and bucket of {level.text} with a sample; buckets are (start, end]. "
        f"Source: `{lower}`. Freshness: minutes after the "
        f"{'day' if level == Level.D1 else 'hour'} is over; late samples make it anew."
    )

    @dg.graph_asset(
        **describe_table(level.asset, description, GROUP, partitions, CODE),
        ins={"lower": dg.AssetIn(lower, dagster_type=dg.Nothing)},
    )
    def rollup(lower: Any) -> Any:
        return op(lower)

    return with_freshness([rollup], DAILY if level == Level.D1 else HOURLY)[0]
