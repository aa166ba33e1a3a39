"""The controller of rescaling and its runs: what is decided, who acts, and what a fault changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleet.agents import Workload
from fleet.controller_view import ControllerView
from fleet.costs.prices import PriceBook, ResourceRates
from fleet.errors import LeaseLostError
from fleet.failover.records import ControllerState
from fleet.incidents import IncidentKind, IncidentOpening
from fleet.leases import RESCALING_LEASE
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.reports import AgentDeclaration
from fleet.rescaling.policy import (
    CalendarWindow,
    CostCeiling,
    Fallback,
    ScalingMode,
    WorkloadScaling,
)
from fleet.rescaling.scale_order import batch_key
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType
from fleet.rescaling.standing import APPROVAL, HOLD, LoggedDecision, ScalingOrder
from ops.placement import place_waiting
from ops.rescaling import ROOM_RETRY_S
from ops.rescaling_run import recheck, scale, wait_ready
from tests.ops.failover_world import CrashedError
from tests.ops.scaling_world import FAST, QUEUE, ScalingWorld, scaling


class CrashingCalls:
    """A store whose n-th writing call kills the caller, before or after it took effect."""

    WRITES = ("append_journal", "apply_scales", "place_agents", "lift_scaling", "keep_scaling",
              "release_ended")  # fmt: skip

    def __init__(self, store: Any, crash_at: int, *, after: bool) -> None:
        """Count from 0; -1 never crashes."""
        self._store, self._crash_at, self._after = store, crash_at, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        """The store's own, or one that may be the last."""
        found = getattr(self._store, name)
        if name not in self.WRITES:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self._crash_at and not self._after:
                raise CrashedError
            result = found(*args, **kwargs)
            if number == self._crash_at:
                raise CrashedError
            return result

        return call


def order(world: ScalingWorld, kind: str, replicas: int, **changes: Any) -> ScalingOrder:
    """A person's word, now."""
    given = ScalingOrder("chat", "eu", kind, replicas, "ann", "a launch", world.clock.now())
    return given._replace(**changes)


def test_load_rises_and_agents_multiply_then_it_falls_and_they_go() -> None:
    """Placed, running and within the limits; down only after the window of 60 seconds."""
    world = ScalingWorld()
    controller = world.controller()
    world.queue(45)
    look = controller.look()
    (decided,) = look.decisions
    assert (decided.verdict, decided.current, decided.desired) == ("scale-up", 2, 5)
    assert decided.load == pytest.approx(45 / (10 * 2))
    world.carry_out(look)
    assert len(world.wanted()) == 5
    assert controller.look().decisions[0].ready == 5
    seen = []
    for _ in range(8):
        world.pass_time(15)
        world.queue(3)
        look = controller.look()
        seen.append(look.decisions[0].desired)
        world.carry_out(look)
    assert seen[:3] == [5, 5, 5], "the highest wish of a minute counts"
    assert seen[-1] == 1
    assert len(world.wanted()) == 1
    told = [one.reason for one in world.store.journal("scaling/chat/eu")]
    assert len(told) == 2
    assert "asks for 5" in told[0]


def test_a_look_asks_each_metric_once_and_writes_the_same_verdict_down_once() -> None:
    """Whoever needs it; unchanged looks are folded into one row with their number."""
    world = ScalingWorld()
    controller = world.controller()
    for _ in range(3):
        world.queue(20)
        controller.look()
        world.pass_time(15)
    assert world.metrics.asked == ["queue_depth"] * 3
    (row,) = world.store.scaling_decisions()
    assert (row.verdict, row.times) == ("unchanged", 1)
    world.pass_time(300)
    world.queue(20)
    controller.look()
    (row,) = world.store.scaling_decisions()
    assert row.times == 4


