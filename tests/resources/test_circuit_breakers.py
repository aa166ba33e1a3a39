"""Breakers around adapters: what counts, what passes, what `status` is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from fleet.circuit_breaker import BreakerPhase, BreakerPolicy
from fleet.errors import (
    CircuitOpenError,
    InvalidInputError,
    PermanentError,
    RegistryUnavailableError,
    TrafficUnavailableError,
)
from fleet.ports.control_store import ControlStore
from fleet.routes import RouteTable
from fleet.services import CheckHealth, CheckReport, Endpoint, GrayVerdict, Removal, Renewal
from resources.circuit_breakers import (
    CircuitBreaker,
    CircuitBreakers,
    GuardedRouter,
    GuardedServiceRegistry,
)
from resources.service_registry.consul import ConsulServiceRegistry
from resources.service_registry.consul_client import ConsulClient
from resources.traffic.embedded import EmbeddedRouter
from resources.traffic.haproxy import HaproxyRouter
from resources.traffic.haproxy_client import HaproxyClient
from tests.contracts.store_harness import MemoryHarness, StoreHarness, sqlite_harness
from tests.fakes.clock import ManualClock
from tests.fakes.service_registry import InMemoryServiceRegistry
from tests.servers.consul import consul_double

POLICY = BreakerPolicy(failures_to_open=3, pause_s=5.0, pause_max_s=20.0, successes_to_close=2)
WEB = Endpoint("web", "a", "n", "eu", "10.0.0.1", 80, 2)


@pytest.fixture
def clock() -> ManualClock:
    """Time in the test's hand."""
    return ManualClock()


@pytest.fixture
def breakers(clock: ManualClock) -> CircuitBreakers:
    """All breakers of this process."""
    return CircuitBreakers(clock, POLICY)


