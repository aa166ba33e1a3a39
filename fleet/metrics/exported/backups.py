"""What a disaster would cost and what is proven of the copies, as a scraper reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from fleet.backup_tables import ProvenLevel, RecoveryObjective
from fleet.metrics.exported.readings import NETWORKS_MAX, WORST, ExportedFamily, Reading

_COPIES = f"regions x ({NETWORKS_MAX} networks + 1)"

FAMILIES = (
    ExportedFamily(
        "stateroom_recovery_point_age_seconds",
        "gauge",
        "What would be lost if the home were lost now (RPO); without a copy here, since the first "
        "snapshot of the network.",
        ("region", "network"),
        _COPIES,
    ),
    ExportedFamily(
        "stateroom_recovery_time_seconds",
        "gauge",
        "Measured by the newest drill, until all agents ran (RTO).",
        ("region", "network"),
        _COPIES,
    ),
    ExportedFamily(
        "stateroom_backup_age_seconds",
        "gauge",
        "Since the newest restorable snapshot in this region was cut; without one, since the first "
        "of the network.",
        ("region", "network"),
        _COPIES,
    ),
    ExportedFamily(
        "stateroom_replica_lag_seconds",
        "gauge",
        "How much newer the home's newest snapshot is.",
        ("region", "network"),
        _COPIES,
    ),
    ExportedFamily(
        "stateroom_backup_verified_age_seconds",
        "gauge",
        "Since this region's copy passed a verification of this level; if it never did, since the "
        "first snapshot of the network.",
        ("region", "network", "level"),
        f"{_COPIES} x 5",
    ),
    ExportedFamily(
        "stateroom_backup_verification_failing",
        "gauge",
        "1 for a level whose newest verification failed.",
        ("region", "network", "level"),
        f"{_COPIES} x 5",
    ),
)

_RECOVERY: Mapping[str, str] = {
    "stateroom_recovery_point_age_seconds": "rpo_s",
    "stateroom_recovery_time_seconds": "rto_s",
    "stateroom_backup_age_seconds": "backup_age_s",
    "stateroom_replica_lag_seconds": "replica_lag_s",
}
_AGING = {"rpo_s", "backup_age_s"}
"""Figures that grow by themselves after the look that took them."""
LEVELS = ("V1", "V2", "V3", "V4", "V5")


def recovery_readings(rows: Sequence[RecoveryObjective], now: datetime) -> Iterator[Reading]:
    """What a disaster would cost, by region and network, and the worst of each region.

    Ages are carried forward from the look that took them to `now`, so that a platform that stopped
    looking does not look young. What never was (a copy, a proof) ages from the network's first
    snapshot on, from when it is due: an alert cannot rest on what has no reading.
    """
    shown = set(sorted({row.network_id for row in rows})[:NETWORKS_MAX])
    worst: dict[tuple[str, tuple[str, ...]], float] = {}
    for row in rows:
        for name, extra, value in _figures(row, max(0.0, (now - row.looked_at).total_seconds())):
            if row.network_id in shown:
                yield Reading(name, (row.region, row.network_id, *extra), value)
            key = (name, (row.region, WORST, *extra))
            worst[key] = max(worst.get(key, value), value)
    for (name, labels), value in worst.items():
        yield Reading(name, labels, value)


def _figures(
    row: RecoveryObjective, since_look_s: float
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    never = {"rpo_s": row.covered_until is None, "backup_age_s": row.snapshot_at is None}
    due_s = max(0.0, (row.looked_at - row.first_snapshot_at).total_seconds())
    for name, column in _RECOVERY.items():
        value = getattr(row, column)
        if value is None and never.get(column):
            value = due_s
        if value is not None:
            yield name, (), value + (since_look_s if column in _AGING else 0.0)
    for level in LEVELS:
        value = getattr(row, f"verified_age_{level.lower()}_s")
        proven_s = due_s if value is None else value
        yield "stateroom_backup_verified_age_seconds", (level,), proven_s + since_look_s


def verification_readings(rows: Iterable[ProvenLevel]) -> Iterator[Reading]:
    """Which levels the copies pass now, and whether any network of a region fails one.

    For the same networks as `recovery_readings`: one without series of its own counts in the worst.
    """
    rows = list(rows)
    shown = set(sorted({row.network_id for row in rows})[:NETWORKS_MAX])
    failing: dict[tuple[str, str], bool] = {}
    for row in rows:
        if row.network_id in shown:
            labels = (row.region, row.network_id, row.level)
            yield Reading("stateroom_backup_verification_failing", labels, not row.passed)
        key = (row.region, row.level)
        failing[key] = failing.get(key, False) or not row.passed
    for (region, level), fails in failing.items():
        yield Reading("stateroom_backup_verification_failing", (region, WORST, level), fails)
