"""The vector index of each agent network, and the health of all of them together."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.lake_tables import OWNERS, after, beside, with_freshness
from assets.memory_embeddings import DAILY, GROUP, describe
from ops.vector_health import HEALTH, measure_health_op
from ops.vector_jobs import EMBEDDINGS, INDEX, build_index_op

HOURLY = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=4), warn_window=timedelta(hours=2)
)


def build_index_assets(networks: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The index of each network, and a report about all.

    Args:
        networks: names of the partitions.
    """

    @dg.graph_asset(
        **describe(
            INDEX,
            "What answers similarity searches of a network's notes: immutable generations and one "
            "pointer.\n\nGrain: one index per network. It holds every note that was embedded when "
            "its refresh began. Recall is measured against exact search before it is published; "
            "below `vectors.recall_target` nothing is, and the generation before serves on. "
            "Source: `memory_embeddings`. Freshness: `vectors.refresh_age_s` after a note, and the "
            "seconds of a run.",
            networks,
            "faiss",
        ),
        ins=beside(EMBEDDINGS),
    )
    def vector_index(memory_embeddings: Any) -> Any:
        return build_index_op(memory_embeddings)

    @dg.graph_asset(
        name=HEALTH,
        description=(
            "How all vector indexes stand: what waits, recall, size, dead rows, how refreshes "
            "ended.\n\nGrain: the indexes together, a row per network in the metadata. Source: the "
            "standings that builders leave in the control store, and the log of notes. Freshness: "
            "hourly; `stateroom status` and the exporter look at every question."
        ),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"sqlalchemy"},
        tags={"tier": "core"},
        ins=after(INDEX),
    )
    def vector_index_health(vector_index: Any) -> Any:
        return measure_health_op(vector_index)

    return [*with_freshness([vector_index], DAILY), *with_freshness([vector_index_health], HOURLY)]
