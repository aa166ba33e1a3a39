"""What every service registry does: the fake, SQLite, PostgreSQL and Consul's API alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from fleet.errors import InvalidInputError, LeaseLostError, NotFoundError, StaleEpochError
from fleet.ports.service_registry import OrderResult, ServiceRegistry
from fleet.services import (
    CheckHealth,
    CheckReport,
    Endpoint,
    GrayVerdict,
    Order,
    Registration,
    Removal,
    Renewal,
)
from resources.control_store.opening import open_control_store
from resources.service_registry.consul import ConsulServiceRegistry
from resources.service_registry.consul_client import ConsulClient
from tests.fakes.clock import ManualClock
from tests.fakes.service_registry import InMemoryServiceRegistry
from tests.servers.consul import consul_binary, consul_double, real_consul
from tests.servers.empty_stores import postgres_url, sqlite_url
from tests.servers.postgres import PostgresServer

KINDS = [
    "memory",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    "consul",  # the real one where it is installed, else the double of its API
]
_numbers = iter(range(10**6))


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest) -> Iterator[object]:
    """Each backend in turn, opened once."""
    if request.param == "memory":
        yield None
    elif request.param == "consul" and consul_binary() is None:
        with consul_double() as (url, _):
            yield url
    elif request.param == "consul":
        with real_consul(request.getfixturevalue("tmp_path_factory").mktemp("consul")) as url:
            yield url
    else:
        if request.param == "sqlite":
            folder = request.getfixturevalue("tmp_path_factory").mktemp("registry")
            address = sqlite_url(folder)
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            address = postgres_url(server, "service_registry_contract")
        store = open_control_store(address, clock=ManualClock())
        yield store
        store.close()


@pytest.fixture
def registry(opened: object) -> ServiceRegistry:
    """A registry of the kind; services of earlier tests stay, so each test names its own."""
    if opened is None:
        return InMemoryServiceRegistry()
    if isinstance(opened, str):
        return ConsulServiceRegistry(ConsulClient(opened))
    return opened  # type: ignore[return-value]


@pytest.fixture
def service() -> str:
    """A name that no other test has used."""
    return f"svc-{next(_numbers)}"


def at(service: str, agent_id: str = "a1", epoch: int = 1, node_id: str = "n1") -> Endpoint:
    """An endpoint of an agent."""
    return Endpoint(service, agent_id, node_id, "eu", "127.0.0.1", 8000 + epoch, epoch)


def entries(registry: ServiceRegistry, service: str) -> tuple[Registration, ...]:
    """What is there now."""
    (read,) = registry.read_services([service])
    return read.registrations


def revision(registry: ServiceRegistry, service: str) -> int:
    """The service's revision."""
    (read,) = registry.read_services([service])
    return read.revision


def refusals(results: list[OrderResult]) -> list[type[Exception] | None]:
    """The kinds of errors, in order."""
    return [None if result.error is None else type(result.error) for result in results]


def test_an_endpoint_is_read_back_as_it_was_registered(
    registry: ServiceRegistry, service: str
) -> None:
    """All fields survive, in the order of agents; other services stay out."""
    full = Endpoint(service, "b.2", "node-7", "eu-west", "host.example", 443, 3, 7, "/health?x=1")
    results = registry.register_endpoints([full, at(service), at(f"{service}x")])
    assert refusals(results) == [None, None, None]
    found = entries(registry, service)
    assert [entry.endpoint for entry in found] == [at(service), full]
    assert found[0] == Registration(at(service))
    assert {service, f"{service}x"} <= set(registry.services())


def test_a_service_nobody_registered_is_empty_at_revision_zero(
    registry: ServiceRegistry, service: str
) -> None:
    """Asking is no error, and asking for none gives none."""
    (read,) = registry.read_services([service])
    assert (read.revision, read.registrations) == (0, ())
    assert registry.read_services([]) == []


