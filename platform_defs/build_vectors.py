"""Everything about vector indexes that Dagster runs."""

from typing import Any

from fleet.vectors.declaration import VectorDeclaration
from resources.vectors.resource import network_indexes_resource


def vector_resources(declaration: VectorDeclaration) -> dict[str, Any]:
    """Resources by key; nothing is opened."""
    return {
        "network_indexes": network_indexes_resource,
        "vector_declaration": declaration,
    }
