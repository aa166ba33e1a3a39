"""Between failovers routers follow the registry: soon, within the panic rule, under one term."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fleet.circuit_breaker import BreakerPhase
from fleet.incidents import IncidentKind, IncidentState
from fleet.leases import LEADER_LEASE
from fleet.ports.traffic import ConfiguredRouter, RouteResult
from fleet.routes import LiveRoutes, RouteTable
from fleet.routes_upkeep import UpkeepPolicy
from fleet.services import CheckHealth, CheckReport, Endpoint, GrayVerdict, Removal
from fleet.traffic_declaration import RegistryDeclaration, RegistryKind, TrafficDeclaration
from ops.failover_watch import LeaderStanding
from ops.route_keeping import RouteKeeper
from ops.router_hand import BUSY_S, RouterHand
from resources.traffic.embedded import EmbeddedRouter
from tests.ops.kept_world import Gate, KeptWorld
from tests.servers.consul import consul_double


@pytest.fixture
def world(tmp_path: Path) -> Iterator[KeptWorld]:
    """A kept fleet."""
    found = KeptWorld(tmp_path)
    yield found
    found.keeper.close()


def written(world: KeptWorld) -> list[int]:
    """When each router's file was written last."""
    return [(place / "w.json").stat().st_mtime_ns for place in world.folders.values()]


def test_every_router_gets_every_service_with_the_first_look(world: KeptWorld) -> None:
    """All 16 agents, under the leader's term."""
    kept = world.look()
    assert (kept.idle, kept.term, kept.services, kept.endpoints) == ("", 1, 1, 16)
    for name in ("first", "second"):
        assert len(world.agents(name)) == 16
        assert world.live(name).term == world.leader.term


def test_a_look_at_what_has_not_changed_writes_nothing(world: KeptWorld) -> None:
    """No file is touched, no router is asked, nothing is said."""
    world.look()
    before = written(world)
    for _ in range(5):
        assert world.look().outcomes == {}
    assert written(world) == before


def test_looks_are_no_closer_than_the_interval(world: KeptWorld) -> None:
    """However often somebody asks."""
    world.look()
    assert world.look(0.5).idle == "it has just been looked at"
    assert world.look(0.5).idle == ""


def test_an_agent_that_comes_or_goes_is_in_every_table_with_the_next_look(
    world: KeptWorld,
) -> None:
    """And the reason names it."""
    world.look()
    world.store.register_endpoints([Endpoint("w", "new", "eu-1", "eu", "10.0.0.9", 8000, 1)])
    kept = world.look()
    assert "new" in world.agents("first") & world.agents("second")
    assert kept.said[0].startswith("router first: 1 of 1 tables were new: w with 17 backends")
    assert "1 came (new)" in kept.said[0]
    world.store.remove_endpoints([Removal("w", "new", 1, "it was stopped")])
    world.look()
    assert "new" not in world.agents("first") | world.agents("second")


def test_failed_checks_lower_the_weight_in_every_table(world: KeptWorld) -> None:
    """The agent stays: checks alone withhold nobody."""
    world.look()
    world.store.report_checks([CheckReport("w", "eu-1-a0", 1, CheckHealth.FAILING, "no answer")])
    world.look()
    weights = {one.agent_id: one.weight for one in world.live().backends}
    assert (weights["eu-1-a0"], weights["eu-1-a1"]) == (1, 255)


def test_silent_agents_leave_the_tables_and_come_back_when_they_renew(world: KeptWorld) -> None:
    """After the time to live, confirmed by two looks; not before."""
    world.look()
    world.silent_registrars.add("eu-1")
    silent = {f"eu-1-a{number}" for number in range(4)}
    until_withheld_s = 0
    while silent & world.agents():
        world.look()
        until_withheld_s += 1
        assert until_withheld_s < 30
    assert until_withheld_s > world.declaration.policy.entry_ttl_s
    assert len(world.agents()) == 12
    world.silent_registrars.clear()
    world.look()
    assert len(world.agents()) == 16


def test_half_of_a_service_stays_in_the_tables_whatever_is_silent(world: KeptWorld) -> None:
    """The healthy-panic rule holds for routers too."""
    world.look()
    world.silent_registrars.update(one.node_id for one in world.nodes if one.node_id != "us-2")
    for _ in range(30):
        kept = world.look()
    assert (len(world.agents()), kept.withheld) == (8, 8)


def test_a_gray_node_leaves_the_tables(world: KeptWorld) -> None:
    """The controller's verdict is followed by balancers as by readers."""
    world.look()
    world.store.mark_gray(
        [GrayVerdict("w", f"eu-1-a{n}", 1, 1, gray=True, reason="slow") for n in range(4)]
    )
    assert world.look().withheld == 4
    assert not {f"eu-1-a{n}" for n in range(4)} & world.agents()


