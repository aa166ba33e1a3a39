"""What the platform keeps of the past, and lets go: lake objects, activities, Dagster's runs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.inventory import CONTROL_STORE
from fleet.failover_tables import PLACEMENTS
from ops.activities import trim_activities_op
from ops.failover_upkeep import trim_placements_op
from ops.lake_upkeep import compact_lake_op, retain_lake_op
from ops.run_history import build_prune_run_history_op

GROUP = "upkeep"
OWNERS = ["team:fleet-operations"]
LAKE_CATALOG, RUN_HISTORY, ACTIVITY_HISTORY = "lake_catalog", "run_history", "activity_history"
PLACEMENT_HISTORY = "placement_history"

FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
)
"""Upkeep is daily; one missed day is a warning, two are a failure."""


def build_upkeep_assets(checks: Sequence[dg.AssetCheckKey]) -> list[dg.AssetsDefinition]:
    """The catalogue of the lake after its upkeep, and the pruned histories of agents and runs.

    Args:
        checks: every check of the code location.
    """
    prune_run_history_op = build_prune_run_history_op(checks)

    @dg.graph_asset(
        name=LAKE_CATALOG,
        description=(
            "What the lake holds after the day's upkeep: finished days merged, old ones removed."
            "\n\nGrain: one row per table and partition. Source: the lake's own listing. "
            "Freshness: daily."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"parquet"},
    )
    def lake_catalog() -> Any:
        return retain_lake_op(compact_lake_op())

    @dg.graph_asset(
        name=RUN_HISTORY,
        description=(
            "Dagster's record of finished runs, without those that are old and of which nothing "
            "is the newest.\n\nGrain: one run. Source: Dagster's storage. Freshness: daily."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"dagster"},
    )
    def run_history() -> Any:
        return prune_run_history_op()

    @dg.graph_asset(
        name=ACTIVITY_HISTORY,
        description=(
            "What agents did, in the control store, without what is older than "
            "`control_store.keep_activities_days`.\n\nGrain: one activity. Source: the agents' own "
            "records. Freshness: daily."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"sqlalchemy"},
        ins={CONTROL_STORE: dg.AssetIn(dagster_type=dg.Nothing)},
    )
    def activity_history(control_store: Any) -> Any:
        return trim_activities_op(after=control_store)

    @dg.graph_asset(
        name=PLACEMENT_HISTORY,
        description=(
            "Where agents were placed, in the control store, without what is older than "
            "`failover.keep_history_days`.\n\nGrain: one agent and epoch. Source: the "
            "transactions that moved agents. Freshness: daily."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"sqlalchemy"},
        ins={PLACEMENTS: dg.AssetIn(dagster_type=dg.Nothing)},
    )
    def placement_history(placements: Any) -> Any:
        return trim_placements_op(after=placements)

    return [
        each.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=FRESHNESS))
        for each in (lake_catalog, activity_history, run_history, placement_history)
    ]