@pytest.fixture(params=["memory", "sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    """The store that `status` reads."""
    opened = MemoryHarness() if request.param == "memory" else sqlite_harness(tmp_path)
    yield opened
    opened.close()


def failing(error: Exception) -> Callable[[], None]:
    """An action that ends so."""

    def action() -> None:
        raise error

    return action


def trip(breaker: CircuitBreaker) -> None:
    """Open it."""
    for _ in range(POLICY.failures_to_open):
        with pytest.raises(TrafficUnavailableError):
            breaker.call(failing(TrafficUnavailableError("no route")))


def phase(breaker: CircuitBreaker) -> BreakerPhase:
    """Of a breaker."""
    return breaker.status("here").phase


def test_an_open_breaker_does_not_ask(breakers: CircuitBreakers, clock: ManualClock) -> None:
    """It says what failed, and when it tries again; then one call passes, and two close it."""
    breaker = breakers.breaker("traffic/x")
    trip(breaker)
    asked: list[int] = []
    with pytest.raises(CircuitOpenError, match=r"open after 3 failures .no route.;") as caught:
        breaker.call(lambda: asked.append(1))
    assert "in 5 s" in caught.value.hint
    assert asked == []
    clock.advance(5)
    breaker.call(lambda: asked.append(1))
    assert phase(breaker) is BreakerPhase.HALF_OPEN
    breaker.call(lambda: asked.append(1))
    assert (phase(breaker), asked) == (BreakerPhase.CLOSED, [1, 1])


def test_refusals_are_answers_and_defects_are_failures(breakers: CircuitBreakers) -> None:
    """A backend that says "stale" works; whatever else is raised may leave no probe pending."""
    breaker = breakers.breaker("traffic/x")
    for _ in range(10):
        with pytest.raises(PermanentError):
            breaker.call(failing(PermanentError("stale")))
    assert phase(breaker) is BreakerPhase.CLOSED
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            breaker.call(failing(ZeroDivisionError()))
    assert breaker.status("here").reason == "ZeroDivisionError"
    assert phase(breaker) is BreakerPhase.OPEN


def test_while_half_open_one_thread_passes(breakers: CircuitBreakers, clock: ManualClock) -> None:
    """The others are refused at once instead of queueing at a dead backend."""
    breaker = breakers.breaker("traffic/x")
    trip(breaker)
    clock.advance(5)
    inside, leave = Event(), Event()

    def probe() -> str:
        inside.set()
        assert leave.wait(30)
        return "answered"

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(breaker.call, probe)
        assert inside.wait(30)
        with pytest.raises(CircuitOpenError):
            breaker.call(probe)
        leave.set()
        assert first.result() == "answered"


def test_a_dead_haproxy_opens_its_breaker_and_no_other(
    breakers: CircuitBreakers, tmp_path: Path
) -> None:
    """Each adapter has a breaker under its own name."""
    dead = GuardedRouter(
        HaproxyRouter(HaproxyClient(str(tmp_path / "no.sock"), timeout_s=1)), breakers
    )
    table = RouteTable("web", 1, 1, ())
    for _ in range(3):
        with pytest.raises(TrafficUnavailableError):
            dead.apply_routes([table])
    with pytest.raises(CircuitOpenError):
        dead.live_routes("web")
    alive = GuardedRouter(EmbeddedRouter(tmp_path / "routes"), breakers)
    assert (dead.name, alive.name) == ("haproxy", "embedded")
    assert alive.apply_routes([table])[0].error is None
    for _ in range(5):
        with pytest.raises(InvalidInputError):
            alive.apply_routes([table, table])
    assert alive.live_routes("web") is not None
    phases = {status.name: status.phase for status in breakers.statuses()}
    assert phases == {
        "traffic/embedded": BreakerPhase.CLOSED,
        "traffic/haproxy": BreakerPhase.OPEN,
    }


def test_every_method_of_a_registry_is_guarded(breakers: CircuitBreakers) -> None:
    """And gives what the registry gives."""
    guarded = GuardedServiceRegistry(InMemoryServiceRegistry(), breakers, "memory")
    assert guarded.register_endpoints([WEB])[0].error is None
    assert guarded.renew_endpoints([Renewal("web", "a", 2)])[0].error is None
    verdict = GrayVerdict("web", "a", 2, 1, gray=True, reason="r")
    assert guarded.mark_gray([verdict])[0].error is None
    check = CheckReport("web", "a", 2, CheckHealth.PASSING, "")
    assert guarded.report_checks([check])[0].error is None
    assert guarded.services() == ["web"]
    assert len(guarded.read_services(["web"])[0].registrations) == 1
    assert len(guarded.registrations_of(["a"])) == 1
    assert guarded.remove_endpoints([Removal("web", "a", 2, "stopped")])[0].error is None


def test_a_consul_without_a_leader_opens_and_closes_its_breaker(
    breakers: CircuitBreakers, clock: ManualClock
) -> None:
    """Refused epochs do not count."""
    with consul_double() as (url, double):
        guarded = GuardedServiceRegistry(
            ConsulServiceRegistry(ConsulClient(url)), breakers, "consul"
        )
        guarded.register_endpoints([WEB])
        for _ in range(5):
            assert guarded.register_endpoints([WEB._replace(epoch=1)])[0].error is not None
        double.leaderless = True
        for _ in range(3):
            with pytest.raises(RegistryUnavailableError):
                guarded.services()
        requests = len(double.requests)
        with pytest.raises(CircuitOpenError):
            guarded.services()
        assert len(double.requests) == requests
        double.leaderless = False
        clock.advance(5)
        assert [guarded.services(), guarded.services()] == [["web"], ["web"]]
    assert breakers.statuses()[0].phase is BreakerPhase.CLOSED


def test_status_is_told_of_every_change_and_reminded_each_minute(
    breakers: CircuitBreakers, clock: ManualClock, harness: StoreHarness
) -> None:
    """A breaker that was never open is not worth a row."""
    store: ControlStore = harness.store
    breaker = breakers.breaker("traffic/x")
    breaker.call(lambda: None)
    assert breakers.publish(store) == []
    trip(breaker)
    opened_at = clock.now()
    assert len(breakers.publish(store)) == 1
    assert breakers.publish(store) == []
    clock.advance(60)
    assert len(breakers.publish(store)) == 1
    (told,) = store.breakers()
    assert (told.name, told.phase, told.changed_at) == ("traffic/x", BreakerPhase.OPEN, opened_at)
    assert (told.holder, told.reason) == (breakers.holder, "no route")
    breaker.call(lambda: None)
    breaker.call(lambda: None)
    breakers.publish(store)
    assert [status.phase for status in store.breakers()] == [BreakerPhase.CLOSED]


def test_reports_of_processes_that_are_gone_expire(
    breakers: CircuitBreakers, harness: StoreHarness
) -> None:
    """A killed process cannot take its open breaker back."""
    trip(breakers.breaker("traffic/x"))
    harness.store.report_breakers([])
    breakers.publish(harness.store)
    harness.advance(899)
    assert len(harness.store.breakers()) == 1
    harness.advance(2)
    assert harness.store.breakers() == []
    assert len(harness.store.breakers(reported_within_s=3600)) == 1


def test_a_report_that_could_not_be_stored_is_made_again(
    breakers: CircuitBreakers, clock: ManualClock
) -> None:
    """The next tick."""
    memory = MemoryHarness().store

    class Away:
        def report_breakers(self, statuses: object) -> None:
            raise RegistryUnavailableError("locked")

        breakers = memory.breakers

    trip(breakers.breaker("traffic/x"))
    with pytest.raises(RegistryUnavailableError):
        breakers.publish(Away())
    assert len(breakers.publish(memory)) == 1
