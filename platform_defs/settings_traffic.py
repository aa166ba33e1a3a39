"""Settings of traffic: the registry of services, and the routers that send requests to agents."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.traffic_declaration import RegistryKind, RouterKind
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """A balancer or name server that is told where agents answer; without any, an embedded table.

    docs/formats/traffic.md says what each is given.
    """

    name: str
    kind: str = key(kinds.choice(*(one.value for one in RouterKind)), "What the router is.")
    services: tuple[str, ...] = key(
        kinds.names(),
        "Services (workloads) that it balances; empty: all that it knows.",
        default=(),
    )
    folder: str = key(
        kinds.optional_text(),
        "embedded, nginx: folder of the files written. Empty: `{state_dir}/routes/<name>`.",
        default="",
    )
    address: str = key(
        kinds.optional_text(),
        "haproxy: its runtime API, `/path/to/socket` or `host:port`.",
        default="",
    )
    config: str = key(kinds.optional_text(), "nginx: its main configuration file.", default="")
    pid_file: str = key(kinds.optional_text(), "nginx: the file of its `pid`.", default="")
    binary: str = key(kinds.optional_text(), "nginx: the program; empty: `nginx`.", default="")
    zone_id: str = key(kinds.optional_text(), "route53: id of the hosted zone.", default="")
    domain: str = key(
        kinds.optional_text(), "route53: domain below which services are named.", default=""
    )
    endpoint_url: str = key(
        kinds.optional_url(), "route53: endpoint; empty takes that of AWS.", default=""
    )
    record_ttl_s: int = key(
        kinds.whole(1, 86_400, "seconds"),
        "route53: how long resolvers keep an answer.",
        default=60,
        unit="seconds",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """The service registry; docs/formats/traffic.md says what it holds where."""

    registry: str = key(
        kinds.choice(*(one.value for one in RegistryKind)),
        "What holds the endpoints of services: the control store, or a Consul cluster.",
        default=RegistryKind.CONTROL_STORE.value,
    )
    url: str = key(
        kinds.optional_url(),
        "consul: an agent or server, `http://host:8500` or `https://...`.",
        default="",
    )
    token: str = key(
        kinds.optional_text(),
        "consul: ACL token with `key:write`, `node:write` and `service:write`.",
        default="",
    )
    prefix: str = key(
        kinds.text("names joined by `/`"),
        "consul: of the keys.",
        default="stateroom/endpoints",
    )
    node: str = key(
        kinds.name(), "consul: the external node that all instances stand on.", default="stateroom"
    )
    timeout_s: float = key(
        kinds.number(0.1, 60, "seconds"),
        "consul: of silence, after which a call has failed.",
        default=5.0,
        unit="seconds",
    )
