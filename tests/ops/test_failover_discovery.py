"""A gray node is withheld from readers of discovery, and given back, under the leader's term."""

from __future__ import annotations

from pathlib import Path

from fleet.errors import RegistryUnavailableError
from fleet.failover.records import Action, ActionKind
from fleet.failover.rules import Rule
from fleet.service_health import EMBEDDED_SERVICES
from fleet.services import Endpoint
from ops.failover_discovery import DiscoveryVerdicts, judge_endpoints
from resources.service_registry.consul import ConsulServiceRegistry
from resources.service_registry.consul_client import ConsulClient
from resources.service_registry.directory import ServiceDirectory
from tests.ops.balanced_world import BalancedWorld
from tests.ops.kept_world import Gate
from tests.servers.consul import consul_double

GRAY, WELL = ActionKind.UNREGISTER_NODE, ActionKind.REGISTER_NODE


def verdict(kind: ActionKind, node_id: str = "eu-1", term: int = 1) -> Action:
    """What the decision asks for."""
    return Action(
        kind=kind,
        subject=f"node/{node_id}",
        rule=Rule.GRAY,
        reasons=(),
        term=term,
        nodes=(node_id,),
    )


def withheld(world: BalancedWorld) -> set[str]:
    """Nodes of endpoints that a reader is not given."""
    directory = ServiceDirectory(world.store, EMBEDDED_SERVICES, world.clock, lambda: True)
    (answer,) = directory.refresh(["w"])
    return {agent_id[:4] for agent_id in answer.view.withheld}


def test_a_gray_node_is_withheld_and_given_back(tmp_path: Path) -> None:
    """All its endpoints, and nobody else's; they stay registered."""
    world = BalancedWorld(tmp_path)
    assert judge_endpoints(world.store, verdict(GRAY)) == 4
    assert withheld(world) == {"eu-1"}
    assert len(world.store.read_services(["w"])[0].registrations) == 16
    world.beat()
    assert withheld(world) == {"eu-1"}
    assert judge_endpoints(world.store, verdict(WELL)) == 4
    assert withheld(world) == set()


def test_more_than_half_of_a_service_is_never_withheld(tmp_path: Path) -> None:
    """Verdicts on three of four nodes withhold two of them."""
    world = BalancedWorld(tmp_path)
    for node_id in ("eu-1", "eu-2", "us-1"):
        judge_endpoints(world.store, verdict(GRAY, node_id))
    assert len(withheld(world)) == 2


def test_an_endpoint_that_moved_on_is_not_judged(tmp_path: Path) -> None:
    """It answers from another node, whatever the placements said a moment ago."""
    world = BalancedWorld(tmp_path)
    (one,) = world.store.registrations_of(["eu-1-a0"])
    newer = one.endpoint._replace(node_id="eu-2", epoch=2)
    world.store.register_endpoints([newer])
    assert judge_endpoints(world.store, verdict(GRAY)) == 3


def test_what_the_registry_did_not_take_is_ordered_again(tmp_path: Path) -> None:
    """With the next tick; a later verdict on the same node replaces it."""
    world = BalancedWorld(tmp_path)
    verdicts, mark_gray = DiscoveryVerdicts(world.store), world.store.mark_gray

    def refuse(orders: object) -> list[object]:
        raise RegistryUnavailableError(f"away: {orders!s:.0}")

    world.store.mark_gray = refuse  # type: ignore[assignment, method-assign]
    verdicts.want(verdict(GRAY))
    assert len(verdicts.carry_out()) == 1
    world.store.mark_gray = mark_gray  # type: ignore[method-assign]
    assert verdicts.carry_out() == []
    assert withheld(world) == {"eu-1"}
    verdicts.want(verdict(GRAY))
    verdicts.want(verdict(WELL))
    assert verdicts.carry_out() == []
    assert withheld(world) == set()


def test_a_controller_that_was_replaced_judges_nothing_and_gives_up(tmp_path: Path) -> None:
    """The registry keeps the verdict of the higher term; the order is not repeated."""
    world = BalancedWorld(tmp_path)
    judge_endpoints(world.store, verdict(GRAY, term=5))
    late = DiscoveryVerdicts(world.store)
    late.want(verdict(WELL, term=4))
    assert "term 4" in late.carry_out()[0]
    assert late.carry_out() == []
    assert withheld(world) == {"eu-1"}


def test_a_registry_that_hangs_delays_no_tick(tmp_path: Path) -> None:
    """Consul is asked beside the ticks; what it did not take is told and ordered again."""
    world, gate = BalancedWorld(tmp_path), Gate()
    with consul_double() as (url, double):
        consul = ConsulServiceRegistry(ConsulClient(url))
        consul.register_endpoints([Endpoint("w", "eu-1-a0", "eu-1", "eu", "10.0.0.1", 80, 1)])
        verdicts = DiscoveryVerdicts(world.store, consul)
        double.before_txn = gate.pass_through
        verdicts.want(verdict(GRAY))
        assert verdicts.carry_out() == []
        assert verdicts.carry_out() == []
        gate.opened.set()
        verdicts.wait(30.0)
        assert verdicts.carry_out() == []
        (read,) = consul.read_services(["w"])
        assert [one.gray for one in read.registrations] == [True]
        double.leaderless = True
        verdicts.want(verdict(WELL))
        verdicts.carry_out()
        verdicts.wait(30.0)
        assert len(verdicts.carry_out()) == 1
        double.leaderless = False
        verdicts.wait(30.0)
        while verdicts.carry_out():
            verdicts.wait(30.0)
        verdicts.wait(30.0)
        (read,) = consul.read_services(["w"])
        assert [one.gray for one in read.registrations] == [False]
