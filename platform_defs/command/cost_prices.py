"""Prices and the live fleet, as the commands about costs take them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleet.costs.prices import PriceBook
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.store_access import fleet_store
from platform_defs.declared_costs import declared_prices, declared_quotes
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from fleet.agents import Workload
    from ops.costs import FleetLook


def price_book(settings: Settings) -> PriceBook:
    """The prices of the settings, with what the provider last quoted."""
    book = declared_prices(settings.costs, settings.prices)
    quotes = declared_quotes(settings.costs)
    if not quotes.enabled:
        return book
    from ops.price_quotes import quoted_book

    return quoted_book(existing_lake(settings), book, quotes)


def look_at_fleet(settings: Settings) -> tuple[FleetLook, list[Workload]]:
    """The fleet as the control store has it now."""
    from ops.costs import FleetLook, read_copied

    copied = {}
    if settings.lake.path.is_dir():
        copied = read_copied(existing_lake(settings), datetime.now(UTC))
    with fleet_store(settings) as store:
        seen = (store.nodes(), store.agents(), store.state_infos(), store.gpus())
        return FleetLook(*seen, copied), store.workloads()
