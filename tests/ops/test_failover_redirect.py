"""Requests follow moved agents, once, on every router that answers, however often the run dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import LeaseLostError, StaleEpochError, StateroomError
from fleet.incident_timeline import read_incident
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState
from fleet.leases import LEADER_LEASE
from fleet.services import Endpoint
from ops.failover_redirect import redirect
from ops.failover_run import FailoverResult, carry_out
from tests.ops.balanced_world import BalancedWorld
from tests.ops.failover_world import CrashedError, CrashingCalls

LOST = tuple(f"eu-1-a{n}" for n in range(4))


def fail_over(world: BalancedWorld) -> FailoverResult:
    """eu-1 is gone; a run carries its order out."""
    world.kill("eu-1", terminated=True)
    return carry_out(world.ports(), world.order("eu-1"))


def routes(world: BalancedWorld, name: str = "first") -> dict[str, tuple[str, int]]:
    """Agent -> address and epoch that a router has."""
    router = world.first if name == "first" else world.second.table
    table = router.table("w")
    backends = table.backends if table else ()
    return {one.agent_id: (one.address, one.epoch) for one in backends}


def router_incidents(world: BalancedWorld) -> list[IncidentHeader]:
    """Of routers, newest first, also those that have ended."""
    return [one for one in world.store.incidents() if one.kind == IncidentKind.ROUTER]


def test_every_router_sends_requests_to_the_new_copies(tmp_path: Path) -> None:
    """The lost node's address is nowhere; each moved agent has its new node's and epoch 2."""
    world = BalancedWorld(tmp_path)
    result = fail_over(world)
    assert result.redirection.services == ("w",)
    assert result.redirection.failed == {}
    assert result.redirection.unregistered == ()
    for name in ("first", "second"):
        live = routes(world, name)
        assert len(live) == 16
        assert {one: live[one] for one in LOST} == dict.fromkeys(
            LOST, (world.address_of("eu-2"), 2)
        )
        assert world.address_of("eu-1") not in {address for address, _ in live.values()}
    assert router_incidents(world) == []


def test_the_incident_tells_of_the_redirection_in_one_line(tmp_path: Path) -> None:
    """All its parts are done, after everything else."""
    world = BalancedWorld(tmp_path)
    world.kill("eu-1", terminated=True)
    order = world.order("eu-1")
    carry_out(world.ports(), order)
    header = world.store.incident(order.incident_id)
    assert header is not None
    entries = world.store.journal(order.incident_id)
    last = read_incident(header, entries).timeline[-1]
    assert (last.step, last.parts, last.open_parts, last.failed_parts) == ("redirect", 5, 0, 0)
    assert entries[-1].reason == "router second: 1 tables are in force, 1 of them new"


def test_an_old_copy_that_never_registered_may_not_do_so_later(tmp_path: Path) -> None:
    """A zombie that wakes up is refused by the registry, also where its node had been too slow."""
    world = BalancedWorld(tmp_path)
    world.silent_registrars.add("eu-2")
    moved = fail_over(world).placed[0]
    zombie = Endpoint("w", moved.agent_id, "eu-1", "eu", "10.0.0.1", 8000, 1)
    (result,) = world.store.register_endpoints([zombie])
    assert isinstance(result.error, StaleEpochError)


def test_agents_that_run_and_are_not_registered_are_named_and_do_not_hold_the_rest_up(
    tmp_path: Path,
) -> None:
    """After a few seconds the routers are served without them."""
    world = BalancedWorld(tmp_path)
    world.silent_registrars.add("eu-2")
    result = fail_over(world)
    assert result.redirection.unregistered == LOST
    assert not set(LOST) & set(routes(world))


def test_a_fleet_that_registers_nothing_waits_for_nobody(tmp_path: Path) -> None:
    """Simulated nodes have no addresses."""
    world = BalancedWorld(tmp_path)
    world.kill("eu-1", terminated=True)
    world.store._revisions.clear()
    world.store._entries.clear()
    world.silent_registrars.update(one.node_id for one in world.nodes)
    before_s = world.clock.monotonic_s()
    result = carry_out(world.ports(), world.order("eu-1"))
    assert result.redirection.unregistered == ()
    assert world.clock.monotonic_s() - before_s < 1.0


def test_a_router_that_is_down_is_told_and_fails_nothing_else(tmp_path: Path) -> None:
    """The run succeeds, the other router is served, an incident of its own pages a person."""
    world = BalancedWorld(tmp_path)
    world.second.is_down = True
    world.kill("eu-1", terminated=True)
    order = world.order("eu-1")
    result = carry_out(world.ports(), order)
    assert dict(result.redirection.failed) == {"second": "the balancer does not answer"}
    assert set(LOST) <= set(routes(world, "first"))
    (opened,) = router_incidents(world)
    assert (opened.subject, opened.state) == ("second", IncidentState.OPEN)
    assert "the balancer does not answer" in opened.reason
    assert order.incident_id in opened.reason
    told = [one for one in world.store.journal(order.incident_id) if "second" in one.step]
    assert [one.status for one in told] == ["started", "failed"]

    world.second.is_down = False
    carry_out(world.ports(), order)
    (ended,) = router_incidents(world)
    assert (ended.incident_id, ended.state) == (opened.incident_id, IncidentState.ENDED)
    assert "took its tables again" in ended.outcome
    assert set(LOST) <= set(routes(world, "second"))
    told = [one for one in world.store.journal(order.incident_id) if "second" in one.step]
    assert [one.status for one in told] == ["started", "failed", "done"]


def test_a_router_whose_circuit_is_open_is_not_asked(tmp_path: Path) -> None:
    """The failover does not wait for its time limit once more."""
    world = BalancedWorld(tmp_path)
    world.second.is_down = True
    for _ in range(5):
        with pytest.raises(StateroomError):
            world.routers[1].router.apply_routes([])
    result = fail_over(world)
    assert "circuit open" in result.redirection.failed["second"]


def test_a_router_that_stays_down_has_one_incident(tmp_path: Path) -> None:
    """However many runs meet it."""
    world = BalancedWorld(tmp_path)
    world.second.is_down = True
    world.kill("eu-1", terminated=True)
    carry_out(world.ports(), world.order("eu-1"))
    carry_out(world.ports(), world.order("eu-1"))
    assert len(router_incidents(world)) == 1


def test_a_controller_that_was_replaced_redirects_nothing(tmp_path: Path) -> None:
    """Its term is looked at before anything is taken out."""
    world = BalancedWorld(tmp_path)
    order = world.order("eu-1")
    placed = world.store.placements("eu-1")
    world.store.release_lease(world.leader)
    world.leader = world.store.acquire_lease(LEADER_LEASE, "controller-2", 15.0)
    before = world.store.read_services(["w"])
    with pytest.raises(LeaseLostError):
        redirect(world.ports(), order, placed)
    assert world.store.read_services(["w"]) == before


def test_a_parked_agent_leaves_discovery(tmp_path: Path) -> None:
    """Nothing has room for it: no router may name it."""
    world = BalancedWorld(tmp_path)
    world.kill("eu-2", "us-1", "us-2", "eu-1", terminated=True)
    result = carry_out(world.ports(), world.order("eu-1", "eu-2", "us-1", "us-2"))
    assert result.parked == 16
    assert routes(world) == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_dies_at_any_write_ends_with_the_same_routes(
    tmp_path: Path, after: bool
) -> None:
    """Killed before or after every write of store, registry and router, and carried out again."""
    whole = BalancedWorld(tmp_path / "whole")
    fail_over(whole)
    want = routes(whole)
    crash_at, done = 0, False
    while not done:
        world = BalancedWorld(tmp_path / str(crash_at))
        world.kill("eu-1", terminated=True)
        order = world.order("eu-1")
        store = CrashingCalls(world.store, crash_at, after=after)
        try:
            carry_out(world.ports(store), order)
            done = True
        except CrashedError:
            carry_out(world.ports(), order)
        for name in ("first", "second"):
            assert routes(world, name) == want, (crash_at, name)
        entries = world.store.journal(order.incident_id)
        assert len({(one.step, one.status) for one in entries}) == len(entries)
        crash_at += 1
    assert crash_at > 20
