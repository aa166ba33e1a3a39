"""Advice on what each workload should be allocated, as a table."""

from typing import Any

import dagster as dg

from assets.lake_tables import after, with_freshness
from assets.metrics import SAMPLES
from assets.rescaling import HOURLY, describe_whole_table
from fleet.rightsizing.records import ADVICE_TABLE
from ops.inventory import AGENTS
from ops.rightsizing import advise_rightsizing_op


def build_rightsizing_assets() -> list[dg.AssetsDefinition]:
    """The one asset."""
    catalogue = describe_whole_table(
        ADVICE_TABLE,
        "What one agent of each workload should be allocated of CPU and memory, and why: decaying "
        "histograms of what agents used, with a target, bounds, confidence and a back-test. "
        "Advice only: nothing applies it.\n\nGrain: one row per workload and resource, and look. "
        "Source: `metric_samples` and their rollups, allocations of `agent_inventory`. "
        "Freshness: hourly.",
    )

    @dg.graph_asset(**catalogue, ins=after(SAMPLES, AGENTS))
    def rightsizing_advice(metric_samples: Any, agent_inventory: Any) -> Any:
        return advise_rightsizing_op([metric_samples, agent_inventory])

    return with_freshness([rightsizing_advice], HOURLY)