@pytest.mark.parametrize("mode", [ScalingMode.OBSERVE, ScalingMode.APPROVE])
def test_a_mode_that_does_not_act_says_what_it_would_do(mode: ScalingMode) -> None:
    """Nothing is ordered, and no change is remembered as made."""
    world = ScalingWorld(scaling(mode))
    controller = world.controller()
    for _ in range(3):
        world.queue(45)
        look = controller.look()
        assert (look.orders, look.decisions[0].desired) == ((), 5)
        world.pass_time(15)
    (standing,) = world.store.scaling_standings()
    assert standing.state.scale_ups == ()
    assert (standing.pending is None) == (mode is ScalingMode.OBSERVE)
    assert len(look.waiting) == (mode is ScalingMode.APPROVE)


def test_an_approval_allows_the_change_that_was_pending_and_no_other() -> None:
    """Another number needs another word; once made, the word is used up."""
    world = ScalingWorld(scaling(ScalingMode.APPROVE))
    controller = world.controller()
    world.queue(45)
    controller.look()
    world.store.order_scaling([order(world, APPROVAL, 5)])
    world.queue(38)
    assert controller.look().orders == (), "four are wanted by now, five were approved"
    world.store.order_scaling([order(world, APPROVAL, 4)])
    look = controller.look()
    world.carry_out(look)
    assert len(world.wanted()) == 4
    assert world.store.scaling_orders() == []


def test_a_metric_source_that_is_down_changes_nothing() -> None:
    """Never to zero, never down; the fault stands in the decision, and it goes on afterwards."""
    world = ScalingWorld()
    controller = world.controller()
    world.metrics.is_down = True
    for _ in range(10):
        look = controller.look()
        assert look.orders == ()
        assert look.decisions[0].verdict == "blind"
        assert "connection refused" in look.decisions[0].reason
        world.pass_time(15)
    assert look.problems == ("connection refused",)
    assert len(world.wanted()) == 2
    world.metrics.is_down = False
    world.queue(45)
    assert controller.look().decisions[0].desired == 5


def test_samples_that_are_too_old_are_no_answer() -> None:
    """A collector that died a minute ago must not look like a quiet queue."""
    world = ScalingWorld()
    world.queue(1)
    world.pass_time(61)
    (decided,) = world.controller().look().decisions
    assert decided.verdict == "blind"


def test_a_persons_number_stands_above_the_autoscaler_until_it_ends() -> None:
    """Also above its limits; afterwards the metrics count again."""
    world = ScalingWorld()
    controller = world.controller()
    world.queue(20)
    until = world.clock.now() + timedelta(minutes=5)
    world.store.order_scaling([order(world, HOLD, 7, until=until)])
    look = controller.look()
    assert look.decisions[0].verdict == "ordered"
    world.carry_out(look)
    assert len(world.wanted()) == 7
    world.pass_time(299)
    world.queue(20)
    assert controller.look().orders == ()
    world.pass_time(1)
    assert controller.look().decisions[0].desired == 6, "no more than the limit, at once"


def test_a_person_may_give_a_number_to_a_workload_that_is_not_scaled() -> None:
    """It is carried out like any other, and nothing is decided about it once it is lifted."""
    world = ScalingWorld()
    world.declaration = type(world.declaration)(("eu",), {})
    controller = world.controller()
    assert controller.look().decisions == ()
    world.store.order_scaling([order(world, HOLD, 3)])
    world.carry_out(controller.look())
    assert len(world.wanted()) == 3
    world.store.lift_scaling([("chat", "eu")], HOLD, "ann", "over")
    assert controller.look().decisions == ()


def test_of_two_controllers_exactly_one_acts() -> None:
    """The other knows who leads; when the first is gone it goes on in the middle of the window."""
    world = ScalingWorld()
    first, second = world.controller("first"), world.controller("second")
    world.queue(45)
    look = first.look()
    assert look.leads
    assert not second.look().leads
    world.carry_out(look)
    world.pass_time(15)
    world.queue(1)
    first.look()
    world.pass_time(31)
    world.queue(1)
    taken = second.look()
    assert taken.leads
    assert taken.decisions[0].desired == 5, "what the first has seen within the window counts"
    world.pass_time(31)
    world.queue(1)
    second.look()
    world.pass_time(1)
    with pytest.raises(LeaseLostError):
        recheck(world.run_ports(), look.orders)


