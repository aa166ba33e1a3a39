"""Rescaling: what was decided of every workload, with everything that led to it."""

from datetime import timedelta
from typing import Any

import dagster as dg

from assets.inventory import CONTROL_STORE
from assets.lake_tables import after, describe_table, with_freshness
from assets.rescaling import CODE_VERSION, GROUP
from fleet.rescaling.tables import SCALING_DECISIONS
from ops.rescaling_reports import record_scaling_op

FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(minutes=40), warn_window=timedelta(minutes=20)
)
"""The report is taken every five minutes: four missed ones are a warning."""

DESCRIPTION = (
    "What the controller of rescaling has decided, also where nothing changed: load, replicas, "
    "limits, the rule that limited, and why.\n\nGrain: one row per workload, region and decision "
    "(looks that said the same are one row with their number), appended; a row that went on is "
    "there again, and its newest copy counts. Source: the control store's log. Freshness: every "
    "five minutes; each look in between is an observation, whose numbers plot."
)


def build_rescaling_assets() -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    @dg.graph_asset(
        **describe_table(SCALING_DECISIONS, DESCRIPTION, GROUP, None, CODE_VERSION),
        ins=after(CONTROL_STORE),
    )
    def scaling_decisions(control_store: Any) -> Any:
        return record_scaling_op(control_store)

    return with_freshness([scaling_decisions], FRESHNESS)
