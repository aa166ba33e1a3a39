"""What a node tells discovery is what runs there, in a few calls, whatever the registry answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fleet.errors import RegistryUnavailableError, StaleEpochError
from fleet.ports.service_registry import OrderResult
from fleet.services import Endpoint, Removal, Renewal
from resources.local.endpoint_registrar import Answering, EndpointRegistrar
from tests.fakes.service_registry import InMemoryServiceRegistry
from tests.resources.local.fleets import Fleet, agents_of, eventually, node, shell

SLEEP = "exec sleep 1000"


class CountedRegistry(InMemoryServiceRegistry):
    """Counts its calls, and may be away."""

    def __init__(self) -> None:
        """It answers."""
        super().__init__()
        self.calls: list[tuple[str, int]] = []
        self.is_away = False

    def _count(self, name: str, size: int) -> None:
        if self.is_away:
            raise RegistryUnavailableError("the registry is away")
        self.calls.append((name, size))

    def register_endpoints(self, endpoints: Sequence[Endpoint]) -> list[OrderResult]:
        """Counted."""
        self._count("register", len(endpoints))
        return super().register_endpoints(endpoints)

    def renew_endpoints(self, renewals: Sequence[Renewal]) -> list[OrderResult]:
        """Counted."""
        self._count("renew", len(renewals))
        return super().renew_endpoints(renewals)

    def remove_endpoints(self, removals: Sequence[Removal]) -> list[OrderResult]:
        """Counted."""
        self._count("remove", len(removals))
        return super().remove_endpoints(removals)


class NodeOf:
    """A node in the test's hand."""

    def __init__(self, registry: InMemoryServiceRegistry, renew_interval_s: float = 0.0) -> None:
        """It holds its lease and runs nothing."""
        self.agents: list[Answering] = []
        self.has_lease = True
        self.registry = registry
        self.registrar = EndpointRegistrar(
            registry,
            lambda: self.agents,
            lambda: self.has_lease,
            node_id="n1",
            region="eu",
            address="127.0.0.1:8000",
            interval_s=3600.0,
            renew_interval_s=renew_interval_s,
        )

    def served(self) -> dict[str, tuple[str, int, int]]:
        """Agent -> node, epoch and renewals of the service `web`."""
        (read,) = self.registry.read_services(["web"])
        return {
            one.endpoint.agent_id: (one.endpoint.node_id, one.endpoint.epoch, one.renewals)
            for one in read.registrations
        }


def web(count: int, epoch: int = 1) -> list[Answering]:
    """Agents a0, a1, ... of the service `web`."""
    return [Answering(f"a{number}", "web", epoch) for number in range(count)]


def test_a_thousand_agents_cost_one_call_of_each_kind() -> None:
    """Not one for each agent."""

    async def play() -> None:
        registry = CountedRegistry()
        one = NodeOf(registry)
        one.agents = web(1000)
        await one.registrar.pass_once()
        await one.registrar.pass_once()
        one.agents = []
        await one.registrar.close()
        assert registry.calls == [("register", 1000), ("renew", 1000), ("remove", 1000)]
        assert one.served() == {}

    asyncio.run(play())


def test_what_does_not_change_is_renewed_at_the_interval_only() -> None:
    """A look between costs no call."""

    async def play() -> None:
        registry = CountedRegistry()
        one = NodeOf(registry, renew_interval_s=3600.0)
        one.agents = web(3)
        for _ in range(5):
            await one.registrar.pass_once()
        assert registry.calls == [("register", 3)]
        await one.registrar.close()

    asyncio.run(play())


def test_a_newer_copy_elsewhere_stays_whatever_this_node_says() -> None:
    """Refused when it registers, when it renews, and when it takes out."""

    async def play() -> None:
        registry = CountedRegistry()
        one = NodeOf(registry)
        one.agents = web(1)
        await one.registrar.pass_once()
        newer = Endpoint("web", "a0", "n2", "eu", "127.0.0.2", 8000, 2)
        assert registry.register_endpoints([newer])[0].error is None
        await one.registrar.pass_once()
        await one.registrar.pass_once()
        assert one.registrar.counts.refused == 2
        await one.registrar.close()
        assert one.served() == {"a0": ("n2", 2, 1)}

    asyncio.run(play())


def test_an_agent_that_was_placed_anew_here_is_registered_under_its_new_epoch() -> None:
    """The old copy's epoch is closed to everybody."""

    async def play() -> None:
        one = NodeOf(CountedRegistry())
        one.agents = web(1)
        await one.registrar.pass_once()
        removal = Removal("web", "a0", 1, "moved", moved=True, term=3)
        assert one.registry.remove_endpoints([removal])[0].error is None
        await one.registrar.pass_once()
        one.agents = web(1, epoch=2)
        await one.registrar.pass_once()
        assert one.served()["a0"][:2] == ("n1", 2)
        old = Endpoint("web", "a0", "n1", "eu", "127.0.0.1", 8000, 1)
        assert isinstance(one.registry.register_endpoints([old])[0].error, StaleEpochError)
        await one.registrar.close()

    asyncio.run(play())


def test_a_registry_that_was_away_or_has_forgotten_is_told_everything_again() -> None:
    """Failures are counted and end nothing."""

    async def play() -> None:
        registry = CountedRegistry()
        one = NodeOf(registry)
        one.agents = web(2)
        registry.is_away = True
        await one.registrar.pass_once()
        assert one.registrar.counts.failed == 1
        registry.is_away = False
        await one.registrar.pass_once()
        assert set(one.served()) == {"a0", "a1"}
        registry._entries.clear()
        await one.registrar.pass_once()
        await one.registrar.pass_once()
        assert set(one.served()) == {"a0", "a1"}
        await one.registrar.close()

    asyncio.run(play())


def test_without_the_lease_nothing_is_registered_and_everything_is_taken_out() -> None:
    """Also while the registry is away: as soon as it answers."""

    async def play() -> None:
        registry = CountedRegistry()
        one = NodeOf(registry)
        one.agents = web(2)
        await one.registrar.pass_once()
        one.has_lease, registry.is_away = False, True
        await one.registrar.pass_once()
        registry.is_away = False
        await one.registrar.pass_once()
        assert one.served() == {}
        await one.registrar.close()

    asyncio.run(play())


def test_the_agents_of_a_real_node_are_found_at_its_address(fleet: Fleet) -> None:
    """While they run, renewed; an evicted one leaves; a node that stops leaves nothing."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1")], [work], agents_of(work, 3), renew_endpoints_s=0.3)

    def served() -> dict[str, int]:
        (read,) = fleet.store.read_services(["work"])
        address = fleet.run("n1").address
        return {
            one.endpoint.agent_id: one.renewals
            for one in read.registrations
            if f"{one.endpoint.address}:{one.endpoint.port}" == address
        }

    eventually(lambda: set(served()) == {"work-0", "work-1", "work-2"}, "all are registered")
    eventually(lambda: min(served().values()) >= 2, "they are renewed")
    cluster.evict("work-1", 1, 0.5)
    eventually(lambda: set(served()) == {"work-0", "work-2"}, "the evicted one has left")
    assert cluster.stop_nodes() == []
    assert fleet.store.read_services(["work"])[0].registrations == ()