def test_a_paused_leader_is_refused_at_the_moment_of_acting() -> None:
    """Its order was right when it was given; another one leads by now."""
    world = ScalingWorld()
    world.queue(45)
    look = world.controller("first").look()
    ports = world.run_ports()
    wishes = recheck(ports, look.orders).wishes
    world.pass_time(31)
    world.store.acquire_lease(RESCALING_LEASE, "second", 30.0)
    with pytest.raises(LeaseLostError):
        scale(ports, look.orders, wishes)
    assert len(world.wanted()) == 2


def test_a_plan_that_the_world_has_overtaken_is_dropped() -> None:
    """Somebody has stopped an agent meanwhile; the next look decides anew."""
    world = ScalingWorld()
    controller = world.controller()
    world.queue(45)
    look = controller.look()
    placed = world.store.placements()[1]
    world.store.place_agents([placed._replace(desired="stopped")])
    left = recheck(world.run_ports(), look.orders)
    assert left.wishes == ()
    assert "planned on 2" in left.dropped[0]
    assert controller.look().decisions[0].current == 1


def test_capacity_that_vanishes_leaves_agents_waiting_with_a_reason() -> None:
    """They count as wanted, so nobody asks for more of them; they come when there is room."""
    world = ScalingWorld(cpu_milli=250)
    controller = world.controller()
    world.queue(60)
    look = controller.look()
    world.dead.add("eu-2")
    world.clock.advance(25)
    world.store.acquire_lease(RESCALING_LEASE, "one", 30.0)
    world.beat()
    ports = world.run_ports()
    scale(ports, look.orders, recheck(ports, look.orders).wishes)
    world.beat()
    seen = wait_ready(ports, look.orders, 0.0)
    assert len(world.wanted()) == 6
    assert seen.ready == 2
    assert len(seen.parked) == 3
    assert all("no node of eu has room" in one for one in seen.parked)
    world.dead.clear()
    world.pass_time(15)
    world.queue(60)
    assert controller.look().decisions[0].desired == 6


def test_an_agent_that_failover_has_parked_is_wanted() -> None:
    """Scaling neither replaces it nor counts it as gone."""
    world = ScalingWorld()
    placed = world.store.placements()[1]
    parked = placed._replace(desired="parked", node_id="", reason="parked: its state cannot be had")
    world.store.place_agents([parked])
    world.queue(20)
    (decided,) = world.controller().look().decisions
    assert (decided.current, decided.ready, decided.desired) == (2, 1, 2)


@pytest.mark.parametrize("held_by", ["frozen", "evacuated", "paused"])
def test_nothing_is_scaled_while_failover_or_a_person_holds_it_back(held_by: str) -> None:
    """The look says what holds it; a person's number passes a pause alone."""
    world = ScalingWorld()
    store, now = world.store, world.clock.now()
    if held_by == "frozen":
        view = ControllerView("c", 1, now, ControllerState.FROZEN, frozen_by=("mass loss",))
        store.keep_controller_view(view)
    elif held_by == "evacuated":
        store.open_incident(IncidentOpening(IncidentKind.REGION, "eu", "eu", "silent", now))
    else:
        store.set_automation(paused=True, by="ann", reason="a migration")
    world.queue(45)
    controller = world.controller()
    look = controller.look()
    assert (look.orders, look.decisions[0].verdict) == ((), "held")
    store.order_scaling([order(world, HOLD, 4)])
    world.carry_out(controller.look())
    assert len(world.wanted()) == (4 if held_by == "paused" else 2)


def test_a_run_checks_again_what_holds_scaling_back() -> None:
    """The region was lost between the look and the run."""
    world = ScalingWorld()
    world.queue(45)
    look = world.controller().look()
    now = world.clock.now()
    world.store.open_incident(IncidentOpening(IncidentKind.REGION, "eu", "eu", "silent", now))
    left = recheck(world.run_ports(), look.orders)
    assert left.wishes == ()
    assert "moved away" in left.dropped[0]


