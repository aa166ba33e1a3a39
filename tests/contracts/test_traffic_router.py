"""What every traffic adapter does: the embedded table, HAProxy, nginx and Route 53 alike.

HAProxy and nginx are the real servers, Route 53 is moto's server over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet.errors import InvalidInputError, StaleEpochError
from fleet.ports.traffic import RouteResult, TrafficRouter
from fleet.routes import Backend, LiveRoutes, RouteTable
from resources.traffic.embedded import EmbeddedRouter
from resources.traffic.haproxy import HaproxyRouter
from resources.traffic.haproxy_client import HaproxyClient
from resources.traffic.nginx import NginxRouter
from resources.traffic.route53 import Route53Router
from tests.servers.balancers import Balancer, need, running_haproxy, running_nginx
from tests.servers.moto_server import aws_client, moto_server

SERVICES = [f"svc-{number}" for number in range(40)]
_names = iter(SERVICES)


@pytest.fixture(scope="module", params=["embedded", "haproxy", "nginx", "route53"])
def router(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrafficRouter]:
    """Each adapter in turn, its server started once."""
    global _names  # noqa: PLW0603 - each adapter begins with fresh services
    _names = iter(SERVICES)
    if request.param == "embedded":
        yield EmbeddedRouter(tmp_path_factory.mktemp("routes"))
    elif request.param == "haproxy":
        with running_haproxy(SERVICES) as haproxy:
            yield HaproxyRouter(HaproxyClient(str(haproxy.folder / "admin.sock")))
    elif request.param == "nginx":
        with running_nginx() as nginx:
            yield nginx_router(nginx)
    else:
        with moto_server() as url, aws_client("route53", url) as client:
            zone = client.create_hosted_zone(Name="svc.example.com", CallerReference="1")
            yield Route53Router(client, zone["HostedZone"]["Id"], "svc.example.com")


def nginx_router(nginx: Balancer) -> NginxRouter:
    """The adapter of a running nginx."""
    folder = nginx.folder
    return NginxRouter(
        folder / "upstreams",
        config=folder / "nginx.conf",
        pid_file=folder / "nginx.pid",
        binary=need("nginx"),
    )


@pytest.fixture
def service(router: TrafficRouter) -> str:
    """A service that no other test has used on this adapter."""
    return next(_names)


def backend(agent_id: str, last: int = 2, epoch: int = 1, weight: int = 100) -> Backend:
    """A backend with an address of its own on loopback."""
    return Backend(agent_id, "eu", f"127.0.0.{last}", 8000, epoch, weight)


def table(service: str, *backends: Backend, revision: int = 1, term: int = 1) -> RouteTable:
    """A table."""
    return RouteTable(service, term, revision, backends)


def apply(router: TrafficRouter, *tables: RouteTable) -> list[RouteResult]:
    """Apply tables; nothing is refused."""
    results = router.apply_routes(tables)
    assert [result.error for result in results] == [None] * len(tables)
    return results


def live(router: TrafficRouter, service: str) -> LiveRoutes:
    """What is in force."""
    found = router.live_routes(service)
    assert found is not None
    return found


def test_a_service_that_was_never_applied_has_no_addresses(
    router: TrafficRouter, service: str
) -> None:
    """None, or empty where the balancer knows the name."""
    found = router.live_routes(service)
    assert found is None or found == LiveRoutes(service, 0, 0, ())


def test_an_applied_table_is_in_force(router: TrafficRouter, service: str) -> None:
    """As the balancer itself says."""
    (result,) = apply(router, table(service, backend("a", 2), backend("b", 3), revision=7, term=3))
    assert result == RouteResult(service, changed=True, error=None)
    assert live(router, service) == LiveRoutes(service, 3, 7, ("127.0.0.2", "127.0.0.3"))


def test_applying_again_changes_nothing(router: TrafficRouter, service: str) -> None:
    """Idempotent; a newer table with the same backends only raises the fence."""
    first = table(service, backend("a", 2), backend("b", 3))
    apply(router, first)
    assert not apply(router, first)[0].changed
    assert not apply(router, first._replace(revision=9))[0].changed
    assert live(router, service).revision == 9


@pytest.mark.parametrize(("term", "revision"), [(4, 9), (3, 99), (1, 1)])
def test_an_older_table_is_refused_and_changes_nothing(
    router: TrafficRouter, service: str, term: int, revision: int
) -> None:
    """By term first: a replaced controller's read may be newer than ours."""
    apply(router, table(service, backend("a", 2, epoch=2), revision=10, term=4))
    old = table(service, backend("a", 9, epoch=1), revision=revision, term=term)
    (result,) = router.apply_routes([old])
    assert isinstance(result.error, StaleEpochError)
    assert not result.changed
    assert live(router, service) == LiveRoutes(service, 4, 10, ("127.0.0.2",))


