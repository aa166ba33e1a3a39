"""What the settings say of traffic, reduced to what opens the routers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fleet.service_health import EMBEDDED_SERVICES, ServicePolicy


class RouterKind(StrEnum):
    """What sends requests to backends."""

    EMBEDDED = "embedded"
    HAPROXY = "haproxy"
    NGINX = "nginx"
    ROUTE53 = "route53"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterDeclaration:
    """One router; the parameters of other kinds are empty."""

    name: str
    kind: RouterKind
    services: frozenset[str] = frozenset()
    """That it balances; empty: all that it knows."""
    folder: str = ""
    """embedded, nginx: of the files that are written."""
    address: str = ""
    """haproxy: of the runtime API."""
    config: str = ""
    """nginx: its main file."""
    pid_file: str = ""
    """nginx: as its `pid` says."""
    binary: str = "nginx"
    """nginx: the program."""
    zone_id: str = ""
    """route53: of the hosted zone."""
    domain: str = ""
    """route53: below which the services are named."""
    endpoint_url: str = ""
    """route53: '' for AWS's own."""
    record_ttl_s: int = 60
    """route53: how long resolvers keep an answer."""


class RegistryKind(StrEnum):
    """What holds the entries of services."""

    CONTROL_STORE = "control_store"
    CONSUL = "consul"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryDeclaration:
    """The service registry; everything but `kind` is of Consul."""

    kind: RegistryKind = RegistryKind.CONTROL_STORE
    url: str = ""
    """Of one agent or server of the cluster."""
    token: str = field(default="", repr=False)
    """ACL token; '' for none."""
    prefix: str = "stateroom/endpoints"
    """Of the keys."""
    node: str = "stateroom"
    """External node that the instances stand on."""
    timeout_s: float = 5.0
    """Of silence."""


CONTROL_STORE_REGISTRY = RegistryDeclaration()
"""The default: no other system is needed."""


@dataclass(frozen=True, slots=True)
class TrafficDeclaration:
    """All routers of a deployment, and by which numbers services are read."""

    routers: tuple[RouterDeclaration, ...] = ()
    """Each name once."""
    policy: ServicePolicy = EMBEDDED_SERVICES
    registry: RegistryDeclaration = CONTROL_STORE_REGISTRY
