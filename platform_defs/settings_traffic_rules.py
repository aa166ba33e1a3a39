"""Rules between the settings of traffic: what each key alone cannot show to be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from fleet.errors import InvalidInputError
from fleet.names import is_name
from fleet.services import is_ip_address, validate_address
from fleet.traffic_declaration import RegistryKind, RouterKind
from platform_defs.settings_keys import default_of, key_fields
from platform_defs.settings_rules import Violation
from platform_defs.settings_source import nearest
from platform_defs.settings_traffic import DiscoverySettings, RouterSettings

NEEDED: dict[str, tuple[str, ...]] = {
    RouterKind.EMBEDDED: (),
    RouterKind.HAPROXY: ("address",),
    RouterKind.NGINX: ("config", "pid_file"),
    RouterKind.ROUTE53: ("zone_id", "domain"),
}
"""Keys that a router of the kind must have."""

OPTIONAL: dict[str, tuple[str, ...]] = {
    RouterKind.EMBEDDED: ("folder",),
    RouterKind.HAPROXY: (),
    RouterKind.NGINX: ("folder", "binary"),
    RouterKind.ROUTE53: ("endpoint_url", "record_ttl_s"),
}
"""Keys that it may have beside those."""

_FOR_ALL = ("kind", "services")
_ADDRESS = re.compile(r"/.+|.+:[0-9]{1,5}", re.ASCII)


def router_violations(
    routers: Sequence[RouterSettings], workloads: Sequence[str]
) -> Iterator[Violation]:
    """Each router has what its kind needs and nothing that it ignores; its services exist.

    Args:
        routers: the valid ones, in the order of the file.
        workloads: names of all workloads, also of those with a wrong key.
    """
    folders: dict[str, str] = {}
    for router in routers:
        here = ("routers", router.name)
        yield from _parameter_violations(router)
        for service in router.services:
            if service not in workloads:
                guess = nearest(service, workloads)
                meant = f"did you mean {guess!r}?" if guess else f"known: {', '.join(workloads)}"
                yield Violation((*here, "services"), f"unknown workload {service!r}; {meant}")
        if router.folder in folders:
            yield Violation(
                (*here, "folder"),
                f"router {folders[router.folder]} writes there as well; each has a folder of its "
                "own",
            )
        if router.folder:
            folders.setdefault(router.folder, router.name)


def discovery_violations(discovery: DiscoverySettings | None) -> Iterator[Violation]:
    """Consul has an address that can be asked, the control store nothing that it ignores.

    Args:
        discovery: None when a key of its own is wrong.
    """
    if discovery is None:
        return
    here = ("discovery",)
    if discovery.registry != RegistryKind.CONSUL:
        for name, spec in key_fields(DiscoverySettings).items():
            if name != "registry" and getattr(discovery, name) != default_of(spec):
                yield Violation(
                    (*here, name),
                    f"means nothing to the registry {discovery.registry!r}; "
                    f"only {RegistryKind.CONSUL.value!r} takes it",
                )
        return
    if not discovery.url:
        yield Violation(here, "the registry 'consul' needs `url`")
    elif not _is_server(discovery.url):
        yield Violation(
            (*here, "url"),
            "is not valid; allowed: http://host:port or https://host:port, without path or user",
        )
    if not all(is_name(part) for part in discovery.prefix.split("/")):
        yield Violation(
            (*here, "prefix"),
            f"{discovery.prefix!r} is not valid; allowed: names joined by '/', none at its ends",
        )


def _is_server(url: str) -> bool:
    parts = urlsplit(url)
    plain = not (parts.path.strip("/") or parts.query or parts.username or parts.password)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain


def _parameter_violations(router: RouterSettings) -> Iterator[Violation]:
    here, kind = ("routers", router.name), router.kind
    for name in NEEDED[kind]:
        if not getattr(router, name):
            yield Violation(here, f"a router of kind {kind!r} needs `{name}`")
    known = (*_FOR_ALL, *NEEDED[kind], *OPTIONAL[kind])
    for name, spec in key_fields(RouterSettings).items():
        if name not in known and getattr(router, name) != default_of(spec):
            listed = ", ".join((*NEEDED[kind], *OPTIONAL[kind]))
            yield Violation(
                (*here, name), f"means nothing to a router of kind {kind!r}; it takes: {listed}"
            )
    if kind == RouterKind.HAPROXY and router.address and not _is_runtime_api(router.address):
        yield Violation(
            (*here, "address"),
            f"{router.address!r} is not valid; allowed: /path/to/socket or host:port",
        )
    if kind == RouterKind.ROUTE53 and router.domain and not _is_domain(router.domain):
        yield Violation(
            (*here, "domain"),
            f"{router.domain!r} is not valid; allowed: a domain such as svc.example.com",
        )


def _is_runtime_api(address: str) -> bool:
    if not _ADDRESS.fullmatch(address):
        return False
    return address.startswith("/") or 1 <= int(address.rpartition(":")[2]) <= 65_535


def _is_domain(domain: str) -> bool:
    try:
        return not is_ip_address(validate_address(domain.strip(".")))
    except InvalidInputError:
        return False