def test_a_quota_bounds_what_is_asked_for() -> None:
    """And is named as what limited it."""
    world = ScalingWorld()
    world.store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=3))])
    world.queue(45)
    look = world.controller().look()
    assert look.decisions[0].desired == 3
    assert look.decisions[0].limited_by == "quota"
    assert "the quota has room for 1 more" in look.decisions[0].reason
    world.carry_out(look)
    assert len(world.wanted()) == 3


def test_a_workload_that_is_only_observed_takes_no_room_from_others() -> None:
    """It is asked first by its name, and would have had all that the quota leaves."""
    spec = AutoscalerSpec("all", (QUEUE,), 1, 6, FAST)
    fallback = Fallback(9, 1)
    for extra in ({}, {"fallback": fallback}):  # in columns, and one by one
        seen_only = WorkloadScaling("all", spec, ScalingMode.OBSERVE, **extra)  # type: ignore[arg-type]
        world = ScalingWorld(seen_only, scaling())
        world.store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=4))])
        world.store.declare_agents([AgentDeclaration("all-1", "net", "all", "eu", 100, 1)])
        place_waiting(world.store, ["eu-1", "eu-2"], now=world.clock.now(), term=0)
        world.beat()
        world.queue(60)
        decided = {one.workload: one.desired for one in world.controller().look().decisions}
        assert decided == {"all": 2, "chat": 3}, "one more of either"


def test_room_and_quota_of_agents_that_have_ended_are_free_for_others() -> None:
    """Until its process has ended a stopped agent counts, and comes back first; not after it."""
    world = ScalingWorld()
    controller = world.controller()
    world.store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=2))])
    placed = world.store.placements()[1]
    world.lingering.add(placed.agent_id)
    world.store.place_agents([placed._replace(desired="stopped", reason="scaled to 1 in eu")])
    world.beat()
    world.queue(45)
    ordered = controller.look()
    assert ordered.decisions[0].desired == 2, "its own room is counted for it alone"
    assert world.store.network_uses(["net"])["net"].agents == 2
    world.lingering.clear()
    world.pass_time(15)
    world.queue(45)
    assert controller.look().decisions[0].desired == 2
    assert world.store.network_uses(["net"])["net"].agents == 1
    world.carry_out(ordered)
    back = world.store.placements()[1]
    assert (back.node_id, back.desired) == ("eu-2", "running")
    assert back.reason == "back on eu-2, where it was"


