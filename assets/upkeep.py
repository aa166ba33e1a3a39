"""What the platform keeps of its own past, and lets go: the lake's objects, Dagster's runs."""

from datetime import timedelta
from typing import Any

import dagster as dg

from ops.lake_upkeep import compact_lake_op, retain_lake_op
from ops.run_history import prune_run_history_op

GROUP = "upkeep"
OWNERS = ["team:fleet-operations"]
LAKE_CATALOG, RUN_HISTORY = "lake_catalog", "run_history"

FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
)
"""Upkeep is daily; one missed day is a warning, two are a failure."""


def build_upkeep_assets() -> list[dg.AssetsDefinition]:
    """The catalogue of the lake after its upkeep, and the pruned history of runs."""

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

    return [
        each.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=FRESHNESS))
        for each in (lake_catalog, run_history)
    ]
