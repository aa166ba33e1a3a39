"""How subcommands reach embeddings and indexes: only those that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_defs.declared_vectors import declared_vectors
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from resources.vectors.network_indexes import NetworkIndexes


def opened_indexes(settings: Settings) -> NetworkIndexes:
    """The declared store, to write or to inspect; nothing is opened or imported yet."""
    from resources.clock import SystemClock
    from resources.vectors.network_indexes import NetworkIndexes

    return NetworkIndexes(declared_vectors(settings), SystemClock())


def existing_indexes(settings: Settings) -> NetworkIndexes:
    """The declared store, to search.

    Raises:
        NotFoundError: nothing was ever embedded (an inspection must not make a store).
    """
    indexes = opened_indexes(settings)
    indexes.demand_store()
    return indexes
