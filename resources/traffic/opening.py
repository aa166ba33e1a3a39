"""The routers that the settings name, ready for use, each behind a circuit breaker of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet.ports.traffic import ConfiguredRouter, TrafficRouter
from fleet.traffic_declaration import RouterDeclaration, RouterKind
from resources.circuit_breakers import CircuitBreakers, GuardedRouter

_COUNTING = frozenset({RouterKind.HAPROXY, RouterKind.NGINX})


@contextmanager
def opened_routers(
    declarations: Sequence[RouterDeclaration], breakers: CircuitBreakers
) -> Iterator[tuple[ConfiguredRouter, ...]]:
    """Make routers, and let go of what they hold at the end; none is asked anything yet.

    Args:
        declarations: each name once.
        breakers: of this process; that of a router is `traffic/<its name>`.
    """
    with ExitStack() as stack:
        yield tuple(
            ConfiguredRouter(
                one.name,
                GuardedRouter(_open(one, stack), breakers, one.name),
                one.services,
                one.kind in _COUNTING,
            )
            for one in declarations
        )


def _open(declaration: RouterDeclaration, stack: ExitStack) -> TrafficRouter:
    match declaration.kind:
        case RouterKind.EMBEDDED:
            from resources.traffic.embedded import EmbeddedRouter

            return EmbeddedRouter(Path(declaration.folder))
        case RouterKind.HAPROXY:
            from resources.traffic.haproxy import HaproxyRouter
            from resources.traffic.haproxy_client import HaproxyClient

            return HaproxyRouter(HaproxyClient(declaration.address))
        case RouterKind.NGINX:
            from resources.traffic.nginx import NginxRouter

            return NginxRouter(
                Path(declaration.folder),
                config=Path(declaration.config),
                pid_file=Path(declaration.pid_file),
                binary=declaration.binary,
            )
        case RouterKind.ROUTE53:
            return _route53(declaration, stack)


def _route53(declaration: RouterDeclaration, stack: ExitStack) -> TrafficRouter:
    import boto3

    from resources.traffic.route53 import Route53Router

    # Route 53 is one for all regions, and its signatures name us-east-1.
    client = boto3.client(
        "route53", region_name="us-east-1", endpoint_url=declaration.endpoint_url or None
    )
    stack.callback(client.close)
    return Route53Router(
        client, declaration.zone_id, declaration.domain, ttl_s=declaration.record_ttl_s
    )
