"""How the indexes of all networks stand, as the control store knows it: one read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from platform_defs.command.store_access import fleet_store
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from fleet.vectors.health import IndexHealth


def index_health(settings: Settings, now: datetime) -> dict[str, IndexHealth]:
    """Network -> how its index stands; networks without any note are left out.

    Raises:
        StoreUnavailableError: the control store is not at hand.
    """
    from platform_defs.command.status_vectors import read_index_health

    with fleet_store(settings) as store:
        return {one.network_id: one for one in read_index_health(store, settings, now)}
