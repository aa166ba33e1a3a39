"""Where processes tell each other which of their circuit breakers are open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet.circuit_breaker import BreakerStatus


class BreakerStore(Protocol):
    """Breakers of all processes, so that `status` in one of them can show those of the others."""

    def report_breakers(self, statuses: Sequence[BreakerStatus]) -> None:
        """Replace what is known of these breakers, by (name, holder)."""
        ...

    def breakers(self, reported_within_s: float = 900.0) -> list[BreakerStatus]:
        """Breakers reported lately by the store's clock, ordered by (name, holder).

        A process that was killed cannot take its report back, so reports expire; a breaker that is
        not closed is reported again at least every minute in which it is used.
        """
        ...
