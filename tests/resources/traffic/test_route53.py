"""Route 53 (moto's server, with AWS's strictness in front): records, races, limits, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from fleet.errors import InvalidInputError, PermanentError, StaleEpochError, TrafficUnavailableError
from fleet.routes import Backend, LiveRoutes, RouteTable
from resources.traffic.route53 import Route53Router, open_route53_client
from tests.servers.moto_server import ACCESS, aws_client, moto_server
from tests.servers.strict_route53 import StrictRoute53

DOMAIN = "svc.example.com"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of moto's server."""
    with moto_server() as url, aws_client("route53", url) as opened:
        yield opened


@pytest.fixture
def zone(client: Any, request: pytest.FixtureRequest) -> str:
    """A new hosted zone."""
    created = client.create_hosted_zone(Name=DOMAIN, CallerReference=request.node.name)
    return str(created["HostedZone"]["Id"])


@pytest.fixture
def strict(client: Any) -> StrictRoute53:
    """AWS's rules."""
    return StrictRoute53(client)


@pytest.fixture
def router(strict: StrictRoute53, zone: str) -> Route53Router:
    """The adapter."""
    return Route53Router(strict, zone, DOMAIN, ttl_s=30)


def backend(agent_id: str, address: str, region: str = "eu", weight: int = 100) -> Backend:
    """A backend."""
    return Backend(agent_id, region, address, 8000, 1, weight)


def table(*backends: Backend, revision: int = 1, term: int = 1) -> RouteTable:
    """A table of the service `web`."""
    return RouteTable("web", term, revision, backends)


def records(client: Any, zone: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Type and identifier to weight and values."""
    found = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {
        (record["Type"], record.get("SetIdentifier", "")): (
            record.get("Weight"),
            *sorted(value["Value"] for value in record["ResourceRecords"]),
        )
        for record in found
        if record["Name"] == f"web.{DOMAIN}."
    }


def test_a_region_is_one_weighted_record_set_per_family(
    client: Any, zone: str, router: Route53Router
) -> None:
    """Weights in proportion to what the regions' backends have together; addresses once."""
    router.apply_routes(
        [
            table(
                backend("a", "10.0.0.2"),
                backend("b", "10.0.0.1"),
                backend("c", "10.0.0.1"),
                backend("d", "10.1.0.1", "us", 60),
                backend("e", "2001:db8::1", "us", 90),
                revision=7,
            )
        ]
    )
    assert records(client, zone) == {
        ("A", "eu"): (255, "10.0.0.1", "10.0.0.2"),
        ("A", "us"): (128, "10.1.0.1"),
        ("AAAA", "us"): (128, "2001:db8::1"),
        ("TXT", ""): (None, '"stateroom term=1 revision=7 write=1"'),
    }
    assert router.live_routes("web") == LiveRoutes(
        "web", 1, 7, ("10.0.0.1", "10.0.0.2", "10.1.0.1", "2001:db8::1")
    )


def test_a_lost_region_leaves_the_names_in_one_batch(
    client: Any, zone: str, router: Route53Router, strict: StrictRoute53
) -> None:
    """Its records go and the survivor's stay, in a single change."""
    router.apply_routes([table(backend("a", "10.0.0.1"), backend("b", "10.1.0.1", "us"))])
    router.apply_routes([table(backend("a", "10.1.0.2", "us"), revision=2, term=2)])
    assert set(records(client, zone)) == {("A", "us"), ("TXT", "")}
    assert len(strict.batches) == 2
    assert [change["Action"] for change in strict.batches[1]] == [
        "DELETE",
        "CREATE",
        "DELETE",
        "UPSERT",
    ]


def test_of_two_writers_the_late_one_is_judged_again(
    client: Any, zone: str, router: Route53Router, strict: StrictRoute53
) -> None:
    """It had read before the newer table was applied: AWS refuses its batch, and we do then."""
    router.apply_routes([table(backend("a", "10.0.0.1"))])
    faster = Route53Router(client, zone, DOMAIN, ttl_s=30)
    newer = table(backend("a", "10.0.0.9"), revision=5)
    strict.before_change = lambda: faster.apply_routes([newer])
    (result,) = router.apply_routes([table(backend("a", "10.0.0.2"), revision=4)])
    assert isinstance(result.error, StaleEpochError)
    assert records(client, zone)["A", "eu"] == (255, "10.0.0.9")


def test_of_two_first_writers_the_late_one_is_judged_again(
    client: Any, zone: str, router: Route53Router, strict: StrictRoute53
) -> None:
    """Also where no record was there to be deleted; the newer of the two wins."""
    faster = Route53Router(client, zone, DOMAIN, ttl_s=30)
    strict.before_change = lambda: faster.apply_routes([table(backend("a", "10.0.0.9"))])
    (result,) = router.apply_routes([table(backend("a", "10.0.0.2"), revision=2)])
    assert result.error is None
    assert records(client, zone)["A", "eu"] == (255, "10.0.0.2")


def test_endless_interference_ends_in_an_error(
    client: Any, zone: str, router: Route53Router, strict: StrictRoute53
) -> None:
    """After five reads."""
    router.apply_routes([table(backend("a", "10.0.0.1"))])
    other = Route53Router(client, zone, DOMAIN, ttl_s=30)
    numbers = iter(range(100))

    def interfere() -> None:
        other.apply_routes([table(backend("a", f"10.0.1.{next(numbers)}"), revision=2)])
        strict.before_change = interfere

    strict.before_change = interfere
    with pytest.raises(TrafficUnavailableError, match="5 times in a row"):
        router.apply_routes([table(backend("a", "10.0.0.2"), revision=2)])


def test_other_names_of_the_zone_are_left_alone(
    client: Any, zone: str, router: Route53Router
) -> None:
    """Neighbours in the order of names; and a TXT record of somebody else is never replaced."""

    def put(name: str, kind: str, value: str) -> None:
        record = {"Name": name, "Type": kind, "TTL": 5, "ResourceRecords": [{"Value": value}]}
        change = {"Action": "CREATE", "ResourceRecordSet": record}
        client.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})

    put(f"weba.{DOMAIN}", "A", "10.9.9.9")
    put(f"mail.{DOMAIN}", "TXT", '"v=spf1 -all"')
    router.apply_routes([table(backend("a", "10.0.0.1"))])
    router.apply_routes([table(revision=2)])
    assert router.live_routes("weba") is None
    mail = RouteTable("mail", 1, 1, (backend("a", "10.0.0.1"),))
    (result,) = router.apply_routes([mail])
    assert isinstance(result.error, InvalidInputError)
    assert "spf1" in str(result.error)
    there = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    names = {(record["Name"], record["Type"]) for record in there}
    assert {(f"weba.{DOMAIN}.", "A"), (f"mail.{DOMAIN}.", "TXT")} <= names


