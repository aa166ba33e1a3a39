"""What the settings say of traffic, reduced to what opens the routers."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class TrafficDeclaration:
    """All routers of a deployment, and by which numbers services are read."""

    routers: tuple[RouterDeclaration, ...] = ()
    """Each name once."""
    policy: ServicePolicy = EMBEDDED_SERVICES
