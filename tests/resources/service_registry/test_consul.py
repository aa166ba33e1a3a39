"""Consul's adapter at its edges: races, lost answers, no leader, ACLs, what DNS readers see."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator

import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    PermanentError,
    RegistryUnavailableError,
    StaleEpochError,
)
from fleet.services import CheckHealth, CheckReport, Endpoint, GrayVerdict, Removal, Renewal
from resources.service_registry.consul import ConsulServiceRegistry
from resources.service_registry.consul_client import ConsulClient
from tests.servers.consul import ConsulDouble, consul_double


@pytest.fixture
def opened() -> Iterator[tuple[str, ConsulDouble]]:
    """A double of Consul."""
    with consul_double() as pair:
        yield pair


@pytest.fixture
def double(opened: tuple[str, ConsulDouble]) -> ConsulDouble:
    """Its inside."""
    return opened[1]


@pytest.fixture
def registry(opened: tuple[str, ConsulDouble]) -> ConsulServiceRegistry:
    """The adapter."""
    return ConsulServiceRegistry(ConsulClient(opened[0]))


def at(agent_id: str = "a1", epoch: int = 1, capacity: int = 1) -> Endpoint:
    """An endpoint."""
    return Endpoint("web", agent_id, "n1", "eu", "10.0.0.1", 8000, epoch, capacity)


def weights(double: ConsulDouble) -> dict[str, int]:
    """Weight of each instance in the catalog, as DNS readers get it."""
    return {
        instance["ServiceMeta"]["agent_id"]: instance["ServiceWeights"]["Passing"]
        for instance in double.catalog("web")
    }


def test_the_catalog_follows_in_the_same_transaction(
    registry: ConsulServiceRegistry, double: ConsulDouble
) -> None:
    """Instances with address, port and epoch; removed ones are gone, their epochs are not."""
    registry.register_endpoints([at("a1"), at("a2", epoch=3)])
    (_, second) = double.catalog("web")
    assert second["ServiceID"] == "web/a2"
    assert (second["ServiceAddress"], second["ServicePort"]) == ("10.0.0.1", 8000)
    assert second["ServiceMeta"]["epoch"] == "3"
    registry.remove_endpoints([Removal("web", "a2", 3, "stopped")])
    assert list(weights(double)) == ["a1"]
    assert "stateroom/endpoints/web/a2" in double.kv


def test_failing_and_gray_instances_weigh_least_and_are_never_taken_out(
    registry: ConsulServiceRegistry, double: ConsulDouble
) -> None:
    """The panic rule holds for DNS readers too, because there is nothing to withhold."""
    registry.register_endpoints([at("a1", capacity=50), at("a2", capacity=10**6), at("a3")])
    assert weights(double) == {"a1": 50, "a2": 65535, "a3": 1}
    registry.report_checks([CheckReport("web", "a1", 1, CheckHealth.FAILING, "refused")])
    registry.mark_gray([GrayVerdict("web", "a2", 1, 1, gray=True, reason="gray")])
    assert weights(double) == {"a1": 1, "a2": 1, "a3": 1}
    registry.report_checks([CheckReport("web", "a1", 1, CheckHealth.PASSING, "fine")])
    assert weights(double)["a1"] == 50


def test_a_thousand_endpoints_take_few_requests(
    registry: ConsulServiceRegistry, double: ConsulDouble
) -> None:
    """One read, and a transaction for each 31 endpoints or 64 renewals."""
    many = [at(f"agent-{number:04d}") for number in range(1000)]
    registry.register_endpoints(many)
    assert len(double.requests) == 1 + 33
    double.requests.clear()
    registry.renew_endpoints([Renewal("web", one.agent_id, 1) for one in many])
    assert len(double.requests) == 1 + 16


def test_a_zombie_between_our_look_and_our_write_is_still_refused(
    registry: ConsulServiceRegistry, double: ConsulDouble, opened: tuple[str, ConsulDouble]
) -> None:
    """The swap fails, we look again, and the higher epoch stays."""
    registry.register_endpoints([at(epoch=1)])
    other = ConsulServiceRegistry(ConsulClient(opened[0]))
    double.before_txn = lambda: other.register_endpoints([at(epoch=3)])
    (result,) = registry.register_endpoints([at(epoch=2)])
    assert isinstance(result.error, StaleEpochError)
    (read,) = registry.read_services(["web"])
    assert [entry.endpoint.epoch for entry in read.registrations] == [3]


def test_endless_interference_ends_in_an_error(
    registry: ConsulServiceRegistry, double: ConsulDouble, opened: tuple[str, ConsulDouble]
) -> None:
    """After eight looks."""
    registry.register_endpoints([at()])
    other = ConsulServiceRegistry(ConsulClient(opened[0]))
    busy = []

    def interfere() -> None:
        if len(busy) < 50:
            busy.append(1)
            double.before_txn = None
            other.renew_endpoints([Renewal("web", "a1", 1)])
            double.before_txn = interfere

    double.before_txn = interfere
    with pytest.raises(RegistryUnavailableError, match="8 times in a row"):
        registry.renew_endpoints([Renewal("web", "a1", 1)])


def test_a_lost_answer_is_an_error_and_the_same_call_again_is_harmless(
    registry: ConsulServiceRegistry, double: ConsulDouble
) -> None:
    """The transaction was applied, and nobody said so."""
    double.answer_lost = True
    with pytest.raises(RegistryUnavailableError, match="does not answer"):
        registry.register_endpoints([at(epoch=2)])
    assert [result.error for result in registry.register_endpoints([at(epoch=2)])] == [None]
    (read,) = registry.read_services(["web"])
    assert [entry.endpoint.epoch for entry in read.registrations] == [2]


def test_a_cluster_without_a_leader_is_a_transient_error(
    registry: ConsulServiceRegistry, double: ConsulDouble
) -> None:
    """For reads and writes, with Consul's own words."""
    double.leaderless = True
    with pytest.raises(RegistryUnavailableError, match="No cluster leader"):
        registry.read_services(["web"])
    with pytest.raises(RegistryUnavailableError, match="No cluster leader"):
        registry.services()
    double.leaderless = False
    double.before_txn = lambda: setattr(double, "leaderless", True)
    assert [result.error for result in registry.register_endpoints([at()])] == [None]
    with pytest.raises(RegistryUnavailableError):
        registry.registrations_of(["a1"])


