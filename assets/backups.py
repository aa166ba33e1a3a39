"""Backups: snapshots, their copies in other regions, the proof of both, and what a disaster costs.

What is written is partitioned by network, because a network is what is backed up and brought back;
what is copied and proven is partitioned by region, because a region is what is lost.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.inventory import CONTROL_STORE
from assets.lake_tables import after, beside, describe_table, with_freshness
from fleet.backup_tables import (
    CATALOG,
    JOURNAL,
    OBJECTIVES,
    PLAN,
    REPLICAS,
    SNAPSHOTS,
    VERIFICATIONS,
)
from ops.backup_replicas import replicate_op
from ops.backup_verifications import verify_op
from ops.backups import list_snapshots_op, take_snapshots_op
from ops.inventory import STATES
from ops.recovery_objectives import measure_objectives_op
from ops.retention import retain_snapshots_op

GROUP = "backups"

CODE_VERSION = "1"
"""Of the columns and their meaning; raised when either changes."""

HOURLY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=3), warn_window=timedelta(hours=2)
)
"""Snapshots, replicas and their proof are hourly with the shipped settings: one missed hour is a
warning, two are a failure."""

QUARTER_HOURLY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=1), warn_window=timedelta(minutes=35)
)

MINUTELY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(minutes=15), warn_window=timedelta(minutes=5)
)

DESCRIPTIONS = {
    JOURNAL: (
        "What agents stored between snapshots, in sealed segments, in every region: any moment of "
        "the last two days can be restored.\n\nGrain: one row per network, region and minute. "
        "Source: the control store's change log, read by `state_journal_sensor`. Freshness: "
        "`backup.journal_interval_s`."
    ),
    SNAPSHOTS: (
        "Snapshots of each network's agent states, taken into the vault of the home region.\n\n"
        "Grain: one row per snapshot. Source: the control store, as one consistent cut; only what "
        "changed is read and stored. Freshness: hourly, and at once for a network that is new."
    ),
    CATALOG: (
        "Every snapshot that the vault's log knows: live, held, forgotten. A second table, "
        "`backup_items`, says which snapshots hold which version of which agent or file.\n\n"
        "Grain: one row per snapshot and look. Source: the log of the home region, authenticated "
        "record by record; the table can be rebuilt from it at any time."
    ),
    PLAN: (
        "What becomes of each live snapshot, by which rule and which guard, in words.\n\n"
        "Grain: one row per live snapshot and plan. Source: the vault's log and what was verified "
        "in the home region. The scheduled run applies the plan; any other run only shows it."
    ),
    REPLICAS: (
        "How far each region's copy of each network has come, and what was copied last.\n\n"
        "Grain: one row per network and look. Source: the logs of both vaults. A replica is a "
        "valid prefix of the home at every moment. Freshness: after each snapshot."
    ),
    VERIFICATIONS: (
        "The newest proof of each level, for each network in each region.\n\n"
        "Grain: one row per network and level. Source: the region's own evidence log in its "
        "vault. V1 structure, V2 stored bytes, V3 content, V4 restored and opened, V5 drill. "
        "Freshness: V1 hourly."
    ),
    OBJECTIVES: (
        "What a disaster now would cost: data lost (RPO), time to bring it back (RTO), and how "
        "old the proof is.\n\nGrain: one row per network and look. Source: replicas and "
        "verifications. Freshness: every 15 minutes."
    ),
}


def build_journal_spec(networks: Sequence[str]) -> dg.AssetSpec:
    """The journal, which a sensor writes in its tick: Dagster is told of it, and runs nothing.

    Args:
        networks: partitions, as those of the snapshots.
    """
    spec = {**_catalogue(JOURNAL, dg.StaticPartitionsDefinition(list(networks)))}
    del spec["backfill_policy"]
    return dg.AssetSpec(
        key=spec.pop("name"),
        deps=[dg.AssetDep(CONTROL_STORE)],
        freshness_policy=MINUTELY,
        **spec,
    )


def build_backup_assets(
    networks: Sequence[str], regions: Sequence[str]
) -> list[dg.AssetsDefinition]:
    """The assets of the group, in the order of their lineage.

    Args:
        networks: partitions of what is written: every network of a vault.
        regions: partitions of what is copied and proven, sorted.
    """
    by_network = dg.StaticPartitionsDefinition(list(networks))
    by_region = dg.StaticPartitionsDefinition(list(regions))

    @dg.graph_asset(**_catalogue(SNAPSHOTS, by_network), ins=after(STATES, CONTROL_STORE))
    def backup_snapshots(agent_states: Any, control_store: Any) -> Any:
        return take_snapshots_op([agent_states, control_store])

    @dg.graph_asset(**_catalogue(CATALOG, by_network), ins=beside(SNAPSHOTS))
    def backup_catalog(backup_snapshots: Any) -> Any:
        return list_snapshots_op(backup_snapshots)

    @dg.graph_asset(**_catalogue(PLAN, by_network), ins=beside(CATALOG))
    def retention_plan(backup_catalog: Any) -> Any:
        return retain_snapshots_op(backup_catalog)

    @dg.graph_asset(**_catalogue(REPLICAS, by_region), ins=after(SNAPSHOTS))
    def backup_replicas(backup_snapshots: Any) -> Any:
        return replicate_op(backup_snapshots)

    @dg.graph_asset(**_catalogue(VERIFICATIONS, by_region), ins=beside(REPLICAS))
    def backup_verifications(backup_replicas: Any) -> Any:
        return verify_op(backup_replicas)

    @dg.graph_asset(
        **_catalogue(OBJECTIVES, by_region),
        ins={**beside(REPLICAS, VERIFICATIONS), **after(JOURNAL)},
    )
    def recovery_objectives(
        backup_replicas: Any, backup_verifications: Any, state_journal: Any
    ) -> Any:
        return measure_objectives_op([backup_replicas, backup_verifications, state_journal])

    hourly = [
        backup_snapshots,
        backup_catalog,
        retention_plan,
        backup_replicas,
        backup_verifications,
    ]
    return [
        *with_freshness(hourly, HOURLY),
        *with_freshness([recovery_objectives], QUARTER_HOURLY),
    ]


def _catalogue(name: str, partitions: dg.PartitionsDefinition[str]) -> dict[str, Any]:
    return describe_table(name, DESCRIPTIONS[name], GROUP, partitions, CODE_VERSION)
