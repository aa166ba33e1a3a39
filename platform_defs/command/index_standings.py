"""How the indexes of all networks stand, as the control store knows it: one read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from platform_defs.command.store_access import fleet_store
from platform_defs.declared_vectors import declared_vectors
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from fleet.vectors.health import IndexHealth

COUNT_MAX = 100_000
"""Waiting notes are counted so far, as by the platform's own looks (`ops.vector_health`)."""


def waiting_notes(settings: Settings) -> dict[str, int]:
    """Network -> notes that its index does not hold yet; networks without any note are left out.

    Raises:
        StoreUnavailableError: the control store is not at hand.
    """
    with fleet_store(settings) as store:
        return {one.network_id: one.waiting for one in store.note_backlogs(COUNT_MAX)}


def index_health(settings: Settings, now: datetime) -> dict[str, IndexHealth]:
    """Network -> how its index stands; networks without any note are left out.

    Raises:
        StoreUnavailableError: the control store is not at hand.
    """
    from fleet.vectors.health import all_health

    with fleet_store(settings) as store:
        backlogs = store.note_backlogs(COUNT_MAX)
    found = all_health(backlogs, declared_vectors(settings), now)
    return {one.network_id: one for one in found}