def test_a_new_leader_begins_with_whatever_revision_it_read(
    router: TrafficRouter, service: str
) -> None:
    """A higher term wins; and the same fence again may bring other backends (weights, silence)."""
    apply(router, table(service, backend("a", 2), revision=10, term=4))
    apply(router, table(service, backend("a", 3), revision=2, term=5))
    apply(router, table(service, backend("a", 3), backend("b", 4), revision=2, term=5))
    assert live(router, service) == LiveRoutes(service, 5, 2, ("127.0.0.3", "127.0.0.4"))


def test_a_moved_agent_is_at_its_new_address_only(router: TrafficRouter, service: str) -> None:
    """Under the next epoch; its neighbour is left alone."""
    apply(router, table(service, backend("a", 2), backend("b", 3)))
    moved = table(service, backend("a", 5, epoch=2), backend("b", 3), revision=2)
    assert apply(router, moved)[0].changed
    assert live(router, service).addresses == ("127.0.0.3", "127.0.0.5")


def test_a_changed_weight_is_a_change(router: TrafficRouter, service: str) -> None:
    """The addresses stay."""
    weighted = (backend("a", 2, weight=255), backend("b", 3)._replace(region="us"))
    apply(router, table(service, *weighted))
    lighter = (weighted[0], weighted[1]._replace(weight=7))
    assert apply(router, table(service, *lighter))[0].changed
    assert not apply(router, table(service, *lighter))[0].changed
    assert live(router, service).addresses == ("127.0.0.2", "127.0.0.3")


def test_a_service_can_lose_its_last_backend_and_get_one_again(
    router: TrafficRouter, service: str
) -> None:
    """Everything stopped is a state like any other; the fence stays."""
    apply(router, table(service, backend("a", 2)))
    assert apply(router, table(service, revision=2))[0].changed
    assert live(router, service) == LiveRoutes(service, 1, 2, ())
    (result,) = router.apply_routes([table(service, backend("a", 2), revision=1)])
    assert isinstance(result.error, StaleEpochError)
    apply(router, table(service, backend("a", 2), revision=3))
    assert live(router, service).addresses == ("127.0.0.2",)


def test_tables_of_a_batch_have_outcomes_of_their_own(router: TrafficRouter) -> None:
    """A refused one stops nobody."""
    one, two, three = next(_names), next(_names), next(_names)
    apply(router, table(two, backend("a", 2), revision=5))
    results = router.apply_routes(
        [
            table(one, backend("a", 2)),
            table(two, backend("a", 3), revision=4),
            table(three, backend("a", 4)),
        ]
    )
    assert [result.service for result in results] == [one, two, three]
    assert [type(result.error) for result in results] == [type(None), StaleEpochError, type(None)]
    addresses = [live(router, name).addresses for name in (one, two, three)]
    assert addresses == [("127.0.0.2",), ("127.0.0.2",), ("127.0.0.4",)]
    assert router.apply_routes([]) == []


def test_a_thousand_backends_go_in_one_call(router: TrafficRouter, service: str) -> None:
    """And are replaced, half of them, in another."""
    many = [
        Backend(f"agent-{number:04d}", "eu", f"127.0.{number % 50}.7", 8000 + number, 1, 10)
        for number in range(1000)
    ]
    apply(router, table(service, *many))
    assert len(live(router, service).addresses) == 50
    moved = [
        one._replace(address="127.0.99.1", epoch=2) if number % 2 else one
        for number, one in enumerate(many)
    ]
    apply(router, table(service, *moved, revision=2))
    assert len(live(router, service).addresses) == 26


def test_senseless_tables_are_refused_before_anything_is_applied(
    router: TrafficRouter, service: str
) -> None:
    """The whole batch, also where only the second table is wrong."""
    good = table(service, backend("a", 2))
    for bad in (
        table("other/service"),
        table(service, backend("a", 3)),  # the service twice
        table("svc-x", backend("b"), backend("a")),
        table("svc-x", backend("a"), backend("a")),
        table("svc-x", backend("a", weight=0)),
        table("svc-x", backend("a", weight=256)),
        table("svc-x", backend("a", epoch=0)),
        table("svc-x", backend("a")._replace(port=70000)),
        table("svc-x", backend("a")._replace(address="127.0.0.1; evil")),
        table("svc-x", revision=-1),
    ):
        with pytest.raises(InvalidInputError):
            router.apply_routes([good, bad])
    found = router.live_routes(service)
    assert found is None or found.addresses == ()
