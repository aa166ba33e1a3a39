"""What the assets of the group `rescaling` share: their group, freshness and catalogue entry."""

from datetime import timedelta
from typing import Any

import dagster as dg

from assets.lake_tables import describe_table

GROUP = "rescaling"
CODE_VERSION = "1"
"""Of the columns and their meaning; raised when either changes."""

HOURLY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=4), warn_window=timedelta(hours=2, minutes=10)
)


def describe_whole_table(name: str, description: str) -> dict[str, Any]:
    """Arguments of `graph_asset` for a table about all regions at once."""
    catalogue = describe_table(name, description, GROUP, None, CODE_VERSION)
    del catalogue["partitions_def"], catalogue["backfill_policy"]
    return catalogue
