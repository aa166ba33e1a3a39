"""Embeddings and indexes of all networks as a Dagster resource."""

import dagster as dg

from resources.vectors.network_indexes import NetworkIndexes


@dg.resource(
    required_resource_keys={"vector_declaration", "clock"},
    description="Embeddings and vector indexes of all networks; opened at the first use of a run.",
)
def network_indexes_resource(context: dg.InitResourceContext) -> NetworkIndexes:
    """A fresh handle on the declared store; nothing is opened before the first use."""
    return NetworkIndexes(context.resources.vector_declaration, context.resources.clock)
