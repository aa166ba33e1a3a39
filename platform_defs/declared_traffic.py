"""What the settings declare of traffic, as the core takes it. Imports no Dagster."""

from __future__ import annotations

from pathlib import Path

from fleet.service_health import EMBEDDED_SERVICES, PRODUCTION_SERVICES
from fleet.traffic_declaration import (
    RegistryDeclaration,
    RegistryKind,
    RouterDeclaration,
    RouterKind,
    TrafficDeclaration,
)
from platform_defs.settings import Settings
from platform_defs.settings_traffic import DiscoverySettings, RouterSettings

EMBEDDED_ROUTER = "embedded"
"""Name of the router of deployments that name none."""


def simple_traffic(state_dir: str | Path) -> TrafficDeclaration:
    """One embedded table under the state folder."""
    folder = str(Path(state_dir) / "routes")
    return TrafficDeclaration(
        (RouterDeclaration(name=EMBEDDED_ROUTER, kind=RouterKind.EMBEDDED, folder=folder),)
    )


def declared_traffic(settings: Settings) -> TrafficDeclaration:
    """The routers of the settings, or the embedded one; numbers follow the profile of failover."""
    production = settings.failover.profile == "production"
    policy = PRODUCTION_SERVICES if production else EMBEDDED_SERVICES
    registry = declared_registry(settings.discovery)
    if not settings.routers:
        return TrafficDeclaration(
            simple_traffic(settings.fleet.state_dir).routers, policy, registry
        )
    routes = settings.fleet.state_dir / "routes"
    return TrafficDeclaration(
        tuple(_declared(one, routes / one.name) for one in settings.routers), policy, registry
    )


def declared_registry(discovery: DiscoverySettings) -> RegistryDeclaration:
    """The registry of the settings."""
    return RegistryDeclaration(
        kind=RegistryKind(discovery.registry),
        url=discovery.url,
        token=discovery.token,
        prefix=discovery.prefix,
        node=discovery.node,
        timeout_s=discovery.timeout_s,
    )


def _declared(router: RouterSettings, folder: Path) -> RouterDeclaration:
    kind = RouterKind(router.kind)
    writes = kind in {RouterKind.EMBEDDED, RouterKind.NGINX}
    return RouterDeclaration(
        name=router.name,
        kind=kind,
        services=frozenset(router.services),
        folder=router.folder or (str(folder) if writes else ""),
        address=router.address,
        config=router.config,
        pid_file=router.pid_file,
        binary=router.binary or "nginx",
        zone_id=router.zone_id,
        domain=router.domain,
        endpoint_url=router.endpoint_url,
        record_ttl_s=router.record_ttl_s,
    )
