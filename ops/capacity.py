"""Forecasts when regions are full, from the hourly cost reports; records, and changes nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from fleet.capacity import (
    FORECAST_TABLE,
    CapacityForecast,
    CapacityPoint,
    CapacityPolicy,
    forecast,
)
from fleet.costs.prices import PriceBook
from fleet.costs.report import COST_TABLE, IDLE, UNPAID
from fleet.declaration import FleetDeclaration
from fleet.errors import NotFoundError
from fleet.inventory import Node
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from ops.costs import FleetLook, cost_rows
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER, NODES
from ops.inventory_reads import read_inventory
from ops.outcomes import outcomes

PARTITION = "all"
RESOURCES = ("cpu_milli", "memory_bytes", "gpu_milli")
PREVIEW = ("region", "resource", "used_ratio", "days_to_full", "holds_loss", "reason")
Points = Mapping[tuple[str, str], Sequence[CapacityPoint]]
"""By region and resource, oldest first."""


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Forecast when each region is full, and whether it could lose a node.",
)
def forecast_capacity_op(
    context: dg.OpExecutionContext,
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    capacity_policy: dg.ResourceParam[CapacityPolicy],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record a row for each region and resource; committed by `Lake.write`."""
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        rows = forecast_regions(lake, fleet_declaration.regions, capacity_policy, now)
        committed = lake.write(FORECAST_TABLE, PARTITION, to_table(rows, CapacityForecast), now)
    metadata: dict[str, Any] = {
        **number_evidence(forecast_numbers(rows)),
        **object_evidence(committed),
        "preview": table_preview(rows, PREVIEW),
        "dagster/table_name": FORECAST_TABLE,
        "dagster/column_schema": column_schema(CapacityForecast),
    }
    context.add_output_metadata(metadata)


def forecast_regions(
    lake: Lake, regions: Sequence[str], policy: CapacityPolicy, now: datetime
) -> list[CapacityForecast]:
    """A row for each region and resource that it has any of.

    Raises:
        CorruptObjectError: an object of the history is damaged.
    """
    points = read_points(lake, now - timedelta(days=policy.history_days), now)
    nodes = read_inventory(lake, NODES, regions, Node).records
    return forecast_points(points, nodes, policy, now)


def forecast_points(
    points: Points, nodes: Sequence[Node], policy: CapacityPolicy, now: datetime
) -> list[CapacityForecast]:
    """A row for each region and resource that it has any of.

    Args:
        points: looks; the last one of each is the present.
        nodes: of all regions, the largest of which may be lost.
        policy: how far back and ahead.
        now: moment of the look.
    """
    largest = largest_nodes(nodes, policy.nodes_lost)
    return [
        forecast(region, resource, seen, largest.get((region, resource), 0.0), policy, now)
        for (region, resource), seen in sorted(points.items())
        if seen[-1].capacity > 0
    ]


def forecast_live(
    history: Points, look: FleetLook, policy: CapacityPolicy, now: datetime
) -> list[CapacityForecast]:
    """The forecast with the fleet of this moment as its last look; `history` may be empty.

    Regions that have no node any more are left out: what they had is no capacity.
    """
    live = live_points(look, now)
    points = {key: [*history.get(key, ()), point] for key, point in live.items()}
    return forecast_points(points, look.nodes, policy, now)


def live_points(look: FleetLook, now: datetime) -> dict[tuple[str, str], CapacityPoint]:
    """What regions have and have allocated now, added up as the cost report does."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in cost_rows(look, PriceBook(), now):
        if not row.node_id:
            continue
        for name in RESOURCES:
            amount = float(getattr(row, name))
            found = sums[row.region, name]
            found[0] += amount if row.workload != IDLE else 0.0
            found[1] += amount
    return {key: CapacityPoint(now, used, whole) for key, (used, whole) in sums.items()}


def largest_nodes(nodes: Sequence[Node], count: int) -> dict[tuple[str, str], float]:
    """Capacity of the `count` largest nodes of each region, by resource."""
    amounts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for node in nodes:
        if node.phase not in UNPAID:
            amounts[node.region, "cpu_milli"].append(node.cpu_milli)
            amounts[node.region, "memory_bytes"].append(node.memory_bytes)
            amounts[node.region, "gpu_milli"].append(1000 * node.gpu_count)
    return {
        key: float(sum(sorted(values, reverse=True)[:count])) for key, values in amounts.items()
    }


def read_points(lake: Lake, since: datetime, until: datetime) -> Points:
    """What regions had and had allocated at each look of the cost report, added up by the engine.

    Raises:
        CorruptObjectError: an object of the history is damaged.
    """
    if not lake.objects(COST_TABLE):
        return {}
    sums = ", ".join(
        f"sum({name}) FILTER (workload <> '{IDLE}') AS used_{name}, sum({name}) AS all_{name}"
        for name in RESOURCES
    )
    answer = lake.query(
        f"SELECT tick, region, {sums} FROM {COST_TABLE}_history "  # noqa: S608 - our own names and times
        f"WHERE node_id <> '' AND tick >= TIMESTAMPTZ '{since.isoformat()}' "
        f"AND tick <= TIMESTAMPTZ '{until.isoformat()}' GROUP BY tick, region ORDER BY tick"
    )
    found: dict[tuple[str, str], list[CapacityPoint]] = defaultdict(list)
    for row in answer.to_pylist():
        for name in RESOURCES:
            used, whole = float(row[f"used_{name}"] or 0), float(row[f"all_{name}"])
            found[row["region"], name].append(
                CapacityPoint(row["tick"].astimezone(UTC), used, whole)
            )
    return found


def read_forecast(lake: Lake) -> list[CapacityForecast]:
    """The newest forecast; none when there never was any."""
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(FORECAST_TABLE, PARTITION), CapacityForecast)
    except NotFoundError:
        return []


def forecast_numbers(rows: Sequence[CapacityForecast]) -> dict[str, int | float]:
    """What plots: how full the fullest region is, and how soon the first one will be."""
    numbers: dict[str, int | float] = {
        "rows": len(rows),
        "used_ratio_max": max((row.used_ratio for row in rows), default=0.0),
        "not_holding_a_loss": sum(not row.holds_loss for row in rows),
    }
    ahead = [row.days_to_full for row in rows if row.days_to_full is not None]
    if ahead:
        numbers["days_to_full_min"] = min(ahead)
    for row in rows[:30]:
        numbers[f"used_ratio of {row.region} {row.resource}"] = row.used_ratio
    return numbers
