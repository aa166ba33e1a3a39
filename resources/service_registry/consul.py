"""The service registry on Consul's HTTP API.

The truth is one key of Consul's KV store per endpoint, `<prefix>/<service>/<agent_id>`, which holds
the registration as JSON and is only ever changed by compare-and-swap on its ModifyIndex; it is
never deleted, because a removed entry's epoch must not be forgotten. In the same transaction
(`PUT /v1/txn`) the catalog's service instance is set or deleted, so that Consul's DNS and its other
readers follow. All instances stand on one external node, so that an agent that was moved replaces
itself. Failing and gray instances get a low weight and are never made critical: Consul would empty
a service when the checker is at fault.

A transaction takes 64 operations (newer versions: 128), so 31 endpoints with their instances travel
together, or 64 renewals, which touch the KV only. Each transaction is committed as a whole; a call
that breaks off in between is made again.

Source: developer.hashicorp.com/consul/api-docs/{txn,kv,catalog}.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from fleet.errors import (
    CorruptObjectError,
    LeaseLostError,
    NotFoundError,
    RegistryUnavailableError,
    StaleEpochError,
)
from fleet.names import validate_name
from fleet.ports.service_registry import OrderResult, ServiceRead
from fleet.service_weights import WEIGHT_MIN
from fleet.services import (
    CheckHealth,
    CheckReport,
    Endpoint,
    GrayVerdict,
    Order,
    Registration,
    Removal,
    Renewal,
    is_visible_change,
    settle_order,
    validate_order,
)
from resources.service_registry.consul_client import ConsulClient

OPERATIONS_MAX = 64
"""Operations of a transaction that every version of Consul takes (`maxTxnOps`)."""
_CAS_ATTEMPTS = 8
"""Times that a batch is read and judged again because somebody else wrote in between."""
_CONSUL_WEIGHT_MAX = 65535
"""Largest weight of an instance (RFC 2782's field of 16 bits)."""

Cell = tuple[int, Registration]
"""ModifyIndex of an endpoint's key, and what it holds."""


class ConsulServiceRegistry:
    """`fleet.ports.service_registry.ServiceRegistry` on a Consul cluster.

    Args:
        client: of one agent or server of the cluster.
        prefix: of the keys, without slashes at its ends.
        node: name of the external node that the instances stand on.
    """

    def __init__(
        self, client: ConsulClient, *, prefix: str = "stateroom/endpoints", node: str = "stateroom"
    ) -> None:
        """Remember where; nothing is asked before the first call."""
        for part in prefix.split("/"):
            validate_name("consul prefix", part)
        self._client = client
        self._prefix = prefix
        self._node = validate_name("consul node", node)

    def register_endpoints(self, endpoints: Sequence[Endpoint]) -> list[OrderResult]:
        """Insert, replace or renew."""
        return self._order(endpoints)

    def renew_endpoints(self, renewals: Sequence[Renewal]) -> list[OrderResult]:
        """Count signs of life."""
        return self._order(renewals)

    def remove_endpoints(self, removals: Sequence[Removal]) -> list[OrderResult]:
        """Take out copies that were stopped or moved."""
        return self._order(removals)

    def mark_gray(self, verdicts: Sequence[GrayVerdict]) -> list[OrderResult]:
        """Record the controller's verdicts."""
        return self._order(verdicts)

    def report_checks(self, reports: Sequence[CheckReport]) -> list[OrderResult]:
        """Record what health checks found."""
        return self._order(reports)

    def services(self) -> list[str]:
        """Names of all services that ever had an endpoint, in order."""
        keys = self._client.get(f"/v1/kv/{self._prefix}/?keys&separator=/")
        cut = len(self._prefix) + 1
        return [str(key)[cut:-1] for key in keys or []]

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """The present entries of these services; the revision is the newest ModifyIndex."""
        reads = []
        for service in services:
            cells = self._cells(validate_name("service", service))
            revision = max((index for index, _ in cells.values()), default=0)
            present = (entry for _, entry in cells.values() if entry.present)
            ordered = sorted(present, key=lambda entry: entry.endpoint.agent_id)
            reads.append(ServiceRead(service, revision, tuple(ordered)))
        return reads

    def registrations_of(self, agent_ids: Sequence[str]) -> list[Registration]:
        """The present entries of these agents; one read of all keys."""
        wanted = set(agent_ids)
        found = [
            entry
            for _, entry in self._cells("").values()
            if entry.present and entry.endpoint.agent_id in wanted
        ]
        return sorted(found, key=lambda entry: (entry.endpoint.agent_id, entry.endpoint.service))

    def _cells(self, service: str) -> dict[str, Cell]:
        """All endpoints of a service by key; of all services when it is ''."""
        folder = f"{self._prefix}/{service}/" if service else f"{self._prefix}/"
        found = self._client.get(f"/v1/kv/{folder}?recurse")
        return {cell[1].endpoint.key: cell for cell in map(_decode, found or [])}

    def _order(self, orders: Sequence[Order]) -> list[OrderResult]:
        for order in orders:
            validate_order(order)
        results: list[OrderResult] = []
        # An endpoint's key, its instance, and once the node: 2 n + 1 operations.
        renewing = bool(orders) and all(isinstance(order, Renewal) for order in orders)
        size = OPERATIONS_MAX if renewing else (OPERATIONS_MAX - 1) // 2
        known: dict[str, Cell] = {}
        for service in dict.fromkeys(order.service for order in orders):
            known |= self._cells(service)
        for start in range(0, len(orders), size):
            results += self._order_chunk(orders[start : start + size], known)
        return results

    def _order_chunk(self, orders: Sequence[Order], known: dict[str, Cell]) -> list[OrderResult]:
        """Judge and swap until nobody interferes; `known` is brought up to date."""
        for _ in range(_CAS_ATTEMPTS):
            stored = {order.key: known[order.key][1] for order in orders if order.key in known}
            before = dict(stored)
            results = [_settle(stored, order) for order in orders]
            changed = [key for key in stored if stored[key] != before.get(key)]
            if not changed:
                return results
            answer = self._client.transact(self._operations(changed, stored, before, known))
            if answer is not None:
                indexes = {kv["Key"]: int(kv["ModifyIndex"]) for kv in answer}
                for key in changed:
                    known[key] = (indexes[f"{self._prefix}/{key}"], stored[key])
                return results
            for service in {order.service for order in orders}:
                known |= self._cells(service)
        raise RegistryUnavailableError(
            f"Consul {self._client.address}: endpoints were changed by others "
            f"{_CAS_ATTEMPTS} times in a row",
            hint="Try again; several controllers or supervisors write the same endpoints.",
        )

    def _operations(
        self,
        changed: Sequence[str],
        stored: dict[str, Registration],
        before: dict[str, Registration],
        known: dict[str, Cell],
    ) -> list[dict[str, Any]]:
        visible = [key for key in changed if is_visible_change(before.get(key), stored[key])]
        operations = [
            {
                "KV": {
                    "Verb": "cas",
                    "Key": f"{self._prefix}/{key}",
                    "Value": base64.b64encode(_encode(stored[key])).decode(),
                    "Index": known[key][0] if key in known else 0,
                }
            }
            for key in changed
        ]
        if visible:
            operations.append(_node(self._node))
        return operations + [_instance(self._node, stored[key]) for key in visible]


def _settle(stored: dict[str, Registration], order: Order) -> OrderResult:
    try:
        stored[order.key] = settle_order(stored.get(order.key), order)
    except (StaleEpochError, LeaseLostError, NotFoundError) as error:
        return OrderResult(order.key, error)
    return OrderResult(order.key, None)


def _node(name: str) -> dict[str, Any]:
    """The external node; no agent of Consul runs there, so none will take its services down."""
    node = {"Node": name, "Address": "127.0.0.1", "Meta": {"external-node": "true"}}
    return {"Node": {"Verb": "set", "Node": node}}


def _instance(node: str, entry: Registration) -> dict[str, Any]:
    """Set the catalog's instance, or delete it when the entry was removed."""
    endpoint = entry.endpoint
    service: dict[str, Any] = {"ID": endpoint.key, "Service": endpoint.service}
    if not entry.present:
        return {"Service": {"Verb": "delete", "Node": node, "Service": service}}
    usable = entry.health is not CheckHealth.FAILING and not entry.gray
    weight = min(endpoint.capacity, _CONSUL_WEIGHT_MAX) if usable else WEIGHT_MIN
    service |= {
        "Address": endpoint.address,
        "Port": endpoint.port,
        "Weights": {"Passing": weight, "Warning": WEIGHT_MIN},
        "Meta": {
            "agent_id": endpoint.agent_id,
            "node_id": endpoint.node_id,
            "region": endpoint.region,
            "epoch": str(endpoint.epoch),
        },
    }
    return {"Service": {"Verb": "set", "Node": node, "Service": service}}


def _encode(entry: Registration) -> bytes:
    fields = entry._asdict() | {"endpoint": entry.endpoint._asdict()}
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


def _decode(pair: dict[str, Any]) -> Cell:
    key = str(pair.get("Key"))
    try:
        fields = json.loads(base64.b64decode(pair["Value"], validate=True))
        endpoint = Endpoint(**fields.pop("endpoint"))
        health = CheckHealth(fields.pop("health"))
        entry = Registration(endpoint=endpoint, health=health, **fields)
        index = int(pair["ModifyIndex"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptObjectError(
            f"Consul key {key}: its value is no registration ({error!r})",
            hint="Somebody else writes below this prefix; choose another, or delete the key.",
        ) from error
    if not key.endswith(f"/{endpoint.key}"):
        raise CorruptObjectError(f"Consul key {key} holds the registration of {endpoint.key}")
    return index, entry
