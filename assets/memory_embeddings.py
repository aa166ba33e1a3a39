"""Embeddings of what agents note, one partition for each agent network."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.inventory import CONTROL_STORE
from assets.lake_tables import OWNERS, after, with_freshness
from ops.inventory import AGENTS
from ops.vector_jobs import EMBEDDINGS, embed_notes_op

GROUP = "vectors"
NOTES = "agent_notes"

CODE_VERSION = "1"
"""Of the columns and their meaning; raised when either changes."""

DAILY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
)
"""Of networks whose agents note something every day; minutes are judged by the checks, which know
whether a note waits."""


def build_notes_spec() -> dg.AssetSpec:
    """What agents note, which Dagster does not make."""
    return dg.AssetSpec(
        NOTES,
        description=(
            "What agents noted, and a log of what became of it, in the order of commits.\n\nGrain: "
            "one row per note. Source: agents, through their supervisors, in the control store. "
            "Freshness: seconds."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"sqlalchemy"},
        deps=[CONTROL_STORE, AGENTS],
    )


def build_embedding_assets(networks: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The one asset.

    Args:
        networks: names of the partitions.
    """

    @dg.graph_asset(
        **describe(
            EMBEDDINGS,
            "Vectors of notes, in batches that are appended and never changed.\n\nGrain: one row "
            "per note and change of it; the last one counts, one with `deleted` takes its note "
            "back. Source: `agent_notes`, by its log, each change once. The rows lie in the vector "
            "store (docs/formats/vectors.md). Freshness: with the index.",
            networks,
            "parquet",
        ),
        ins=after(NOTES),
    )
    def memory_embeddings(agent_notes: Any) -> Any:
        return embed_notes_op(agent_notes)

    return with_freshness([memory_embeddings], DAILY)


def describe(name: str, description: str, networks: Sequence[str], *kinds: str) -> dict[str, Any]:
    """Arguments of `graph_asset` for an asset of the group with a partition for each network."""
    return {
        "name": name,
        "description": description,
        "group_name": GROUP,
        "owners": OWNERS,
        "kinds": set(kinds),
        "tags": {"tier": "core"},
        "partitions_def": dg.StaticPartitionsDefinition(list(networks)),
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "code_version": CODE_VERSION,
    }