def test_a_missing_right_is_a_permanent_error(
    opened: tuple[str, ConsulDouble], double: ConsulDouble
) -> None:
    """The token travels in its header."""
    double.token = "secret"
    with pytest.raises(PermanentError, match="Permission denied"):
        ConsulServiceRegistry(ConsulClient(opened[0])).services()
    assert ConsulServiceRegistry(ConsulClient(opened[0], token="secret")).services() == []


def test_a_transaction_that_is_rolled_back_for_good_is_not_tried_for_ever(
    opened: tuple[str, ConsulDouble], double: ConsulDouble
) -> None:
    """Anything but a stale index is no race."""
    client = ConsulClient(opened[0])
    service = {"ID": "x", "Service": "x"}
    with pytest.raises(PermanentError, match="Missing node registration"):
        client.transact([{"Service": {"Verb": "set", "Node": "nowhere", "Service": service}}])
    too_many = [{"KV": {"Verb": "set", "Key": "k", "Value": ""}}] * 65
    with pytest.raises(PermanentError, match="too many operations"):
        client.transact(too_many)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b'{"endpoint":{}}', b'{"endpoint":1,"health":"passing"}']
)
def test_a_foreign_value_below_our_prefix_is_named(
    registry: ConsulServiceRegistry, double: ConsulDouble, value: bytes
) -> None:
    """It is never taken for an endpoint."""
    text = base64.b64encode(value).decode()
    key = "stateroom/endpoints/web/a1"
    double.transact([{"KV": {"Verb": "set", "Key": key, "Value": text}}])
    with pytest.raises(CorruptObjectError, match="web/a1"):
        registry.read_services(["web"])


def test_a_registration_under_a_foreign_key_is_named(
    registry: ConsulServiceRegistry, double: ConsulDouble
) -> None:
    """Somebody has copied keys."""
    registry.register_endpoints([at("a1")])
    copied = double.kv["stateroom/endpoints/web/a1"]["Value"]
    key = "stateroom/endpoints/web/a2"
    double.transact([{"KV": {"Verb": "set", "Key": key, "Value": copied}}])
    with pytest.raises(CorruptObjectError, match="web/a2 holds the registration of web/a1"):
        registry.read_services(["web"])


def test_what_is_no_consul_is_an_error() -> None:
    """Nobody there, a wrong URL, another server's answer."""
    for url in ("127.0.0.1:8500", "ftp://x", "http://", "http://host/path"):
        with pytest.raises(InvalidInputError, match="consul url"):
            ConsulClient(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RegistryUnavailableError, match="does not answer"):
        ConsulServiceRegistry(ConsulClient(f"http://127.0.0.1:{port}", timeout_s=1)).services()
    for prefix in ("", "a//b", "/a"):
        with pytest.raises(InvalidInputError, match="consul prefix"):
            ConsulServiceRegistry(ConsulClient("http://127.0.0.1:1"), prefix=prefix)


@pytest.mark.parametrize("answer", ["<html>", json.dumps({"a": 1})])
def test_an_answer_that_cannot_be_read_is_a_transient_error(
    double: ConsulDouble, registry: ConsulServiceRegistry, answer: str
) -> None:
    """A proxy's page, for example."""
    double.read_kv = lambda *_: (200, answer)  # type: ignore[method-assign]
    with pytest.raises(RegistryUnavailableError, match="cannot be read"):
        registry.read_services(["web"])