def test_who_comes_back_and_finds_no_room_is_parked_and_the_decision_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else has taken the place meanwhile; nobody is squeezed in, none is forgotten."""
    monkeypatch.setattr("ops.rescaling.TOLD_ALWAYS", 0)
    world = ScalingWorld(cpu_milli=100)
    controller = world.controller()
    placed = world.store.placements()[1]
    world.store.place_agents([placed._replace(desired="stopped", reason="scaled to 1 in eu")])
    world.beat()
    controller.look()
    other = AgentDeclaration("other", "net", "batch", "eu", 100, 1)
    world.store.declare_agents([other])
    place_waiting(world.store, ["eu-1", "eu-2"], now=world.clock.now(), term=0)
    world.queue(20)
    look = controller.look()
    world.carry_out(look)
    parked = world.store.placements()[1]
    assert (parked.desired, parked.node_id) == ("parked", "")
    (told,) = controller.look().decisions
    assert "1 of 2 have no node: parked: no node of eu has room" in told.reason
    (kept,) = world.store.scaling_decisions(limit=1)
    assert kept.reason == told.reason, "written down at once, not five minutes later"
    for _ in range(3):
        world.pass_time(15)
        world.queue(20)
        (again,) = controller.look().decisions
        assert again.reason == told.reason, "said once, however often"
    world.store.retire_agents(["other"])
    world.pass_time(ROOM_RETRY_S)
    controller.look()
    assert world.store.placements()[1].node_id == "eu-2", "room came back, and nothing else did"


def test_room_that_is_given_back_is_given_to_who_waits_by_the_same_look() -> None:
    """The count of neither changes any more, so no run would place the one that waits."""
    spec = AutoscalerSpec("batch", (QUEUE,), 1, 6, FAST)
    batch = WorkloadScaling("batch", spec, ScalingMode.AUTO)
    world = ScalingWorld(scaling(ScalingMode.AUTO), batch, cpu_milli=100)
    controller = world.controller()
    world.store.declare_agents([AgentDeclaration("other", "net", "batch", "eu", 100, 1)])
    place_waiting(world.store, ["eu-1", "eu-2"], now=world.clock.now(), term=0)
    controller.look()
    placed = world.store.placements()[0]
    world.lingering.add(placed.agent_id)
    world.store.place_agents([placed._replace(desired="stopped", reason="scaled to 1 in eu")])
    for ended in (False, True):
        world.pass_time(5)
        controller.look()
        other = world.store.placements()[2]
        assert (other.agent_id, other.node_id) == ("other", "eu-1" if ended else "")
        world.lingering.clear()


def test_a_release_between_plan_and_commit_costs_no_agent() -> None:
    """The plan wanted it back on its node; its room was given back meanwhile; it waits for one."""
    world = ScalingWorld()
    controller = world.controller()
    placed = world.store.placements()[1]
    world.lingering.add(placed.agent_id)
    world.store.place_agents([placed._replace(desired="stopped", reason="scaled to 1 in eu")])
    world.beat()
    world.queue(15)
    look = controller.look()
    world.lingering.clear()
    world.beat()

    class Releasing:
        """Somebody else releases before the change is made."""

        def __getattr__(self, name: str) -> Any:
            """The store's own."""
            if name == "apply_scales":
                world.store.release_ended()
            return getattr(world.store, name)

    world.carry_out(look, Releasing())
    assert len(world.wanted()) == 2
    assert world.store.placements()[1].node_id == "eu-2"


def test_a_rollout_raises_nothing_while_new_agents_have_no_samples() -> None:
    """They idle in no average and are waited for; the same load without a rollout raises."""
    cpu = MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 50)
    spec = AutoscalerSpec("chat", (cpu,), 1, 6, FAST)

    def decided(*, rolled: bool) -> LoggedDecision:
        world = ScalingWorld(WorkloadScaling("chat", spec, ScalingMode.AUTO))
        controller = world.controller()
        world.cpu_percent = 5.0
        program = Workload("chat", "net", function="m:f")
        world.store.declare_workloads([program])
        world.pass_time(400)
        controller.look()
        if rolled:
            world.store.declare_workloads([replace(program, arguments={"model": "new"})])
        world.cpu_percent = 15.0
        world.unsampled = {"eu-chat-2"}
        world.pass_time(15)
        return controller.look().decisions[0]

    assert decided(rolled=False).desired == 3
    held = decided(rolled=True)
    assert (held.desired, held.limited_by) == (2, "rollout")
    assert "a rollout is under way, 1 pods have no sample yet" in held.reason


def test_a_cost_ceiling_is_held_by_the_price_book() -> None:
    """An agent of a tenth of a core at 10 an hour for each core costs 1."""
    rates = ResourceRates(cpu_core_hour=10.0, memory_gib_hour=0.0)
    world = ScalingWorld(scaling(cost_ceiling=CostCeiling(4.0)))
    world.queue(60)
    unknown = world.controller().look().decisions[0]
    assert unknown.desired == 6
    assert "not known" in unknown.reason
    world.declaration = replace(world.declaration, prices=PriceBook(rates))
    (decided,) = world.controller().look().decisions
    assert (decided.desired, decided.limited_by) == (4, "cost-ceiling")


def test_two_copies_of_an_agent_count_once() -> None:
    """What a rolling restart or a move leaves behind belongs to an epoch that is over."""
    world = ScalingWorld()
    placed = world.store.placements()[0]
    world.dead.add("eu-1")
    world.store.place_agents([placed._replace(node_id="eu-2")])
    world.beat()
    world.queue(20)
    (decided,) = world.controller().look().decisions
    assert (decided.current, decided.desired) == (2, 2)


