"""What every asset that is a table of the lake says of itself, in the same words."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

OWNERS = ["team:fleet-operations"]


def describe_table(
    name: str,
    description: str,
    group: str,
    partitions: dg.PartitionsDefinition[str] | None,
    code_version: str,
    *kinds: str,
) -> dict[str, Any]:
    """Arguments of `graph_asset` for a table.

    Args:
        name: of the asset and of the table.
        description: with grain, source and freshness.
        group: feature that it belongs to.
        partitions: networks or regions; None for a table about all of them at once.
        code_version: of the columns and their meaning.
        kinds: shown beside `parquet`.
    """
    return {
        "name": name,
        "description": description,
        "group_name": group,
        "owners": OWNERS,
        "kinds": {"parquet", *kinds},
        "tags": {"tier": "core"},
        "metadata": {"dagster/table_name": name},
        "partitions_def": partitions,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "code_version": code_version,
    }


def beside(*upstream: str) -> Mapping[str, dg.AssetIn]:
    """Lineage without data, to the same partition: rows travel through the lake."""
    return {name: dg.AssetIn(dagster_type=dg.Nothing) for name in upstream}


def after(*upstream: str) -> Mapping[str, dg.AssetIn]:
    """Lineage without data, to all partitions of what is partitioned otherwise."""
    every = dg.AllPartitionMapping()
    return {name: dg.AssetIn(dagster_type=dg.Nothing, partition_mapping=every) for name in upstream}


def with_freshness(
    assets: Sequence[dg.AssetsDefinition], policy: dg.FreshnessPolicy
) -> list[dg.AssetsDefinition]:
    """The same assets under a policy, which `graph_asset` does not take."""
    return [
        one.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=policy))
        for one in assets
    ]