def test_registering_again_changes_nothing_but_the_sign_of_life(
    registry: ServiceRegistry, service: str
) -> None:
    """Idempotent: verdict, check and term stay."""
    registry.register_endpoints([at(service)])
    registry.mark_gray([GrayVerdict(service, "a1", 1, 5, gray=True, reason="nobody reaches it")])
    (before,) = entries(registry, service)
    assert refusals(registry.register_endpoints([at(service)])) == [None]
    (after,) = entries(registry, service)
    assert after == before._replace(renewals=before.renewals + 1)


def test_a_lower_epoch_is_refused_and_a_higher_one_takes_over(
    registry: ServiceRegistry, service: str
) -> None:
    """The moved agent replaces itself under one key; its old copy cannot come back."""
    registry.register_endpoints([at(service, epoch=2)])
    registry.mark_gray([GrayVerdict(service, "a1", 2, 1, gray=True, reason="gray")])
    registry.register_endpoints([at(service, epoch=3, node_id="n2")])
    results = registry.register_endpoints([at(service, epoch=2)])
    assert refusals(results) == [StaleEpochError]
    assert "epoch 2 is lower than 3" in str(results[0].error) or "<" in str(results[0].error)
    (entry,) = entries(registry, service)
    assert (entry.endpoint.node_id, entry.gray, entry.health) == ("n2", False, CheckHealth.UNKNOWN)


@pytest.mark.parametrize("epoch", [1, 3])
def test_signs_of_life_verdicts_and_checks_need_the_registered_epoch(
    registry: ServiceRegistry, service: str, epoch: int
) -> None:
    """Below it they are stale; above it there is nothing they could be about."""
    registry.register_endpoints([at(service, epoch=2)])
    before = entries(registry, service)
    kind = StaleEpochError if epoch < 2 else NotFoundError
    assert refusals(registry.renew_endpoints([Renewal(service, "a1", epoch)])) == [kind]
    verdict = GrayVerdict(service, "a1", epoch, 1, gray=True, reason="r")
    assert refusals(registry.mark_gray([verdict])) == [kind]
    check = CheckReport(service, "a1", epoch, CheckHealth.FAILING, "r")
    assert refusals(registry.report_checks([check])) == [kind]
    assert entries(registry, service) == before


def test_a_renewal_counts_and_brings_the_open_connections(
    registry: ServiceRegistry, service: str
) -> None:
    """It makes no entry: who is not known registers first."""
    assert refusals(registry.renew_endpoints([Renewal(service, "a1", 1)])) == [NotFoundError]
    registry.register_endpoints([at(service)])
    registry.renew_endpoints([Renewal(service, "a1", 1, 17), Renewal(service, "a1", 1, 18)])
    (entry,) = entries(registry, service)
    assert (entry.renewals, entry.connections) == (2, 18)


def test_a_stopped_copy_leaves_and_may_register_again_under_its_epoch(
    registry: ServiceRegistry, service: str
) -> None:
    """A restart on the same node keeps the epoch; an older copy stays out."""
    registry.register_endpoints([at(service, epoch=4), at(service, "a2")])
    stop = Removal(service, "a1", 4, "stopped")
    assert refusals(registry.remove_endpoints([stop])) == [None]
    assert refusals(registry.remove_endpoints([stop])) == [None]
    assert [entry.endpoint.agent_id for entry in entries(registry, service)] == ["a2"]
    assert refusals(registry.renew_endpoints([Renewal(service, "a1", 4)])) == [NotFoundError]
    assert refusals(registry.register_endpoints([at(service, epoch=3)])) == [StaleEpochError]
    assert refusals(registry.register_endpoints([at(service, epoch=4)])) == [None]
    assert len(entries(registry, service)) == 2


def test_a_moved_copy_may_not_register_again_under_its_epoch(
    registry: ServiceRegistry, service: str
) -> None:
    """The zombie knows epoch 4 only; its successor has 5."""
    registry.register_endpoints([at(service, epoch=4)])
    move = Removal(service, "a1", 4, "node-1 lost", moved=True, term=2)
    assert refusals(registry.remove_endpoints([move])) == [None]
    assert refusals(registry.remove_endpoints([move])) == [None]
    assert refusals(registry.register_endpoints([at(service, epoch=4)])) == [StaleEpochError]
    assert refusals(registry.register_endpoints([at(service, epoch=5)])) == [None]


