"""A standing that cannot be read holds its own workload, stays as it is, and stops nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fleet.leases import RESCALING_LEASE
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.reports import AgentDeclaration
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.judging import check_standings
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.policy import Fallback, ScalingMode, WorkloadScaling
from fleet.rescaling.spec import AutoscalerSpec
from fleet.rescaling.standing import HOLD, LoggedDecision, ScalingOrder, ScalingStanding
from fleet.rescaling.state_json import PackedStanding
from ops import rescaling_standings
from ops.placement import place_waiting
from ops.rescaling import Look, RescalingController
from ops.rescaling_run import recheck
from ops.rescaling_standings import StandingReader, damage_problem
from tests.ops.scaling_world import FAST, QUEUE, ScalingWorld, scaling

KEY = ("chat", "eu")
DAMAGES: list[dict[str, object]] = [
    {"state_json": "{"},
    {"state_json": '{"version":2}'},
    {"state_json": '{"version":1,"recommendations":[[0,4294967296]]}'},
    {"pending_json": '{"current":2}'},
    {"decided_at": 2**62},
]


def world_of_two(**changes: Any) -> ScalingWorld:
    """Chat, which is going to be damaged, and batch with one agent, both by the same queue."""
    batch = WorkloadScaling("batch", AutoscalerSpec("batch", (QUEUE,), 1, 6, FAST))
    world = ScalingWorld(scaling(**changes), replace(batch, mode=ScalingMode.AUTO))
    world.store.declare_agents([AgentDeclaration("batch-1", "net", "batch", "eu", 100, 1)])
    place_waiting(world.store, ["eu-1", "eu-2"], now=world.clock.now(), term=0)
    world.beat()
    return world


def looked(world: ScalingWorld, controller: RescalingController, depth: float) -> Look:
    """One look a tick later, and the run that it orders."""
    world.pass_time(15)
    world.queue(depth)
    look = controller.look()
    world.carry_out(look)
    return look


def decided(look: Look, workload: str) -> LoggedDecision:
    """The decision about one workload."""
    return next(one for one in look.decisions if one.workload == workload)


def row(world: ScalingWorld) -> object:
    """What stands in the damaged row, to the letter."""
    return world.store._standings[KEY]


def nothing(_: ScalingWorld) -> None:
    """Nobody says anything."""


def hold(world: ScalingWorld) -> None:
    """A person gives a number."""
    order = ScalingOrder(*KEY, HOLD, 5, "ann", "a launch", world.clock.now())
    world.store.order_scaling([order])


@pytest.mark.parametrize("columns", DAMAGES, ids=str)
@pytest.mark.parametrize("is_new", [False, True], ids=["same process", "new process"])
@pytest.mark.parametrize("rules", [{}, {"fallback": Fallback(2, 3)}], ids=["columns", "alone"])
@pytest.mark.parametrize("deed", [nothing, hold])
def test_a_damaged_workload_is_held_alone(
    columns: dict[str, object],
    is_new: bool,
    rules: dict[str, Any],
    deed: Callable[[ScalingWorld], None],
) -> None:
    """Up and down go on for the other; what stands in the row stays, and what to do is told."""
    world = world_of_two(**rules)
    controller = world.controller()
    looked(world, controller, 20)
    world.store.damage_standing(KEY, **columns)
    before = row(world)
    deed(world)
    if is_new:
        world.clock.advance(60)
        world.beat()
        controller = world.controller("two")
    for depth, wanted in ((55, 6), (55, 6)):
        look = looked(world, controller, depth)
        told = decided(look, "chat")
        assert (told.verdict, told.limited_by) == ("held", "damaged")
        assert (told.current, told.desired) == (2, 2)
        assert "stateroom scaling forget chat --region eu" in told.reason
        assert decided(look, "batch").desired == wanted
        (problem,) = look.problems
        assert "the standing of chat in eu is damaged" in problem
    assert row(world) == before
    assert len(world.store.scaled_agents(["batch"])) == 6
    assert len(world.wanted()) == 2
    (kept,) = world.store.scaling_decisions("chat", limit=1)
    assert (kept.verdict, kept.limited_by) == ("held", "damaged")


def test_a_pause_neither_hides_a_damage_nor_empties_the_row() -> None:
    """A look keeps what it holds back for a pause; what it cannot read it must not."""
    world = world_of_two()
    controller = world.controller()
    looked(world, controller, 20)
    world.store.damage_standing(KEY, pending_json="[")
    before = row(world)
    world.store.set_automation(paused=True, by="ann", reason="a look")
    look = looked(world, controller, 55)
    assert [one.limited_by for one in look.decisions] == ["brake", "damaged"]
    assert row(world) == before


def test_a_run_that_was_ordered_before_the_damage_makes_the_others_changes_alone() -> None:
    """And names the one that it left, with the next step."""
    world = world_of_two()
    controller = world.controller()
    world.queue(55)
    look = controller.look()
    assert len(look.orders) == 2
    world.store.damage_standing(KEY, pending_json="{")
    before = row(world)
    left = recheck(world.run_ports(), look.orders)
    assert [one.workload for one in left.wishes] == ["batch"]
    (dropped,) = left.dropped
    assert dropped.startswith("chat in eu: the standing of chat in eu is damaged: its pending")
    assert "stateroom scaling forget chat --region eu" in dropped
    world.carry_out(look)
    assert len(world.wanted()) == 2
    assert len(world.store.scaled_agents(["batch"])) == 6
    assert row(world) == before


def test_agents_of_a_damaged_workload_still_take_their_room_of_the_quota() -> None:
    """Two of chat and one of batch leave one of four."""
    world = world_of_two()
    world.store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=4))])
    controller = world.controller()
    looked(world, controller, 15)
    world.store.damage_standing(KEY, state_json="{")
    look = looked(world, controller, 90)
    told = decided(look, "batch")
    assert (told.desired, told.limited_by) == (2, "quota")
    assert decided(look, "chat").desired == 2


def test_an_agent_of_a_damaged_workload_that_waits_for_room_gets_it() -> None:
    """It is wanted already: whoever holds the number does not hold back its agents."""
    world = world_of_two()
    controller = world.controller()
    looked(world, controller, 20)
    world.store.damage_standing(KEY, state_json="{")
    placed = world.store.placements()[1]
    why = "parked: no node of eu has room"
    world.store.place_agents([placed._replace(node_id="", desired="parked", reason=why)])
    for _ in range(6):
        look = looked(world, controller, 20)
    assert decided(look, "chat").limited_by == "damaged"
    assert all(one.node_id for one in world.store.placements())


def test_what_was_forgotten_is_decided_by_the_next_look() -> None:
    """From nothing remembered, and acted on."""
    world = world_of_two()
    controller = world.controller()
    looked(world, controller, 20)
    world.store.damage_standing(KEY, state_json="{")
    looked(world, controller, 55)
    world.store.forget_scaling([KEY], "ann", "a bad sector")
    look = looked(world, controller, 55)
    assert (decided(look, "chat").verdict, look.problems) == ("scale-up", ())
    assert len(world.wanted()) == 6
    assert not any(isinstance(one, DamagedStanding) for one in world.store.scaling_standings())


def test_a_rule_whose_notes_are_damaged_says_what_lets_it_begin_anew() -> None:
    """The text as a whole can be read, so the rule itself finds it; the command helps as well."""
    world = world_of_two(fallback=Fallback(2, 3))
    controller = world.controller()
    looked(world, controller, 20)
    bad = '{"version":1,"seen":true,"details":{"fallback":"x"}}'
    world.store.damage_standing(KEY, state_json=bad)
    told = decided(looked(world, controller, 55), "chat")
    assert (told.verdict, told.limited_by) == ("held", "invalid")
    assert "stateroom scaling forget" in told.reason
    world.store.forget_scaling([KEY], "ann", "why")
    assert decided(looked(world, controller, 55), "chat").verdict == "scale-up"


def test_a_text_is_read_once_however_often_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What this process has written is not read at all; also not of who is scaled no more."""
    read: list[object] = []
    real = rescaling_standings.read_standing

    def counted(one: Any) -> object:
        read.append(one.key)
        return real(one)

    monkeypatch.setattr(rescaling_standings, "read_standing", counted)
    world = world_of_two()
    controller = world.controller()
    term = world.store.acquire_lease(RESCALING_LEASE, "before", 0.5).term
    gone = ScalingStanding("gone", "eu", AutoscalerState())
    world.store.keep_scaling([gone], [], term=term)
    looked(world, controller, 15)  # batch grows to two, and the run writes its standing
    read.clear()
    for _ in range(3):
        looked(world, controller, 15)
    assert read == [("batch", "eu")], "once, what the run has written"
    read.clear()
    world.store.damage_standing(KEY, state_json='{"version":1}')
    looked(world, controller, 15)
    assert read == [KEY]
    world.clock.advance(60)
    world.beat()
    looked(world, world.controller("two"), 15)
    assert read[1:] == [("batch", "eu"), KEY, ("gone", "eu")]


def test_many_damages_are_counted_and_some_are_named() -> None:
    """A newer version's table may be all of them."""
    stored = [PackedStanding(f"w{n}", "eu", "{", 0, "", None, 0) for n in range(9)]
    whole, damaged = StandingReader().read(
        [*stored, stored[0]._replace(region="us", state_json="")]
    )
    assert list(whole) == [("w0", "us")]
    told = damage_problem(list(damaged.values()))
    assert told.startswith("9 standings are damaged")
    assert told.endswith("; and 4 more")
    assert damage_problem([]) == ""
    verdict = check_standings([*damaged.values()])
    assert not verdict.passed
    assert verdict.reason.startswith("9 of 9 standings are damaged; first: w0 (eu): its state")
