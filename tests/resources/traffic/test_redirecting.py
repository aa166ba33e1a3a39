"""The whole way of a moved agent: registry, directory, table, balancer; and its zombie."""

from __future__ import annotations

from pathlib import Path

from fleet.errors import StaleEpochError
from fleet.routes import RouteTable, plan_routes
from fleet.service_health import EMBEDDED_SERVICES
from fleet.service_weights import least_connections_weights
from fleet.services import Endpoint, Removal
from resources.circuit_breakers import CircuitBreakers, GuardedRouter, GuardedServiceRegistry
from resources.control_store.opening import open_control_store
from resources.service_registry.directory import ServiceDirectory
from resources.traffic.haproxy import HaproxyRouter
from resources.traffic.haproxy_client import HaproxyClient
from tests.fakes.clock import ManualClock
from tests.servers.balancers import answering, running_haproxy
from tests.servers.empty_stores import sqlite_url


def test_requests_follow_a_moved_agent_and_its_zombie_is_refused_everywhere(
    tmp_path: Path,
) -> None:
    """Fenced at once, redirected when its successor is ready, never back."""
    clock = ManualClock()
    store = open_control_store(sqlite_url(tmp_path), clock=clock)
    breakers = CircuitBreakers(clock)
    registry = GuardedServiceRegistry(store, breakers, "control-store")
    directory = ServiceDirectory(registry, EMBEDDED_SERVICES, clock, lambda: True)

    def current(term: int) -> RouteTable:
        (answer,) = directory.refresh(["web"])
        return plan_routes(answer.view, term, least_connections_weights(answer.view.served))

    with (
        answering("other", "old", "new") as ports,
        running_haproxy(["web"]) as balancer,
    ):
        router = GuardedRouter(
            HaproxyRouter(HaproxyClient(str(balancer.folder / "admin.sock"))), breakers
        )
        old = Endpoint("web", "a", "n1", "eu", "127.0.0.1", ports["old"], 1)
        other = Endpoint("web", "b", "n2", "eu", "127.0.0.1", ports["other"], 1)
        registry.register_endpoints([old, other])
        before = current(term=1)
        router.apply_routes([before])
        assert {balancer.ask("web") for _ in range(8)} == {"old", "other"}

        (lost,) = registry.registrations_of(["a"])
        removal = Removal("web", "a", lost.endpoint.epoch, "n1 lost", moved=True, term=2)
        assert registry.remove_endpoints([removal])[0].error is None
        router.apply_routes([current(term=2)])
        assert [balancer.ask("web") for _ in range(4)] == ["other"] * 4

        new = old._replace(node_id="n2", port=ports["new"], epoch=2)
        assert registry.register_endpoints([new])[0].error is None
        assert isinstance(registry.remove_endpoints([removal])[0].error, StaleEpochError)
        router.apply_routes([current(term=2)])
        assert {balancer.ask("web") for _ in range(8)} == {"new", "other"}

        assert isinstance(registry.register_endpoints([old])[0].error, StaleEpochError)
        assert isinstance(router.apply_routes([before])[0].error, StaleEpochError)
        assert {balancer.ask("web") for _ in range(8)} == {"new", "other"}
    store.close()