@pytest.mark.parametrize("why", ["frozen", "paused"])
def test_nobody_is_withheld_for_silence_while_nobody_may_judge(world: KeptWorld, why: str) -> None:
    """What nodes say themselves goes on to the routers all the same."""
    world.look()
    if why == "frozen":
        world.trusted = False
    else:
        world.store.set_automation(paused=True, by="ada", reason="a test")
    world.silent_registrars.add("eu-1")
    for _ in range(20):
        world.look()
    assert len(world.agents()) == 16
    world.store.remove_endpoints([Removal("w", "eu-2-a0", 1, "stopped")])
    world.holding.add("eu-2-a0")
    world.look()
    assert "eu-2-a0" not in world.agents()


def test_who_does_not_lead_gives_no_tables(world: KeptWorld) -> None:
    """Neither where its own lease says so, nor where only the store knows."""
    world.look()
    before = written(world)
    world.store.register_endpoints([Endpoint("w", "new", "eu-1", "eu", "10.0.0.9", 8000, 1)])
    world.clock.advance(1.0)
    kept = world.keeper.look(world.store, LeaderStanding(None, False, "standby"))
    assert kept.idle == "this process does not lead: standby"
    world.lose_leadership()
    world.clock.advance(1.0)
    assert "term 1 leads no more" in world.keeper.look(world.store, world.standing).idle
    assert written(world) == before


def test_a_new_leader_takes_all_tables_over_and_the_old_one_is_refused(world: KeptWorld) -> None:
    """The fence rises with the term, also of tables that do not change."""
    world.look()
    world.store.release_lease(world.leader)
    world.leader = world.store.acquire_lease(LEADER_LEASE, "controller-2", 15.0)
    world.look()
    late = world.live()._replace(term=1, revision=99, backends=())
    (result,) = EmbeddedRouter(world.folders["first"]).apply_routes([late])
    assert result.error is not None
    assert (world.live().term, len(world.agents())) == (2, 16)


def test_a_router_that_was_started_anew_gets_its_tables_back(tmp_path: Path) -> None:
    """Within the time of verification, though nothing has changed."""
    world = KeptWorld(tmp_path, UpkeepPolicy(interval_s=1.0, verify_s=10.0))
    world.look()
    (world.folders["first"] / "w.json").unlink()
    for _ in range(10):
        kept = world.look()
    assert len(world.agents()) == 16
    assert "the router had another table" in " ".join(kept.said)


def test_what_another_hand_has_changed_is_put_right(tmp_path: Path) -> None:
    """A failover run gives tables too, made from a read of its own."""
    world = KeptWorld(tmp_path, UpkeepPolicy(interval_s=1.0, verify_s=10.0))
    world.look()
    EmbeddedRouter(world.folders["first"]).apply_routes([world.live()._replace(backends=())])
    for _ in range(10):
        world.look()
    assert len(world.agents()) == 16


def test_a_router_that_fails_is_told_once_and_its_end_is_told_once(world: KeptWorld) -> None:
    """One incident, opened after three looks, ended by the first answer; the other router works."""
    world.look()
    world.break_router("second")
    for number in range(6):
        world.store.register_endpoints(
            [Endpoint("w", f"new{number}", "eu-1", "eu", "10.0.0.9", 8000, 1)]
        )
        world.look()
        opened = world.incidents()
        assert len(opened) == (1 if number >= 2 else 0)
        assert f"new{number}" in world.agents("first")
    assert (opened[0].kind, opened[0].subject) == (IncidentKind.ROUTER, "second")
    world.mend_router("second")
    for _ in range(15):  # the circuit is open by now, and is tried again after its pause
        world.look()
    (ended,) = world.incidents()
    assert (ended.incident_id, ended.state) == (opened[0].incident_id, IncidentState.ENDED)
    assert ended.outcome == "router second answers again"
    assert world.agents("second") == world.agents("first")


def test_a_router_that_fails_while_nothing_changes_is_found_out(tmp_path: Path) -> None:
    """The verification asks it."""
    world = KeptWorld(tmp_path, UpkeepPolicy(interval_s=1.0, verify_s=10.0))
    world.look()
    world.break_router("second")
    for _ in range(13):
        world.look()
    assert [one.subject for one in world.incidents()] == ["second"]


