"""Keeps the lake small: merges finished days, removes what is too old, says what is left.

Each step is planned by `fleet.lake`, carried out object by object, and finds nothing to do when it
is repeated. A crash leaves the rest of the plan for the next run.
"""

from collections import defaultdict
from typing import Any

import dagster as dg

from fleet.errors import CorruptObjectError
from fleet.lake import Compaction, LakePolicy, plan_compaction, plan_lake_retention
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake, LakeObject
from ops.outcomes import outcomes
from ops.pools import LAKE_UPKEEP


@dg.op(pool=LAKE_UPKEEP)
def compact_lake_op(
    context: dg.OpExecutionContext,
    lake: dg.ResourceParam[Lake],
    lake_policy: dg.ResourceParam[LakePolicy],
    clock: dg.ResourceParam[Clock],
) -> dict[str, int]:
    """Merge the ticks of each finished day into one object; damaged ones are left out and named.

    Returns:
        What was done, in numbers, for the catalogue.
    """
    damaged: list[str] = []
    with outcomes(context.retry_number):
        plan = plan_compaction(_all_objects(lake), lake_policy, clock.now())
        for due in plan:
            context.log.info("%s of %s: %s", due.table, due.partition, due.reason)
            damaged += _compact(lake, due)
    for reason in damaged:
        context.log.error(reason)
    return {
        "days_compacted": len(plan),
        "objects_compacted": sum(due.objects for due in plan),
        "objects_quarantined": len(damaged),
    }


def _compact(lake: Lake, due: Compaction) -> list[str]:
    """Merge one day; returns what was damaged. Each damaged object leaves the listing at once."""
    damaged: list[str] = []
    for _ in range(due.objects):
        try:
            lake.compact(due.table, due.partition, due.day)
        except CorruptObjectError as error:
            damaged.append(str(error))
        else:
            break
    return damaged


@dg.op(pool=LAKE_UPKEEP, out=dg.Out(dg.Nothing))
def retain_lake_op(
    context: dg.AssetExecutionContext,
    compacted: dict[str, int],
    lake: dg.ResourceParam[Lake],
    lake_policy: dg.ResourceParam[LakePolicy],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Remove what is older than the policy keeps, then record what the lake holds."""
    with outcomes(context.op_execution_context.retry_number):
        verdicts = plan_lake_retention(_all_objects(lake), lake_policy, clock.now())
        doomed = [verdict.object for verdict in verdicts if verdict.remove]
        removed = lake.remove(doomed)
        kept = _all_objects(lake)
    context.add_asset_metadata(
        {
            **compacted,
            "objects_removed": removed,
            "bytes_removed": sum(each.size_bytes for each in doomed),
            "objects": len(kept),
            "size_bytes": sum(each.size_bytes for each in kept),
            "dagster/row_count": sum(each.rows for each in kept),
            "catalogue": _catalogue(kept),
        }
    )


def _all_objects(lake: Lake) -> list[LakeObject]:
    return [each for table in lake.tables() for each in lake.objects(table)]


def _catalogue(objects: list[LakeObject]) -> dg.TableMetadataValue:
    """Objects, rows, bytes and span of each table and partition."""
    groups: dict[tuple[str, str], list[LakeObject]] = defaultdict(list)
    for each in objects:
        groups[each.table, each.partition].append(each)
    rows: list[dict[str, Any]] = [
        {
            "table": table,
            "partition": partition,
            "objects": len(group),
            "rows": sum(each.rows for each in group),
            "size_bytes": sum(each.size_bytes for each in group),
            "oldest": min(each.written_at for each in group).isoformat(),
            "newest": max(each.written_at for each in group).isoformat(),
        }
        for (table, partition), group in sorted(groups.items())
    ]
    kinds = {"objects": "int", "rows": "int", "size_bytes": "int"}
    names = ("table", "partition", "objects", "rows", "size_bytes", "oldest", "newest")
    columns = [dg.TableColumn(name, kinds.get(name, "string")) for name in names]
    records = [dg.TableRecord(row) for row in rows[:200]]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))
