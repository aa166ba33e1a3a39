"""Where requests go: a table of each service's backends, applied to whatever balances them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet.errors import StateroomError
from fleet.routes import LiveRoutes, RouteTable


class RouteResult(NamedTuple):
    """Outcome of one table of a batch."""

    service: str
    changed: bool
    """Whether anything differed from what was there."""
    error: StateroomError | None
    """`StaleEpochError`: a newer table is in force; `NotFoundError`: the balancer has no such
    service. None: the table is in force."""


class TrafficRouter(Protocol):
    """Something that sends requests of a service to its backends.

    Applying is idempotent: a table that is in force already changes nothing, and a call that was
    cut short is made again. A table below the one in force, by (term, revision), is refused.
    """

    @property
    def name(self) -> str:
        """What `status` calls it, for example `haproxy`."""
        ...

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """Bring tables of many services into force; one result each, in the same order.

        Raises:
            InvalidInputError: a table means nothing; nothing was applied.
            TrafficUnavailableError: the balancer does not answer or refused the change; what was
                applied until then stays in force.
        """
        ...

    def live_routes(self, service: str) -> LiveRoutes | None:
        """What is in force, as the balancer itself has it; None when it has no such service.

        Raises:
            TrafficUnavailableError: the balancer does not answer.
        """
        ...


class ConfiguredRouter(NamedTuple):
    """A router as this deployment uses it."""

    name: str
    """Of its settings; its own says only its kind."""
    router: TrafficRouter
    services: frozenset[str] = frozenset()
    """The services that it balances; empty: all that it knows."""
    counts_connections: bool = False
    """It counts open connections itself, so that weights need only follow capacities."""
