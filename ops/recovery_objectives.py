"""Says what a disaster now would cost each network in each region, from what is recorded already.

Reads only the lake, so that it costs milliseconds every quarter of an hour: what copies hold was
recorded by replication, what is proven of them by verification.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.backup_tables import (
    CATALOG,
    OBJECTIVES,
    REPLICAS,
    VERIFICATIONS,
    CataloguedSnapshot,
    ProvenLevel,
    RecoveryObjective,
    Replica,
)
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.recovery_rows import NetworkHistory, join_objectives
from ops.backup_replicas import REGION
from ops.backup_rows import read_rows, write_rows
from ops.evidence import number_evidence
from ops.inventory import AFTER
from ops.partitions import Recorded, record_partitions

PLOTTED_NETWORKS_MAX = 8
"""Networks that have a plot of their own; the worst of all has one in any case."""


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Join how far copies have come with what is proven of them.",
)
def measure_objectives_op(
    context: dg.AssetExecutionContext,
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> Recorded:
    """Record the recovery objectives of every network in each region of the run."""
    history = read_histories(lake)

    def measure(region: str) -> dict[str, Any]:
        now = clock.now()
        rows = read_objectives(lake, region, history, now)
        evidence = write_rows(lake, OBJECTIVES, region, rows, RecoveryObjective, now)
        return {**evidence, **_numbers(rows)}

    yield from record_partitions(context, OBJECTIVES, REGION, measure)


def read_objectives(
    lake: Lake, region: str, history: Mapping[str, NetworkHistory], now: datetime
) -> list[RecoveryObjective]:
    """The objectives of a region at a moment, from the newest rows of everything they rest on.

    Raises:
        CorruptObjectError: rows are damaged; the next run that writes them heals the view.
    """
    replicas = read_rows(lake, REPLICAS, Replica, region)
    proven = read_rows(lake, VERIFICATIONS, ProvenLevel, region)
    return join_objectives(replicas, proven, history, _measured(proven), now)


def read_histories(lake: Lake) -> dict[str, NetworkHistory]:
    """Oldest known snapshot of each network."""
    oldest: dict[str, NetworkHistory] = {}
    for row in read_rows(lake, CATALOG, CataloguedSnapshot):
        before = oldest.get(row.network_id)
        first = before.first_snapshot_at if before else None
        first = row.taken_at if first is None else min(first, row.taken_at)
        oldest[row.network_id] = NetworkHistory(first, None)
    return oldest


def _measured(proven: Sequence[ProvenLevel]) -> dict[str, float]:
    """Recovery time of each network: how long its newest drill took."""
    return {row.network_id: row.verifying_s for row in proven if row.level == "V5" and row.passed}


def _numbers(rows: Sequence[RecoveryObjective]) -> dict[str, int | float]:
    """The worst of the region, then the point of each of the first networks."""
    numbers: dict[str, int | float] = {
        "networks": len(rows),
        "replica_lag_s": max((row.replica_lag_s for row in rows), default=0.0),
    }
    for name in ("rpo_s", "rto_s", "backup_age_s"):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            numbers[name] = max(known)
    for level in ("v1", "v2", "v3", "v4", "v5"):
        ages = [
            (row.looked_at - at).total_seconds()
            for row in rows
            if (at := getattr(row, f"{level}_at")) is not None
        ]
        if ages:
            numbers[f"{level}_age_s"] = max(ages)
    for row in rows[:PLOTTED_NETWORKS_MAX]:
        if row.rpo_s is not None:
            numbers[f"rpo_s of {row.network_id}"] = row.rpo_s
    return number_evidence(numbers)
