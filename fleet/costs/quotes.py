"""Prices that a provider quotes: what is asked for, when it is asked again, what is kept.

A quote is kept in the lake with its date, so that a report can say what it was made with, and a
provider that does not answer does not take the report down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.costs.prices import NodePrice, PriceBook, QuotedPrice

QUOTES_TABLE = "price_quotes"


@dataclass(frozen=True, slots=True)
class QuotePolicy:
    """Whether a provider is asked, and how often."""

    enabled: bool = False
    max_age_s: int = 86_400
    endpoint_url: str = ""
    """Empty for the provider's own."""


class PriceQuestion(NamedTuple):
    """One instance type in one region."""

    region: str
    instance_type: str


def needed_quotes(prices: Iterable[NodePrice], regions: Sequence[str]) -> list[PriceQuestion]:
    """Everything the entries of a price book need quotes for; an entry of no region needs all.

    Returns:
        Sorted, none twice.
    """
    found = {
        PriceQuestion(region, one.instance_type)
        for one in prices
        if one.instance_type
        for region in ([one.region] if one.region else regions)
    }
    return sorted(found)


def stale_quotes(
    questions: Iterable[PriceQuestion],
    quotes: Iterable[QuotedPrice],
    max_age_s: float,
    now: datetime,
) -> list[PriceQuestion]:
    """Questions whose newest quote is too old, or that have none."""
    fresh = {
        PriceQuestion(one.region, one.instance_type)
        for one in quotes
        if now - one.quoted_at < timedelta(seconds=max_age_s)
    }
    return [one for one in questions if one not in fresh]


def merge_quotes(old: Iterable[QuotedPrice], new: Iterable[QuotedPrice]) -> list[QuotedPrice]:
    """The newest quote of each region and instance type, sorted."""
    found: dict[tuple[str, str], QuotedPrice] = {}
    for one in (*old, *new):
        key = (one.region, one.instance_type)
        if key not in found or found[key].quoted_at <= one.quoted_at:
            found[key] = one
    return [found[key] for key in sorted(found)]


def with_quotes(book: PriceBook, quotes: Iterable[QuotedPrice]) -> PriceBook:
    """The price book with the quotes in its currency; others cannot be added to its prices."""
    return replace(
        book,
        quotes={
            (one.region, one.instance_type): one for one in quotes if one.currency == book.currency
        },
    )
