"""Makes rollups partition by partition, and keeps the metric store small and sound.

Each call of the keeper commits by itself and finds nothing to do when it is repeated, so a run that
was killed is simply run again.
"""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from fleet.metrics.levels import DAY_MS, Level
from fleet.metrics.store_facts import PartitionMade
from fleet.ports.metric_keeper import MetricKeeper
from ops.outcomes import outcomes
from ops.partitions import Recorded, record_partitions
from ops.pools import METRIC_ROLLUPS

HOURS_JOB, DAYS_JOB, RETENTION_JOB = (
    "rollup_hours_job",
    "rollup_days_job",
    "metric_retention_job",
)
METRIC_CLASS = {"stateroom/class": "metrics"}
HOUR_FORMAT, DAY_FORMAT = "%Y-%m-%d-%H:%M", "%Y-%m-%d"
"""Partition keys, as Dagster writes hours and days."""
COMPACTIONS_MAX = 200
"""Hours and shards that one run of retention merges."""
VERIFIED_MAX = 200
"""Objects that one run of retention verifies; where it begins moves on with the hours."""


def partition_key(level: Level, start_ms: int) -> str:
    """Key of the partition that begins at a time."""
    form = DAY_FORMAT if level.partition_ms == DAY_MS else HOUR_FORMAT
    return datetime.fromtimestamp(start_ms // 1000, UTC).strftime(form)


def partition_start_ms(level: Level, key: str) -> int:
    """Start of the partition of a key."""
    form = DAY_FORMAT if level.partition_ms == DAY_MS else HOUR_FORMAT
    return int(datetime.strptime(key, form).replace(tzinfo=UTC).timestamp() * 1000)


def build_roll_up_op(level: Level) -> dg.OpDefinition:
    """The op that makes partitions of a level."""
    dimension = "day" if level.partition_ms == DAY_MS else "hour"

    @dg.op(
        name=f"make_{level.asset}_op",
        ins={"after": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool=METRIC_ROLLUPS,
        description=f"Make the dirty shards of each {dimension} of the run anew, whole.",
    )
    def roll_up_op(
        context: dg.AssetExecutionContext, metric_keeper: dg.ResourceParam[MetricKeeper]
    ) -> Recorded:
        def make(key: str) -> dict[str, Any]:
            return _evidence(metric_keeper.roll_up(level, partition_start_ms(level, key)))

        yield from record_partitions(context, level.asset, dimension, make)

    return roll_up_op


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), pool=METRIC_ROLLUPS)
def retain_metrics_op(
    context: dg.AssetExecutionContext, metric_keeper: dg.ResourceParam[MetricKeeper]
) -> None:
    """Merge small parts, let go what is no longer kept, and record what is left and why."""
    with outcomes(context.op_execution_context.retry_number):
        compacted = metric_keeper.compact(COMPACTIONS_MAX)
        upkept = metric_keeper.retain()
        facts = metric_keeper.facts()
    floors = {level.text: ms for level, ms in upkept.plan.floors_ms.items()}
    context.add_asset_metadata(
        {
            "hours_compacted": compacted,
            "objects_removed": upkept.removed,
            "bytes_removed": upkept.removed_bytes,
            "log_objects_removed": upkept.trimmed,
            "kept_from": dg.MetadataValue.json(
                {name: _day(ms) for name, ms in {"raw": upkept.plan.raw_floor_ms, **floors}.items()}
            ),
            "held_back": dg.MetadataValue.md("\n".join(f"- {one}" for one in upkept.plan.reasons)),
            "raw_parts": facts.raw_parts,
            "raw_bytes": facts.raw_bytes,
            "dagster/row_count": facts.raw_rows,
        }
    )


def _evidence(made: PartitionMade) -> dict[str, Any]:
    return {
        "dagster/row_count": made.rows,
        "size_bytes": made.size_bytes,
        "shards_made": made.shards,
        "sketches": made.sketches,
        "native_histograms": made.histograms,
        "conflicts": made.conflicts,
    }


def _day(start_ms: int) -> str:
    """A floor for people: a day, or that nothing was ever let go."""
    return partition_key(Level.D1, start_ms) if start_ms > 0 else "the beginning"
