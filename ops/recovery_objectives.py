"""Says what a disaster now would cost each network in each region, from what is recorded already.

Reads only the lake, so that it costs milliseconds every quarter of an hour: what copies hold was
recorded by replication, what is proven of them by verification.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.backup_tables import (
    CATALOG,
    JOURNAL,
    OBJECTIVES,
    REPLICAS,
    VERIFICATIONS,
    CataloguedSnapshot,
    JournalReach,
    ProvenLevel,
    RecoveryObjective,
    Replica,
)
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.recovery_rows import CopyFacts, NetworkHistory, gather_copies, objective_rows
from ops.backup_replicas import REGION
from ops.backup_rows import read_rows, write_rows
from ops.evidence import number_evidence
from ops.inventory import AFTER
from ops.partitions import Recorded, record_partitions

FIGURES = (
    "rpo_s",
    "rto_s",
    "backup_age_s",
    "replica_lag_s",
    *(f"verified_age_v{level}_s" for level in range(1, 6)),
)
"""Columns of the table that plot; the worst of a region stands for it."""

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

    def measure(region: str) -> dict[str, Any]:
        now = clock.now()
        rows = objective_rows(read_copies(lake, [region]), now)
        evidence = write_rows(lake, OBJECTIVES, region, rows, RecoveryObjective, now)
        return {**_numbers(rows), **evidence}

    yield from record_partitions(context, OBJECTIVES, REGION, measure)


def read_copies(lake: Lake, regions: Sequence[str]) -> list[CopyFacts]:
    """What is known of every copy in some regions, from the newest rows that it rests on.

    Raises:
        CorruptObjectError: rows are damaged; the next run that writes them heals the view.
    """
    history = _histories(lake)
    copies: list[CopyFacts] = []
    for region in regions:
        replicas = read_rows(lake, REPLICAS, Replica, region)
        proven = read_rows(lake, VERIFICATIONS, ProvenLevel, region)
        copies += gather_copies(replicas, proven, history)
    return copies


def _histories(lake: Lake) -> dict[str, NetworkHistory]:
    """Oldest known snapshot of each network, and how far its journal reaches where."""
    oldest: dict[str, datetime] = {}
    for row in read_rows(lake, CATALOG, CataloguedSnapshot):
        oldest[row.network_id] = min(oldest.get(row.network_id, row.taken_at), row.taken_at)
    reach: dict[str, dict[str, datetime]] = {}
    for one in read_rows(lake, JOURNAL, JournalReach):
        if one.covered_until is not None:
            reach.setdefault(one.network_id, {})[one.region] = one.covered_until
    return {
        network_id: NetworkHistory(at, reach.get(network_id, {}))
        for network_id, at in oldest.items()
    }


def _numbers(rows: Sequence[RecoveryObjective]) -> dict[str, int | float]:
    """The worst of the region, then the point of each of the first networks."""
    numbers: dict[str, int | float] = {"networks": len(rows)}
    for name in FIGURES:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            numbers[name] = max(known)
    for row in rows[:PLOTTED_NETWORKS_MAX]:
        if row.rpo_s is not None:
            numbers[f"rpo_s of {row.network_id}"] = row.rpo_s
    return number_evidence(numbers)
