"""The directory: its cache, the registry's outage, a frozen controller, silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fleet.errors import RegistryUnavailableError
from fleet.ports.service_registry import ServiceRead
from fleet.service_health import ServicePolicy
from fleet.services import Endpoint, GrayVerdict, Removal, Renewal
from resources.service_registry.directory import ServiceDirectory, Source
from tests.fakes.clock import ManualClock
from tests.fakes.service_registry import InMemoryServiceRegistry

AGENTS = ("a0", "a1", "a2", "a3")


class Registry(InMemoryServiceRegistry):
    """A registry that can be away."""

    away = False
    reads = 0

    def read_services(self, services: Sequence[str]) -> list[ServiceRead]:
        """Count, and fail while away."""
        self.reads += 1
        if self.away:
            raise RegistryUnavailableError("no leader")
        return super().read_services(services)


class World:
    """A registry, its directory, and time."""

    def __init__(self) -> None:
        """Four endpoints."""
        self.clock = ManualClock()
        self.registry = Registry()
        self.healthy = True
        self.directory = ServiceDirectory(
            self.registry, ServicePolicy(), self.clock, lambda: self.healthy
        )
        self.registry.register_endpoints(
            [Endpoint("web", agent, "n", "eu", "10.0.0.1", 80, 1) for agent in AGENTS]
        )

    def tick(self, seconds: float, *, silent: tuple[str, ...] = ()) -> list[str]:
        """Let time pass in steps of 15 s, in which all but the silent renew and we look."""
        served: list[str] = []
        for _ in range(round(seconds / 15)):
            self.clock.advance(15)
            self.registry.renew_endpoints(
                [Renewal("web", agent, 1) for agent in AGENTS if agent not in silent]
            )
            served = self.served(fresh=True)
        return served

    def served(self, *, fresh: bool = False) -> list[str]:
        """Whom readers get."""
        directory = self.directory
        answer = directory.refresh(["web"])[0] if fresh else directory.answer("web")
        return [entry.endpoint.agent_id for entry in answer.view.served]


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


def test_answers_come_from_the_cache_for_a_minute(world: World) -> None:
    """Then from the registry; and at once for a service that was just changed."""
    assert world.directory.answer("web").source is Source.LIVE
    world.registry.remove_endpoints([Removal("web", "a0", 1, "stopped")])
    world.clock.advance(60)
    cached = world.directory.answer("web")
    assert (cached.source, cached.age_s, len(cached.view.served)) == (Source.CACHE, 60.0, 4)
    world.directory.forget("web")
    world.directory.forget("never asked")
    assert world.served() == ["a1", "a2", "a3"]
    world.clock.advance(60.1)
    assert world.directory.answer("web").source is Source.LIVE
    assert world.registry.reads == 3


def test_while_the_registry_is_away_the_last_known_good_is_served_and_said(world: World) -> None:
    """With its age and the reason, however long; a service never read is an error."""
    world.served()
    world.registry.away = True
    world.clock.advance(3600)
    answer = world.directory.answer("web")
    assert (answer.source, answer.age_s, answer.problem) == (
        Source.LAST_KNOWN_GOOD,
        3600.0,
        "no leader",
    )
    assert len(answer.view.served) == 4
    with pytest.raises(RegistryUnavailableError):
        world.directory.answer("other")
    world.registry.away = False
    assert world.directory.answer("web").source is Source.LIVE
    assert world.directory.answer("web").source is Source.CACHE


def test_an_answer_of_the_cache_says_that_the_registry_has_gone_meanwhile(world: World) -> None:
    """Young as it is, it may be wrong by now."""
    world.served()
    world.registry.away = True
    world.clock.advance(1)
    world.directory.refresh(["web"])
    assert world.directory.answer("web").source is Source.LAST_KNOWN_GOOD


def test_a_silent_endpoint_is_withheld_after_its_time_and_comes_back(world: World) -> None:
    """Not before 60 s, and within 60 s, two renewals and a look."""
    world.served()
    assert world.tick(60, silent=("a0",)) == list(AGENTS)
    assert world.tick(30, silent=("a0",)) == ["a1", "a2", "a3"]
    assert world.tick(15) == list(AGENTS)


def test_an_outage_of_the_registry_ages_nobody(world: World) -> None:
    """Nobody could renew for an hour; after it everybody has the time to."""
    world.served()
    world.registry.away = True
    for _ in range(60):
        world.clock.advance(60)
        world.served()
    world.registry.away = False
    assert world.served() == list(AGENTS)
    assert world.tick(60, silent=("a0",)) == list(AGENTS)
    assert world.tick(45, silent=("a0",)) == ["a1", "a2", "a3"]


def test_a_frozen_controller_withholds_nobody_anew(world: World) -> None:
    """Who was withheld before stays so; after the thaw ages begin again."""
    world.served()
    world.tick(90, silent=("a0",))
    world.healthy = False
    assert world.tick(600, silent=("a0", "a1")) == ["a1", "a2", "a3"]
    answer = world.directory.refresh(["web"])[0]
    assert answer.view.notes == ("frozen: 1 entries stay that would have been withheld",)
    world.healthy = True
    assert world.tick(60, silent=("a0", "a1")) == ["a1", "a2", "a3"]
    assert world.tick(45, silent=("a0", "a1")) == ["a2", "a3"]
    assert world.tick(15) == list(AGENTS)


def test_a_gray_verdict_under_a_frozen_controller_waits(world: World) -> None:
    """It is recorded, and takes effect with the thaw."""
    world.served()
    world.healthy = False
    world.registry.mark_gray([GrayVerdict("web", "a2", 1, 1, gray=True, reason="r")])
    assert world.served(fresh=True) == list(AGENTS)
    world.healthy = True
    assert world.served(fresh=True) == ["a0", "a1", "a3"]


def test_when_all_fall_silent_half_are_served(world: World) -> None:
    """A partition between endpoints and registry never empties a service."""
    world.served()
    assert len(world.tick(300, silent=AGENTS)) == 2
    assert world.tick(15) == list(AGENTS)
