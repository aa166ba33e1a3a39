"""Services: who answers for what, as one registry holds it, and the orders that may change it.

A service is a name; its endpoints are agents. An entry is keyed by (service, agent), so that an
agent that was moved replaces itself, and carries the epoch of the agent's placement: the registry
refuses lower ones. `settle_order` is the only place where an order is judged, for all registries.

An entry leaves for one of three reasons only: a stop or move that names an epoch (`Removal`), a
GRAY verdict, or silence while registry and controller are healthy. The last two withhold it from
readers (`fleet.service_health`) and never delete it, so that they can be wrong without harm.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from fleet.errors import InvalidInputError, LeaseLostError, NotFoundError, StaleEpochError
from fleet.names import validate_name, validate_text

CAPACITY_MAX = 1_000_000
"""Largest `capacity`; more would be a mistake of units."""

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~/%?=&-]{0,255}", re.ASCII)


class CheckHealth(StrEnum):
    """What the health checks of an endpoint say."""

    UNKNOWN = "unknown"
    """Not checked often enough yet."""
    PASSING = "passing"
    FAILING = "failing"


class Endpoint(NamedTuple):
    """An agent's word that it answers for a service."""

    service: str
    agent_id: str
    node_id: str
    region: str
    address: str
    """IP address or host name, without port."""
    port: int
    epoch: int
    """Of the agent's placement."""
    capacity: int = 1
    """Its size beside the others of its service: connections it takes for each one they take."""
    check_path: str = ""
    """Path of an HTTP health check; '' is checked by connecting."""

    @property
    def key(self) -> str:
        """`service/agent_id`; neither part can hold a slash."""
        return endpoint_key(self.service, self.agent_id)


class Registration(NamedTuple):
    """An endpoint as a registry holds it."""

    endpoint: Endpoint
    renewals: int = 0
    """Rises with each renewal; readers measure silence by when *they* saw it change."""
    connections: int = 0
    """Open connections, as the endpoint counted them at its last renewal."""
    health: CheckHealth = CheckHealth.UNKNOWN
    gray: bool = False
    """The controller's verdict: it beats, and nobody can use it."""
    reason: str = ""
    """Of the last verdict, check or removal."""
    term: int = 0
    """Highest term of a controller that ordered something about it."""
    present: bool = True
    """False: removed; the row keeps the epoch below which nobody may register."""


class Renewal(NamedTuple):
    """A sign of life of a registered endpoint."""

    service: str
    agent_id: str
    epoch: int
    connections: int = 0

    @property
    def key(self) -> str:
        """`service/agent_id`."""
        return endpoint_key(self.service, self.agent_id)


class Removal(NamedTuple):
    """An order to take out the copy of one epoch, because it was stopped or moved."""

    service: str
    agent_id: str
    epoch: int
    """Of the copy that leaves; a copy with a higher epoch is left alone."""
    reason: str
    moved: bool = False
    """Moved away: this very epoch may not register again either."""
    term: int | None = None
    """Of the controller that orders it; None when the agent's own supervisor does."""

    @property
    def key(self) -> str:
        """`service/agent_id`."""
        return endpoint_key(self.service, self.agent_id)


class GrayVerdict(NamedTuple):
    """The controller's verdict on an endpoint, or its end."""

    service: str
    agent_id: str
    epoch: int
    term: int
    gray: bool
    reason: str

    @property
    def key(self) -> str:
        """`service/agent_id`."""
        return endpoint_key(self.service, self.agent_id)


class CheckReport(NamedTuple):
    """What the checker of an endpoint has found; sent when it changes."""

    service: str
    agent_id: str
    epoch: int
    health: CheckHealth
    reason: str

    @property
    def key(self) -> str:
        """`service/agent_id`."""
        return endpoint_key(self.service, self.agent_id)


Order: TypeAlias = Endpoint | Renewal | Removal | GrayVerdict | CheckReport
"""Whatever changes an entry."""

Refusal: TypeAlias = StaleEpochError | LeaseLostError | NotFoundError


def endpoint_key(service: str, agent_id: str) -> str:
    """The key of an endpoint in every registry."""
    return f"{service}/{agent_id}"


def validate_order(order: Order) -> None:
    """Refuse an order that means nothing.

    Raises:
        InvalidInputError: names the field.
    """
    validate_name("service", order.service)
    validate_name("agent_id", order.agent_id)
    if order.epoch < 1:
        raise InvalidInputError("epoch", order.epoch, "1 or more: the epoch of the placement")
    if isinstance(order, Endpoint):
        _validate_endpoint(order)
    elif isinstance(order, Renewal):
        _within("connections", order.connections, 0, 2**31 - 1)
    else:
        validate_text("reason", order.reason)


