"""All workloads at once decide as each alone, look by look, whatever happens in between."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from fleet.agents import Workload
from fleet.placement.quotas import NetworkLimits, ResourceQuota
from fleet.reports import AgentDeclaration
from fleet.rescaling.policy import Fallback, ScalingMode, WorkloadScaling
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType
from fleet.rescaling.standing import HOLD, ScalingOrder
from ops import rescaling_bulk
from ops.rescaling import Look, RescalingController
from tests.ops.scaling_world import FAST, QUEUE, ScalingWorld

CPU = MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 50)
SESSIONS = MetricSpec(MetricKind.PODS, "agent_active_sessions", TargetType.AVERAGE_VALUE, 3000)
MODES = list(ScalingMode)


def workloads() -> list[WorkloadScaling]:
    """Plain ones of all kinds, and one with a rule of ours."""
    specs = [
        ("chat", (QUEUE,), FAST),
        ("cpu", (CPU,), None),
        ("both", (CPU, QUEUE), FAST),
        ("talk", (SESSIONS,), None),
        ("ours", (QUEUE,), FAST),
    ]
    found = [
        WorkloadScaling(name, AutoscalerSpec(name, metrics, 1, 6, behavior), MODES[n % 3])
        for n, (name, metrics, behavior) in enumerate(specs)
    ]
    return [*found[:-1], replace(found[-1], fallback=Fallback(2, 3))]


def load(world: ScalingWorld, value: float) -> None:
    """The queue rises or falls."""
    world.queue(round(100 * value))


def work(world: ScalingWorld, value: float) -> None:
    """Agents use more or less."""
    world.cpu_percent = round(20 * value, 2)


def talk(world: ScalingWorld, value: float) -> None:
    """Some agents report sessions."""
    world.sessions(talk_1=round(20 * value), talk_2=round(9 * value))


def outage(world: ScalingWorld, value: float) -> None:
    """The source of metrics goes or comes."""
    world.metrics.is_down = value < 0.4


def roll_out(world: ScalingWorld, value: float) -> None:
    """Another declaration, or the same again."""
    other = Workload("cpu", "net", arguments={"n": str(value > 0.5)})
    world.store.declare_workloads([other])


def hold(world: ScalingWorld, value: float) -> None:
    """A person gives a number, or hands it back."""
    order = ScalingOrder("both", "eu", HOLD, 3, "ann", "why", world.clock.now())
    if value < 0.3:
        world.store.order_scaling([order])
    else:
        world.store.lift_scaling([order.key], HOLD, "ann", "done")


class Pair:
    """The same world twice: one is decided at once, the other one by one."""

    def __init__(self) -> None:
        """Two agents of each workload."""
        self.worlds = [self._world(), self._world()]
        self.controllers = [one.controller() for one in self.worlds]
        self._alone(self.controllers[1])

    def _world(self) -> ScalingWorld:
        world = ScalingWorld(*workloads(), cpu_milli=1500)
        agents = [
            AgentDeclaration(f"{one.workload}-{n}", "net", one.workload, "eu", 100, 1)
            for one in workloads()[1:]
            for n in (1, 2)
        ]
        world.store.declare_agents(agents)
        world.store.declare_network_limits([NetworkLimits("net", ResourceQuota(agents=18))])
        world.store.declare_workloads([Workload(one.workload, "net") for one in workloads()])
        self._place(world)
        world.beat()
        return world

    def _alone(self, controller: RescalingController) -> None:
        controller._bulk.decide = lambda *_: None  # type: ignore[method-assign]

    def _place(self, world: ScalingWorld) -> None:
        from ops.placement import place_waiting

        place_waiting(world.store, ["eu-1", "eu-2"], now=world.clock.now(), term=0)

    def both(self, rng: Random) -> None:
        """The same thing happens in both worlds."""
        deed, value = (
            rng.choice([*[load] * 3, work, talk, outage, roll_out, hold, None]),
            rng.random(),
        )
        for number, world in enumerate(self.worlds):
            if deed is not None:
                deed(world, value)
            elif value < 0.5:  # a new process looks
                self.controllers[number] = world.controller()
                if number:
                    self._alone(self.controllers[number])
            world.pass_time(15)

    def look(self) -> list[Look]:
        """One look of each, and the runs that it orders."""
        looks = []
        for world, controller in zip(self.worlds, self.controllers, strict=True):
            look = controller.look()
            looks.append(look)
            world.carry_out(look)
        return looks


@pytest.mark.parametrize("seed", range(3))
def test_at_once_is_as_one_by_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions, orders, what is remembered, what is pending, and what is written down."""
    monkeypatch.setattr("ops.rescaling.TOLD_ALWAYS", 0)
    rng, pair = Random(seed), Pair()
    spared = 0
    for _ in range(60):
        pair.both(rng)
        one, other = pair.look()
        assert [d.outcome for d in one.decisions] == [d.outcome for d in other.decisions]
        assert [d.ready for d in one.decisions] == [d.ready for d in other.decisions]
        assert (one.orders, one.waiting) == (other.orders, other.waiting)
        spared += sum(
            a.reason != b.reason for a, b in zip(one.decisions, other.decisions, strict=True)
        )
        stores = [world.store for world in pair.worlds]
        assert stores[0].scaling_standings() == stores[1].scaling_standings()
        assert stores[0].placements() == stores[1].placements()
        logs = [
            [(d.outcome, d.first_at, d.decision_id) for d in store.scaling_decisions(limit=9999)]
            for store in stores
        ]
        assert logs[0] == logs[1]
    assert spared, "words that say the same are not made anew at each look"


def test_columns_are_used_and_kept_between_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process has written is not read again; what another one has written is."""
    world = ScalingWorld(*workloads()[:1])
    controller = world.controller()
    read: list[str] = []
    real = rescaling_bulk.decode_autoscaler

    def counted(text: str) -> object:
        read.append(text)
        return real(text)

    monkeypatch.setattr(rescaling_bulk, "decode_autoscaler", counted)
    world.queue(15)
    for _ in range(3):
        assert controller.look().decisions[0].verdict == "unchanged"
        world.pass_time(15)
        world.queue(15)
    assert read == [""]
    (standing,) = world.store.scaling_standings()
    state = replace(standing.state, recommendations=())
    term = standing.term
    world.store.keep_scaling([standing._replace(state=state)], [], term=term)
    controller.look()
    assert len(read) == 2
