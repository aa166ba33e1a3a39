"""Tables of backends: what a view of a service means to a balancer, and which table is newer.

A table carries (term, revision): the term of the controller that made it and the registry's
revision it was made from. The registry refuses lower epochs and raises the revision with each
change, so a table with a higher revision never names a lower epoch, and one pair per service fences
every balancer, also those that have no room for an epoch per backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.errors import InvalidInputError, StaleEpochError
from fleet.names import validate_name
from fleet.service_health import ServiceView
from fleet.service_weights import WEIGHT_MAX, WEIGHT_MIN
from fleet.services import validate_address


class Backend(NamedTuple):
    """One endpoint as a balancer sees it."""

    agent_id: str
    region: str
    address: str
    port: int
    epoch: int
    weight: int
    """1 to 255."""


class RouteTable(NamedTuple):
    """All backends of a service, and how new that is."""

    service: str
    term: int
    revision: int
    backends: tuple[Backend, ...]
    """Ordered by agent_id; empty: nobody answers for the service."""

    @property
    def fence(self) -> tuple[int, int]:
        """What tables are compared by."""
        return (self.term, self.revision)


class LiveRoutes(NamedTuple):
    """What a balancer has in force."""

    service: str
    term: int
    """0 when the balancer has forgotten (it was started anew)."""
    revision: int
    addresses: tuple[str, ...]
    """Where new requests may go: distinct addresses without ports, in order."""


def plan_routes(view: ServiceView, term: int, weights: Mapping[str, int]) -> RouteTable:
    """The table of a view.

    Args:
        view: whom readers are given.
        term: of the controller that will apply it.
        weights: agent_id to weight (`fleet.service_weights`); who is missing has the smallest.
    """
    backends = tuple(
        Backend(
            entry.endpoint.agent_id,
            entry.endpoint.region,
            entry.endpoint.address,
            entry.endpoint.port,
            entry.endpoint.epoch,
            weights.get(entry.endpoint.agent_id, WEIGHT_MIN),
        )
        for entry in view.served
    )
    return RouteTable(view.service, term, view.revision, backends)


def validate_tables(tables: Sequence[RouteTable]) -> None:
    """Refuse tables that mean nothing, and a batch that names a service twice.

    Raises:
        InvalidInputError: names the field.
    """
    names: set[str] = set()
    for table in tables:
        validate_name("service", table.service)
        if table.service in names:
            raise InvalidInputError("service", table.service, "each service once in a batch")
        names.add(table.service)
        if table.term < 0 or table.revision < 0:
            raise InvalidInputError("fence", table.fence, "a term and a revision of 0 or more")
        agents = [backend.agent_id for backend in table.backends]
        if agents != sorted(set(agents)):
            raise InvalidInputError(
                f"backends of {table.service}", "(order)", "each agent once, ordered by agent_id"
            )
        for backend in table.backends:
            _validate_backend(backend)


def _validate_backend(backend: Backend) -> None:
    validate_name("agent_id", backend.agent_id)
    validate_name("region", backend.region)
    validate_address(backend.address)
    if not 1 <= backend.port <= 65535:
        raise InvalidInputError("port", backend.port, "1 to 65535")
    if backend.epoch < 1:
        raise InvalidInputError("epoch", backend.epoch, "1 or more")
    if not WEIGHT_MIN <= backend.weight <= WEIGHT_MAX:
        raise InvalidInputError("weight", backend.weight, f"{WEIGHT_MIN} to {WEIGHT_MAX}")


def judge_table(table: RouteTable, live: tuple[int, int] | None) -> StaleEpochError | None:
    """Say why a table may not replace the one in force; None: it may.

    Args:
        table: the wish.
        live: (term, revision) in force; None when there is none.
    """
    if live is None or table.fence >= live:
        return None
    return StaleEpochError(
        f"routes of {table.service}: term {table.term}, revision {table.revision} are older than "
        f"term {live[0]}, revision {live[1]}, which are in force",
        hint="Read the registry again; a newer controller or a newer read was first.",
    )