def test_those_whose_end_costs_least_stop_first() -> None:
    """Of four of one age the idle ones; with nobody to ask about sessions, by name."""
    world = ScalingWorld()
    controller = world.controller()
    world.queue(40)
    world.carry_out(controller.look())
    busy = world.wanted()[-1]
    world.pass_time(120)
    world.sessions(**{busy.replace("-", "_"): 3}, **dict.fromkeys(
        [one.replace("-", "_") for one in world.wanted()[:-1]], 0))  # fmt: skip
    world.queue(5)
    look = controller.look()
    assert look.decisions[0].desired == 1
    world.carry_out(look)
    assert world.wanted() == [busy]


def test_a_run_that_is_killed_at_any_write_is_made_up_for() -> None:
    """Before or after each write; the second run ends where one alone would have ended."""
    for after in (False, True):
        for crash_at in range(20):
            world = ScalingWorld()
            world.queue(45)
            look = world.controller().look()
            crashing = CrashingCalls(world.store, crash_at, after=after)
            try:
                world.carry_out(look, crashing)
            except CrashedError:
                world.pass_time(5)
                world.carry_out(look)
            else:
                assert crash_at >= 10, "it was to die, and did not write so often"
                break
            assert len(world.wanted()) == 5
            assert all(one.desired == "running" for one in world.store.placements())
            made = [one.step for one in world.store.journal("scaling/chat/eu")]
            assert made == ["scaled/1"]
            entries = world.store.journal(f"rescaling/{batch_key(look.orders)}")
            done = {one.step for one in entries if one.status == "done"}
            assert done == {"recheck", "scale", "ready"}
        else:
            pytest.fail("every write was killed, and there were more")


def test_a_look_that_is_killed_is_made_up_for_by_the_next() -> None:
    """Another process goes on with what is stored, and orders what is pending."""
    for after in (False, True):
        world = ScalingWorld()
        world.queue(45)
        crashing = CrashingCalls(world.store, 0, after=after)
        with pytest.raises(CrashedError):
            world.controller("first", crashing).look()
        world.pass_time(31)
        world.queue(45)
        look = world.controller("second").look()
        assert [one.desired for one in look.orders] == [5]
        world.carry_out(look)
        assert len(world.wanted()) == 5


def test_a_change_is_ordered_once_and_again_when_it_was_not_made_for_a_minute() -> None:
    """A run that is on its way is not doubled; one that was lost is."""
    world = ScalingWorld()
    controller = world.controller()
    world.queue(45)
    assert len(controller.look().orders) == 1
    for _ in range(3):
        world.pass_time(15)
        world.queue(45)
        assert controller.look().orders == ()
    world.pass_time(15)
    world.queue(45)
    (again,) = controller.look().orders
    assert again.attempt == 1


def test_a_calendar_begins_as_early_as_starts_have_been_measured_to_take() -> None:
    """The new agents take 200 s to be ready, so a window's floor holds 200 s ahead, not 60."""
    window = CalendarWindow("peak", "30 * * * *", "45 * * * *", "UTC", 6)
    world = ScalingWorld(scaling(calendar=(window,)))
    world.clock.advance(-world.clock.now().timestamp() % 3600 + 600)
    world.beat()
    controller = world.controller()
    world.queue(30)
    world.starting_s = 200.0
    world.carry_out(controller.look())
    assert len(world.wanted()) == 3
    for _ in range(16):
        world.pass_time(15)
        world.queue(30)
        assert controller.look().decisions[0].desired == 3
    world.clock.advance(1800 - world.clock.now().timestamp() % 3600 - 230)
    world.beat()
    world.queue(30)
    assert controller.look().decisions[0].desired == 3
    world.pass_time(40)
    world.queue(30)
    [told] = controller.look().decisions
    assert (told.desired, told.limited_by) == (6, "calendar")
    assert world.controller("other").look().leads is False