def test_a_removal_never_takes_out_the_successor(registry: ServiceRegistry, service: str) -> None:
    """An order that arrives after the new copy has registered is refused as stale."""
    registry.register_endpoints([at(service, epoch=5, node_id="n2")])
    late = Removal(service, "a1", 4, "node-1 lost", moved=True, term=2)
    assert refusals(registry.remove_endpoints([late])) == [StaleEpochError]
    assert len(entries(registry, service)) == 1


def test_a_removal_is_remembered_for_an_endpoint_that_never_registered(
    registry: ServiceRegistry, service: str
) -> None:
    """The copy that was moved away before its first registration comes late."""
    registry.remove_endpoints([Removal(service, "a1", 4, "moved", moved=True, term=1)])
    assert entries(registry, service) == ()
    assert refusals(registry.register_endpoints([at(service, epoch=4)])) == [StaleEpochError]
    assert refusals(registry.register_endpoints([at(service, epoch=5)])) == [None]


def test_orders_of_a_replaced_controller_are_refused(
    registry: ServiceRegistry, service: str
) -> None:
    """Whoever has decided under a higher term is obeyed; the supervisor's own stop has no term."""
    registry.register_endpoints([at(service)])
    registry.mark_gray([GrayVerdict(service, "a1", 1, 7, gray=True, reason="r")])
    old = GrayVerdict(service, "a1", 1, 6, gray=False, reason="r")
    assert refusals(registry.mark_gray([old])) == [LeaseLostError]
    removal = Removal(service, "a1", 1, "r", term=6)
    assert refusals(registry.remove_endpoints([removal])) == [LeaseLostError]
    assert entries(registry, service)[0].gray
    assert refusals(registry.remove_endpoints([Removal(service, "a1", 1, "stopped")])) == [None]
    assert entries(registry, service) == ()


def test_verdicts_and_checks_are_recorded_with_their_reasons(
    registry: ServiceRegistry, service: str
) -> None:
    """And taken back; an unchanged one keeps the first reason."""
    registry.register_endpoints([at(service)])
    registry.report_checks([CheckReport(service, "a1", 1, CheckHealth.FAILING, "refused")])
    registry.report_checks([CheckReport(service, "a1", 1, CheckHealth.FAILING, "timed out")])
    (entry,) = entries(registry, service)
    assert (entry.health, entry.reason) == (CheckHealth.FAILING, "refused")
    registry.mark_gray([GrayVerdict(service, "a1", 1, 1, gray=True, reason="gray")])
    registry.mark_gray([GrayVerdict(service, "a1", 1, 2, gray=False, reason="usable again")])
    (entry,) = entries(registry, service)
    assert (entry.gray, entry.reason, entry.term) == (False, "usable again", 2)


def test_the_revision_rises_with_each_visible_change_and_never_falls(
    registry: ServiceRegistry, service: str
) -> None:
    """Registration, takeover, verdict, check, removal; a refused order leaves it."""
    seen = [revision(registry, service)]
    for orders in (
        lambda: registry.register_endpoints([at(service)]),
        lambda: registry.register_endpoints([at(service, epoch=2)]),
        lambda: registry.mark_gray([GrayVerdict(service, "a1", 2, 1, gray=True, reason="r")]),
        lambda: registry.report_checks([CheckReport(service, "a1", 2, CheckHealth.PASSING, "")]),
        lambda: registry.remove_endpoints([Removal(service, "a1", 2, "stopped")]),
    ):
        assert refusals(orders()) == [None]
        seen.append(revision(registry, service))
    assert seen == sorted(set(seen))
    registry.register_endpoints([at(service, epoch=1)])
    assert revision(registry, service) == seen[-1]


def test_a_refused_order_of_a_batch_stops_nobody(registry: ServiceRegistry, service: str) -> None:
    """Orders of a batch are judged one after another, also about the same endpoint."""
    results = registry.register_endpoints(
        [at(service, epoch=2), at(service, epoch=1), at(service, epoch=3), at(service, "a2")]
    )
    assert refusals(results) == [None, StaleEpochError, None, None]
    assert [result.key for result in results] == [f"{service}/a1"] * 3 + [f"{service}/a2"]
    assert [entry.endpoint.epoch for entry in entries(registry, service)] == [3, 1]