def test_the_circuits_stand_in_the_store_closed_and_open(world: KeptWorld) -> None:
    """So that `stateroom status` can show them."""
    world.look()
    found = {one.name: one.phase for one in world.store.breakers()}
    assert found == {
        "traffic/first": BreakerPhase.CLOSED,
        "traffic/second": BreakerPhase.CLOSED,
    }
    world.break_router("second")
    for number in range(6):
        world.store.register_endpoints(
            [Endpoint("w", f"new{number}", "eu-1", "eu", "10.0.0.9", 8000, 1)]
        )
        world.look()
    found = {one.name: one.phase for one in world.store.breakers()}
    assert found["traffic/first"] is BreakerPhase.CLOSED
    assert found["traffic/second"] is not BreakerPhase.CLOSED


def test_an_incident_of_a_router_that_the_settings_dropped_ends(world: KeptWorld) -> None:
    """Nobody would ever answer for it."""
    world.look()
    world.break_router("second")
    for number in range(4):
        world.store.register_endpoints(
            [Endpoint("w", f"new{number}", "eu-1", "eu", "10.0.0.9", 8000, 1)]
        )
        world.look()
    world.declaration = TrafficDeclaration(world.declaration.routers[:1])
    world.keeper = world.new_keeper()
    world.look()
    (ended,) = world.incidents()
    assert ended.outcome == "the settings do not name router second any more"


class HangingRouter:
    """An embedded router whose next application hangs."""

    name = "hanging"

    def __init__(self, folder: Path) -> None:
        """It works."""
        self.table, self.gate = EmbeddedRouter(folder), Gate()
        self.is_hanging = False

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """As the embedded one, some time."""
        if self.is_hanging:
            self.gate.pass_through()
        return self.table.apply_routes(tables)

    def live_routes(self, service: str) -> LiveRoutes | None:
        """As the embedded one."""
        return self.table.live_routes(service)


def test_a_router_that_hangs_holds_nobody_up_and_is_told(tmp_path: Path) -> None:
    """The other has its tables; the hanging one is given nothing else until it answers."""
    world = KeptWorld(tmp_path)
    router = HangingRouter(tmp_path / "hanging")
    world.keeper = RouteKeeper(world.declaration, world.clock, wait_s=0.01)
    hand = RouterHand(ConfiguredRouter("hanging", router), world.keeper.policy)
    world.keeper._hands = (*world.keeper._opened(), hand)
    router.is_hanging = True
    try:
        while world.clock.monotonic_s() < BUSY_S + 5.0:
            world.look()
        assert len(world.agents("first")) == 16
        assert [one.subject for one in world.incidents()] == ["hanging"]
        assert "has not answered" in world.incidents()[0].reason
    finally:
        router.is_hanging = False
        router.gate.opened.set()
    hand.wait(30.0)
    world.look()
    world.look()
    hand.wait(30.0)
    assert world.incidents()[0].state == IncidentState.ENDED
    table = router.table.table("w")
    assert table is not None
    assert len(table.backends) == 16


def test_a_defect_of_an_adapter_is_not_swallowed(tmp_path: Path) -> None:
    """It ends the look with its own words, and the next look tries again."""
    world = KeptWorld(tmp_path)
    hand = RouterHand(ConfiguredRouter("odd", OddRouter()), world.keeper.policy)
    world.keeper._hands = (hand,)
    with pytest.raises(ZeroDivisionError):
        world.look()
    with pytest.raises(ZeroDivisionError):
        world.look()


class OddRouter:
    """It has a defect."""

    name = "odd"

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """Fail as no adapter may."""
        raise ZeroDivisionError

    def live_routes(self, service: str) -> LiveRoutes | None:
        """Nothing."""
        return None


def test_with_consul_as_registry_routes_follow_consul(tmp_path: Path) -> None:
    """While it is away tables stay as they are, a person is told, and its end is told."""
    world = KeptWorld(tmp_path)
    with consul_double() as (url, double):
        registry = RegistryDeclaration(kind=RegistryKind.CONSUL, url=url)
        world.declaration = TrafficDeclaration(world.declaration.routers, registry=registry)
        world.keeper = world.new_keeper()
        world.look()
        from resources.service_registry.consul import ConsulServiceRegistry
        from resources.service_registry.consul_client import ConsulClient

        consul = ConsulServiceRegistry(ConsulClient(url))
        consul.register_endpoints([Endpoint("api", "a1", "eu-1", "eu", "10.0.0.1", 8000, 1)])
        kept = world.look()
        assert (kept.services, kept.endpoints) == (1, 1)
        assert [one.agent_id for one in world.live("first", "api").backends] == ["a1"]
        double.leaderless = True
        for _ in range(4):
            world.look()
        assert [(one.kind, one.subject) for one in world.incidents()] == [
            (IncidentKind.REGISTRY, "consul")
        ]
        assert [one.agent_id for one in world.live("first", "api").backends] == ["a1"]
        double.leaderless = False
        for _ in range(15):
            world.look()
        assert world.incidents()[0].state == IncidentState.ENDED
