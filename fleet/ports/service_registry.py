"""The service registry: who answers for what, fenced by epochs, the same on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet.services import (
    CheckReport,
    Endpoint,
    GrayVerdict,
    Refusal,
    Registration,
    Removal,
    Renewal,
)


class OrderResult(NamedTuple):
    """Outcome of one order of a batch, as `fleet.services.settle_order` gave it."""

    key: str
    """`service/agent_id`."""
    error: Refusal | None
    """Why it was refused; None when it holds now."""


class ServiceRead(NamedTuple):
    """One service at one moment."""

    service: str
    revision: int
    """Rises with each visible change of the service, in commit order; never falls."""
    registrations: tuple[Registration, ...]
    """Present ones, ordered by agent_id."""


class ServiceReader(Protocol):
    """What readers of services need of a registry."""

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """The present entries of these services, in the given order; an unknown one is empty.

        On the control store all at one moment.
        """
        ...


class ServiceRegistry(ServiceReader, Protocol):
    """Entries of services, judged by `settle_order` in the order given.

    Each batch may hold any number of orders, and each call is idempotent. A refused order is a
    result and stops nobody. On the control store a batch is one transaction; on Consul one for each
    32 endpoints, so that a call that raises may have applied a part: it is made again.

    Every method raises `InvalidInputError` for an order that means nothing (nothing was applied),
    and a `TransientError` when the registry cannot be reached.
    """

    def register_endpoints(self, endpoints: Sequence[Endpoint]) -> list[OrderResult]:
        """Insert, replace or renew; an epoch below the highest that was seen is refused.

        A higher epoch takes the entry over, without the verdicts and checks of the copy before.
        """
        ...

    def renew_endpoints(self, renewals: Sequence[Renewal]) -> list[OrderResult]:
        """Count a sign of life; `NotFoundError` in a result means: register again."""
        ...

    def remove_endpoints(self, removals: Sequence[Removal]) -> list[OrderResult]:
        """Take out copies that were stopped or moved.

        `StaleEpochError` in a result means that a newer copy has registered: it stays.
        """
        ...

    def mark_gray(self, verdicts: Sequence[GrayVerdict]) -> list[OrderResult]:
        """Record the controller's verdicts; readers withhold within the panic rule."""
        ...

    def report_checks(self, reports: Sequence[CheckReport]) -> list[OrderResult]:
        """Record what health checks found."""
        ...

    def services(self) -> list[str]:
        """Names of all services that ever had an endpoint, in order."""
        ...

    def registrations_of(self, agent_ids: Sequence[str]) -> list[Registration]:
        """The present entries of these agents in all services, ordered by (agent_id, service)."""
        ...