def test_what_dns_cannot_hold_is_refused_by_name(router: Route53Router) -> None:
    """Capital letters, host names, more addresses than a set takes; the others are applied."""
    many = [backend(f"a{n:03}", f"10.0.{n // 250}.{n % 250}") for n in range(401)]
    wide = [
        backend(f"a{n:04}", f"10.{n // 250}.0.{n % 250}", f"region-{n // 300}") for n in range(900)
    ]
    results = router.apply_routes(
        [
            RouteTable("Web", 1, 1, ()),
            RouteTable("api", 1, 1, (backend("a", "node.example"),)),
            RouteTable("many", 1, 1, tuple(many)),
            RouteTable("wide", 1, 1, tuple(wide)),
            table(backend("a", "10.0.0.1")),
        ]
    )
    texts = [str(result.error) for result in results]
    assert "a DNS label" in texts[0]
    assert "an IP address" in texts[1]
    assert "up to 400" in texts[2]
    assert "up to 1000 in a batch" in texts[3]
    assert results[4].error is None
    with pytest.raises(InvalidInputError, match="ttl_s"):
        Route53Router(None, "Z1", DOMAIN, ttl_s=0)


def test_errors_of_aws_are_told_apart(zone: str) -> None:
    """No answer and throttling may pass; a missing zone does not."""
    dead = open_route53_client(endpoint_url="http://127.0.0.1:9", timeout_s=1.0, **ACCESS)
    try:
        with pytest.raises(TrafficUnavailableError, match="does not answer"):
            Route53Router(dead, zone, DOMAIN).live_routes("web")
    finally:
        dead.close()
    client = boto3.client("route53", region_name="us-east-1", **ACCESS)
    kinds = {
        ("Throttling", 400): TrafficUnavailableError,
        ("PriorRequestNotComplete", 400): TrafficUnavailableError,
        ("InternalError", 503): TrafficUnavailableError,
        ("NoSuchHostedZone", 404): PermanentError,
        ("InvalidChangeBatch", 400): PermanentError,
    }
    try:
        for (code, status), kind in kinds.items():
            with Stubber(client) as stub:
                stub.add_client_error("list_resource_record_sets", code, "text", status)
                with pytest.raises(kind, match="text"):
                    Route53Router(client, "Z123", DOMAIN).live_routes("web")
    finally:
        client.close()