def test_a_senseless_order_is_refused_before_any_is_applied(
    registry: ServiceRegistry, service: str
) -> None:
    """The whole batch: nothing is half done."""
    for bad in (
        at(service)._replace(port=0),
        at(service)._replace(address="http://x"),
        at(service)._replace(address="1.2.3.4:80"),
        at(service, "a/b"),
        at(service, epoch=0),
        at(service)._replace(check_path="health"),
        at(service)._replace(capacity=0),
    ):
        with pytest.raises(InvalidInputError):
            registry.register_endpoints([at(service), bad])
    assert entries(registry, service) == ()


def test_a_thousand_endpoints_go_in_one_call(registry: ServiceRegistry, service: str) -> None:
    """Registered, renewed and removed; an agent is found in all its services."""
    many = [at(service, f"agent-{number:04d}") for number in range(1000)]
    assert refusals(registry.register_endpoints(many)) == [None] * 1000
    assert len(entries(registry, service)) == 1000
    renewals = [Renewal(service, endpoint.agent_id, 1, 2) for endpoint in many]
    assert refusals(registry.renew_endpoints(renewals)) == [None] * 1000
    registry.register_endpoints([at(f"{service}-b", "agent-0007")])
    ours = [
        entry.endpoint.key
        for entry in registry.registrations_of(["agent-0007", "agent-0003", "nobody"])
        if entry.endpoint.service.startswith(service)
    ]
    assert ours == [f"{service}/agent-0003", f"{service}/agent-0007", f"{service}-b/agent-0007"]
    removals = [Removal(service, endpoint.agent_id, 1, "stopped") for endpoint in many]
    assert refusals(registry.remove_endpoints(removals)) == [None] * 1000
    assert entries(registry, service) == ()


def test_writers_of_the_same_endpoints_lose_nothing(
    registry: ServiceRegistry, service: str
) -> None:
    """Four writers, overlapping batches in any order: every sign of life counts."""
    agents = [f"a{number}" for number in range(6)]
    registry.register_endpoints([at(service, agent) for agent in agents])

    def renew(seed: int) -> None:
        order = Random(seed).sample(agents, len(agents))
        for agent in order:
            assert refusals(registry.renew_endpoints([Renewal(service, agent, 1)])) == [None]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(renew, range(4)))
    assert [entry.renewals for entry in entries(registry, service)] == [4] * 6


def test_random_orders_end_as_in_the_plain_twin(registry: ServiceRegistry, service: str) -> None:
    """300 random orders in random batches: the same refusals, the same entries."""
    twin = InMemoryServiceRegistry()
    random = Random(7)
    for _ in range(40):
        kind = random.randrange(5)
        batch = [_random_order(random, kind, service) for _ in range(random.randint(1, 12))]
        ours, theirs = _apply(registry, kind, batch), _apply(twin, kind, batch)
        assert refusals(ours) == refusals(theirs)
        assert entries(registry, service) == entries(twin, service)


def _random_order(random: Random, kind: int, service: str) -> Order:
    agent, epoch, term = f"a{random.randrange(3)}", random.randint(1, 4), random.randint(1, 3)
    orders: list[Order] = [
        at(service, agent, epoch),
        Renewal(service, agent, epoch, random.randrange(9)),
        Removal(
            service,
            agent,
            epoch,
            "r",
            moved=random.random() < 0.5,
            term=random.choice([None, term]),
        ),
        GrayVerdict(service, agent, epoch, term, gray=random.random() < 0.5, reason=f"g{epoch}"),
        CheckReport(service, agent, epoch, random.choice(list(CheckHealth)), f"c{term}"),
    ]
    return orders[kind]


def _apply(registry: ServiceRegistry, kind: int, batch: list[Order]) -> list[OrderResult]:
    calls = (
        registry.register_endpoints,
        registry.renew_endpoints,
        registry.remove_endpoints,
        registry.mark_gray,
        registry.report_checks,
    )
    return calls[kind](batch)  # type: ignore[operator]
