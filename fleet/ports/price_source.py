"""Where prices of nodes come from beside the settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from fleet.costs.prices import QuotedPrice
from fleet.costs.quotes import PriceQuestion


class PriceSource(Protocol):
    """A provider that quotes prices of instance types."""

    def quotes(self, questions: Sequence[PriceQuestion], now: datetime) -> list[QuotedPrice]:
        """The on-demand price of each question, in its order.

        Raises:
            NotFoundError: an instance type is not sold in a region; it is named.
            SourceUnavailableError: the provider does not answer.
            PermanentError: credentials are missing or refused, or the answer cannot be understood.
        """
        ...
