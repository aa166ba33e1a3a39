"""Asks the provider for prices when the kept ones are too old, and keeps them with their date."""

from typing import Any

import dagster as dg

from fleet.costs.prices import PriceBook, QuotedPrice
from fleet.costs.quotes import (
    QUOTES_TABLE,
    QuotePolicy,
    merge_quotes,
    needed_quotes,
    stale_quotes,
    with_quotes,
)
from fleet.declaration import FleetDeclaration
from fleet.errors import NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.ports.price_source import PriceSource
from ops.evidence import column_schema, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes

PARTITION = "all"


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Ask for prices that are missing or too old.",
)
def quote_prices_op(
    context: dg.OpExecutionContext,
    price_source: dg.ResourceParam[PriceSource],
    quote_policy: dg.ResourceParam[QuotePolicy],
    price_book: dg.ResourceParam[PriceBook],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record the newest quote of everything; committed by `Lake.write` once all are answered."""
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        kept = read_quotes(lake)
        asked = stale_quotes(
            needed_quotes(price_book.nodes, fleet_declaration.regions),
            kept,
            quote_policy.max_age_s,
            now,
        )
        new = price_source.quotes(asked, now) if quote_policy.enabled else []
        rows = merge_quotes(kept, new)
        committed = lake.write(QUOTES_TABLE, PARTITION, to_table(rows, QuotedPrice), now)
    metadata: dict[str, Any] = {
        "quotes": len(rows),
        "asked": len(new),
        **object_evidence(committed),
        "preview": table_preview(rows, ("region", "instance_type", "node_hour", "quoted_at")),
        "dagster/table_name": QUOTES_TABLE,
        "dagster/column_schema": column_schema(QuotedPrice),
    }
    context.add_output_metadata(metadata)


def read_quotes(lake: Lake) -> list[QuotedPrice]:
    """The kept quotes; none when nobody was ever asked."""
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(QUOTES_TABLE, PARTITION), QuotedPrice)
    except NotFoundError:
        return []


def quoted_book(lake: Lake, book: PriceBook, policy: QuotePolicy) -> PriceBook:
    """The price book with what the provider last quoted, where it is to be asked at all."""
    return with_quotes(book, read_quotes(lake)) if policy.enabled else book