def _validate_endpoint(endpoint: Endpoint) -> None:
    validate_name("node_id", endpoint.node_id)
    validate_name("region", endpoint.region)
    validate_address(endpoint.address)
    _within("port", endpoint.port, 1, 65535)
    _within("capacity", endpoint.capacity, 1, CAPACITY_MAX)
    if endpoint.check_path and _PATH.fullmatch(endpoint.check_path) is None:
        raise InvalidInputError("check_path", endpoint.check_path, "'' or a path like /health")


def validate_address(address: str) -> str:
    """Return an address that every balancer takes: an IP address or a host name, without port.

    Raises:
        InvalidInputError: it is neither.
    """
    if not is_ip_address(address) and _HOST.fullmatch(address) is None:
        raise InvalidInputError("address", address, "an IP address or a host name, without port")
    return address


def is_ip_address(address: str) -> bool:
    """Tell an IP address from a host name."""
    try:
        return ipaddress.ip_address(address) is not None
    except ValueError:
        return False


def _within(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise InvalidInputError(field, value, f"a whole number from {lowest} to {highest}")


def settle_order(stored: Registration | None, order: Order) -> Registration:
    """What the registry holds after an order; the order was validated before.

    The same order twice changes nothing the second time (a renewal only counts).

    Args:
        stored: what it holds now, present or removed; None when it never heard of the endpoint.
        order: what somebody wants.

    Raises:
        StaleEpochError: a copy of a higher epoch has registered, or this one was moved away.
        LeaseLostError: a controller of a higher term has decided about it.
        NotFoundError: there is nothing to renew, judge or check under this epoch.
    """
    if isinstance(order, Endpoint):
        return _register(stored, order)
    if isinstance(order, Removal):
        return _remove(stored, order)
    held = _held(stored, order)
    if isinstance(order, Renewal):
        return held._replace(renewals=held.renewals + 1, connections=order.connections)
    if isinstance(order, CheckReport):
        changed = order.health != held.health
        return held._replace(health=order.health, reason=order.reason) if changed else held
    _demand_term(held, order.term)
    reason = order.reason if order.gray != held.gray else held.reason
    return held._replace(gray=order.gray, term=order.term, reason=reason)


def is_visible_change(before: Registration | None, after: Registration) -> bool:
    """Whether readers of the service would see a difference other than a sign of life."""
    if before is None or not before.present:
        return after.present
    return before._replace(renewals=0, connections=0, term=0) != after._replace(
        renewals=0, connections=0, term=0
    )


def _register(stored: Registration | None, endpoint: Endpoint) -> Registration:
    if stored is None:
        return Registration(endpoint)
    held = stored.endpoint
    if endpoint.epoch < held.epoch:
        raise _stale(stored, endpoint.key, endpoint.epoch)
    renewals = stored.renewals + 1
    if stored.present and endpoint.epoch == held.epoch:
        return stored._replace(endpoint=endpoint, renewals=renewals)
    return Registration(endpoint, renewals=renewals, term=stored.term)


def _remove(stored: Registration | None, removal: Removal) -> Registration:
    floor = removal.epoch + 1 if removal.moved else removal.epoch
    if stored is None:
        nowhere = Endpoint(removal.service, removal.agent_id, "", "", "", 0, floor)
        return Registration(nowhere, reason=removal.reason, term=removal.term or 0, present=False)
    held = stored.endpoint
    was_done = not stored.present and held.epoch == floor
    if held.epoch > removal.epoch and not was_done:
        raise _stale(stored, removal.key, removal.epoch)
    if removal.term is not None:
        _demand_term(stored, removal.term)
    if was_done:
        return stored._replace(term=max(stored.term, removal.term or 0))
    return stored._replace(
        endpoint=held._replace(epoch=floor),
        gray=False,
        health=CheckHealth.UNKNOWN,
        connections=0,
        reason=removal.reason,
        term=max(stored.term, removal.term or 0),
        present=False,
    )


def _held(stored: Registration | None, order: Renewal | GrayVerdict | CheckReport) -> Registration:
    if stored is not None and order.epoch < stored.endpoint.epoch:
        raise _stale(stored, order.key, order.epoch)
    if stored is None or not stored.present or order.epoch > stored.endpoint.epoch:
        raise NotFoundError(
            f"endpoint {order.key} is not registered under epoch {order.epoch}",
            hint="Register the endpoint again; the registry may have lost it.",
        )
    return stored


def _demand_term(stored: Registration, term: int) -> None:
    if term < stored.term:
        raise LeaseLostError(
            f"endpoint {stored.endpoint.key}: term {term} is lower than {stored.term}, under which "
            "another controller has decided",
            hint="This controller was replaced; it must stop acting.",
        )


def _stale(stored: Registration, key: str, epoch: int) -> StaleEpochError:
    held = stored.endpoint
    where = f"node {held.node_id} holds" if stored.present else "is the lowest that may register"
    return StaleEpochError(
        f"endpoint {key}: epoch {epoch} is lower than {held.epoch}, which {where}",
        hint="This copy must stop; the agent has been placed again.",
    )
