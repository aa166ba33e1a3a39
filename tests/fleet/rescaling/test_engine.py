"""One engine: Kubernetes' rule where nothing else is wished, and every rule beyond it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rescaling.context import Rollout, ScalingContext
from fleet.rescaling.decision import Proposal, ReplicaDecision
from fleet.rescaling.engine import decide_scaling
from fleet.rescaling.foresight import HOURS, Forecast
from fleet.rescaling.hpa import decide_replicas
from fleet.rescaling.ignore_small import wished_change
from fleet.rescaling.observation import AutoscalerState, MetricFault, PodSample, Reading
from fleet.rescaling.policy import (
    Activation,
    CalendarWindow,
    CostCeiling,
    Fallback,
    FallbackBehavior,
    Panic,
    PredictiveFloor,
    WarmPool,
    WorkloadScaling,
)
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.spec import (
    Behavior,
    ControllerOptions,
    MetricKind,
    MetricSpec,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
    TargetType,
)
from tests.examples import examples
from tests.fleet.rescaling.draw import draw_observation, draw_spec, draw_state
from tests.fleet.rescaling.workloads import CPU, NOW, QUEUE, autoscaler, busy, later, pod, seen

NEW = AutoscalerState()
PLAIN = ScalingContext()
DOWN = MetricFault("FailedGetExternalMetric", "connection refused")
SESSIONS = MetricSpec(MetricKind.PODS, "sessions", TargetType.AVERAGE_VALUE, 5000)
ALWAYS = CalendarWindow("always", "* * * * *", "0 0 1 1 *", "UTC", 6)


def queue(wish: WorkloadScaling, lengths: Iterable[int | None], replicas: int, step_s: int = 15,
          context: ScalingContext = PLAIN) -> list[ReplicaDecision]:  # fmt: skip
    """Decisions over a course of queue lengths (None: the source is down), each one acted on."""
    state, found = NEW, []
    for index, length in enumerate(lengths):
        reading: Reading = DOWN if length is None else [length * 1000]
        now = later(index * step_s)
        decision = decide_scaling(wish, seen(replicas, reading), context, state, now)
        state, replicas = decision.state, decision.desired
        found.append(decision)
    return found


def counts(decisions: Iterable[ReplicaDecision]) -> list[int]:
    """What was desired, step by step."""
    return [one.desired for one in decisions]


def rules_of(decision: ReplicaDecision) -> dict[str, tuple[int, int]]:
    """Rules with what they made of the count."""
    return {one.rule: (one.before, one.after) for one in decision.rules}


def wish(**rules: object) -> WorkloadScaling:
    """A workload with a queue, 10 tasks for each replica, 1 to 100 replicas."""
    return WorkloadScaling("web", autoscaler(QUEUE), **rules)  # type: ignore[arg-type]


# -- Kubernetes' rule -----------------------------------------------------------------------------


@settings(max_examples=examples(100), deadline=None)
@given(seed=st.integers(0, 2**32), zero=st.booleans())
def test_without_extras_the_decision_is_that_of_kubernetes(seed: int, zero: bool) -> None:
    """Every field is equal, over three reconciles of any workload, fault and state."""
    rng = Random(seed)
    spec, state = draw_spec(rng), draw_state(rng)
    context = ScalingContext(options=ControllerOptions(scale_to_zero=zero))
    plain = WorkloadScaling("web", spec)
    assert plain.is_plain
    for step in range(3):
        now = later(15 * step)
        observation = draw_observation(rng, spec, rng.randrange(12), now)
        decision = decide_scaling(plain, observation, context, state, now)

        assert decision == decide_replicas(spec, observation, state, now, context.options)
        state = decision.state


def test_a_workload_that_cannot_be_looked_at_is_left_alone_by_all_rules() -> None:
    """No floor and no fallback acts on a count that nobody knows."""
    rules = wish(calendar=(ALWAYS,), fallback=Fallback(1, 9), warm_pool=WarmPool(3))
    fault = MetricFault("FailedGetScale", "no route")
    blind = replace(seen(2), fault=fault)

    decision = decide_scaling(rules, blind, PLAIN, NEW, NOW)

    assert decision == decide_replicas(rules.spec, blind, NEW, NOW)


def test_a_naive_clock_is_refused() -> None:
    """A time without a zone would open windows at the wrong hour."""
    with pytest.raises(InvalidInputError, match="now"):
        decide_scaling(wish(), seen(1, [0]), PLAIN, NEW, NOW.replace(tzinfo=None))


# -- zero -----------------------------------------------------------------------------------------


def test_work_ends_and_the_last_replica_goes_after_the_cool_down_and_comes_back() -> None:
    """4 go down to 1 by Kubernetes' rule, to 0 only when it was quiet for the cool-down."""
    rules = wish(activation=Activation(cooldown_s=600))
    decided = queue(rules, [40, *[0] * 50, 25], 4)
    found = counts(decided)

    assert set(pairwise(found)) == {(4, 4), (4, 1), (1, 1), (1, 0), (0, 0), (0, 3)}
    assert found.index(0) == 1 + 600 // 15, "quiet is counted from the first look without work"
    assert rules_of(decided[30])["activation"] == (1, 1)
    assert "cool-down 600 s" in decided[30].rules[-1].reason


def test_a_task_in_between_begins_the_cool_down_anew() -> None:
    """Quiet is counted from the last task."""
    rules = wish(activation=Activation(cooldown_s=300))

    found = counts(queue(rules, [*[0] * 19, 1, *[0] * 25], 1))

    assert found.index(0) == 20 + 20


def test_the_threshold_of_activation_is_apart_from_the_target() -> None:
    """40 tasks are no work below a threshold of 50: asleep it stays asleep, awake it retires."""
    rules = wish(activation=Activation(threshold_milli=50_000, cooldown_s=60))

    assert set(counts(queue(rules, [40] * 30, 0))) == {0}
    assert counts(queue(rules, [40] * 9, 4)) == [4, 4, 4, 4, 1, 0, 0, 0, 0]
    assert counts(queue(rules, [51], 0)) == [4], "growth from zero is limited as ever"


def test_many_never_fall_to_zero_past_the_rates() -> None:
    """Half of the replicas a minute: 8, 4, 2, 1, and only then none."""
    half = ScalingRules((ScalingPolicy(PolicyType.PERCENT, 50, 60),), stabilization_window_s=0)
    spec = autoscaler(QUEUE, behavior=Behavior(DEFAULT_UP, half))
    rules = WorkloadScaling("web", spec, activation=Activation(cooldown_s=0))

    found = counts(queue(rules, [0] * 14, 8, step_s=30))

    assert [after for before, after in pairwise([8, *found]) if before != after] == [4, 2, 1, 0]


def test_a_zero_that_somebody_else_has_made_stays() -> None:
    """Neither work nor a missing metric nor a floor raises it; told otherwise, work does."""
    rules = wish(
        activation=Activation(),
        fallback=Fallback(1, 5),
        warm_pool=WarmPool(2),
        calendar=(ALWAYS,),
    )
    state = decide_scaling(rules, seen(6, [60_000]), PLAIN, NEW, NOW).state

    for reading in ([90_000], DOWN):
        decision = decide_scaling(rules, seen(0, reading), PLAIN, state, later(15))
        assert (decision.desired, decision.rules[-1].rule) == (0, "scaling-disabled")
        assert (
            decide_scaling(rules, seen(0, [90_000]), PLAIN, decision.state, later(30)).desired == 0
        )
    told = ScalingContext(zero_is_manual=False)
    assert decide_scaling(rules, seen(0, [90_000]), told, state, later(15)).desired > 0


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_an_error_never_scales_to_zero(seed: int) -> None:
    """Whatever is wished: with a metric missing the last replica stays."""
    rng = Random(seed)
    rules = _drawn(rng)
    rules = replace(rules, spec=replace(rules.spec, metrics=(QUEUE, CPU)))
    state, replicas = NEW, rng.randrange(1, 6)
    for step in range(40):
        missing = rng.choice(([DOWN, DOWN], [DOWN, {}], [[0], DOWN]))
        decision = decide_scaling(rules, seen(replicas, *missing), PLAIN, state, later(60 * step))
        assert decision.desired >= 1
        state, replicas = decision.state, decision.desired


def test_without_a_metric_from_outside_the_last_replica_stays() -> None:
    """At 0 nobody would see that there is work again; the decision says so."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS), activation=Activation(cooldown_s=0))
    idle = seen(1, {"web-0": PodSample(0, NOW)})

    decision = decide_scaling(rules, idle, PLAIN, NEW, NOW)

    assert decision.desired == 1
    assert decision.rules[-1].reason == "no metric would tell of work at 0"


def test_a_workload_without_an_outside_metric_that_sleeps_is_woken_to_see_its_work() -> None:
    """Put to 0 by an order that is over: one replica comes, since nothing else can tell."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS), activation=Activation())

    woken = decide_scaling(rules, seen(0, {}), PLAIN, NEW, NOW)

    assert woken.desired == 1
    assert woken.rules[-1].reason == "no metric tells of work without a replica"


def test_work_that_the_processor_tells_of_keeps_replicas_that_a_quiet_queue_would_end() -> None:
    """The queue is below its threshold and asks for 5; three replicas are busy and stay."""
    spec = autoscaler(CPU, QUEUE)
    rules = WorkloadScaling("web", spec, activation=Activation(50_000, cooldown_s=0))
    observed = busy(5, 280)

    decision = decide_scaling(
        rules, replace(observed, readings=(*observed.readings, [45_000])), PLAIN, NEW, NOW
    )

    assert decision.desired == 3


def test_a_workload_whose_pods_cannot_be_told_keeps_its_last_replica_and_falls_back() -> None:
    """A selector that is wrong is no quiet: the number of the fallback holds."""
    rules = wish(activation=Activation(cooldown_s=0), fallback=Fallback(1, 3))
    blind = replace(seen(1), fault=MetricFault("InvalidSelector", "selector is required"))

    assert decide_scaling(rules, blind, PLAIN, NEW, NOW).desired == 3
    alone = replace(rules, fallback=None)
    assert decide_scaling(alone, blind, PLAIN, NEW, NOW).desired == 1


# -- fallback -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behavior", "replicas", "current", "expected"),
    [
        (FallbackBehavior.STATIC, 6, 4, 6),
        (FallbackBehavior.STATIC, 2, 4, 2),
        (FallbackBehavior.STATIC, 0, 4, 1),
        (FallbackBehavior.CURRENT, 6, 4, 4),
        (FallbackBehavior.CURRENT_IF_HIGHER, 2, 4, 4),
        (FallbackBehavior.CURRENT_IF_HIGHER, 6, 4, 6),
        (FallbackBehavior.CURRENT_IF_LOWER, 2, 4, 2),
        (FallbackBehavior.CURRENT_IF_LOWER, 6, 4, 4),
        (FallbackBehavior.STATIC, 500, 4, 8),
    ],
)
def test_without_metrics_the_fallback_holds_after_so_many_failures(
    behavior: FallbackBehavior, replicas: int, current: int, expected: int
) -> None:
    """KEDA's four behaviors; the last replica stays, and rates hold."""
    rules = wish(fallback=Fallback(3, replicas, behavior))

    found = queue(rules, [None] * 3, current)

    assert counts(found) == [current, current, expected]
    assert found[1].error
    assert "no metric for 3 reconciles" in found[2].rules[-1].reason
    if expected != current:
        assert not found[2].error
        assert "invalid metrics" in found[2].warning


def test_a_fallback_below_the_minimum_is_the_minimum() -> None:
    """Else the next look would bring it back, and the one after it down again."""
    rules = replace(wish(fallback=Fallback(1, 1)), spec=autoscaler(QUEUE, least=3))

    assert counts(queue(rules, [None] * 6, 5)) == [3] * 6


def test_a_metric_that_answers_again_ends_the_fallback() -> None:
    """Failures are counted in a row."""
    rules = wish(fallback=Fallback(2, 9))

    assert counts(queue(rules, [None, 30, None, 30, None], 3)) == [3] * 5


def test_a_fallback_never_lowers_what_other_metrics_ask_for() -> None:
    """The queue cannot be had, CPU asks for 6: the fallback of 2 changes nothing, of 7 raises."""
    for replicas, expected in ((2, 6), (7, 7)):
        rules = WorkloadScaling("web", autoscaler(CPU, QUEUE), fallback=Fallback(1, replicas))
        loaded = replace(busy(3, 900), readings=(*busy(3, 900).readings, DOWN))
        assert decide_scaling(rules, loaded, PLAIN, NEW, NOW).desired == min(expected, 6)
        again = replace(loaded, spec_replicas=6)
        assert decide_scaling(rules, again, PLAIN, NEW, NOW).desired >= expected


def test_a_source_that_stays_down_wakes_a_sleeping_workload_only_by_its_fallback() -> None:
    """Without one it sleeps on; with one it is there after so many failures."""
    asleep = wish(activation=Activation(cooldown_s=0))
    covered = replace(asleep, fallback=Fallback(3, 2))

    assert counts(queue(asleep, [0, *[None] * 9], 1)) == [0] * 10
    assert counts(queue(covered, [0, *[None] * 4], 1)) == [0, 0, 0, 2, 2]


# -- panic ----------------------------------------------------------------------------------------


def test_a_queue_that_explodes_is_followed_at_once_and_nothing_goes_for_a_stable_window() -> None:
    """4 to 50 in one step, past the growth limit of 8; held until 60 s after the last panic."""
    behavior = Behavior(DEFAULT_UP, replace(DEFAULT_DOWN, stabilization_window_s=0))
    spec = autoscaler(QUEUE, behavior=behavior)
    rules = WorkloadScaling("web", spec, panic=Panic())

    found = counts(queue(rules, [40, 500, 100, 100, 100, 100, 100, 100], 4))

    assert found == [4, 50, 50, 50, 50, 50, 10, 10]


def test_a_panic_is_capped_by_its_rate_and_by_the_maximum() -> None:
    """At most three times the ready replicas at once, and never above the maximum."""
    assert counts(queue(wish(panic=Panic(rate_up_max=3)), [500], 4)) == [12]
    assert counts(queue(wish(panic=Panic()), [5000], 4)) == [100]


def test_what_is_no_work_is_no_panic() -> None:
    """Below the threshold of activation two for one are no surge: the last replica goes."""
    rules = wish(activation=Activation(50_000, cooldown_s=0), panic=Panic())

    assert counts(queue(rules, [20] * 8, 1)) == [0] * 8


def test_a_panic_outlives_the_controller() -> None:
    """The memory of a panic is text; decided from it, the next count is the same."""
    rules = wish(panic=Panic())
    first = decide_scaling(rules, seen(4, [500_000]), PLAIN, NEW, NOW)
    restarted = replace(NEW, details=dict(first.state.details), seen=True)

    assert decide_scaling(rules, seen(50, [10_000]), PLAIN, restarted, later(15)).desired == 50


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("panic", "x"),
        ("panic", '{"since": "never"}'),
        ("panic", '{"most": -1}'),
        ("fallback", '{"failures": "2"}'),
        ("activation", "[]"),
        ("activation", '{"quiet_since": "2026-11-21T12:00:00"}'),
    ],
)
def test_a_damaged_memory_is_named_and_nothing_is_decided(rule: str, text: str) -> None:
    """No window begins anew unseen: the error names the rule and what it has read."""
    rules = wish(panic=Panic(), fallback=Fallback(1, 2), activation=Activation())

    with pytest.raises(InvalidInputError, match=f"remembered of rule {rule}") as raised:
        decide_scaling(rules, seen(2, [0]), PLAIN, replace(NEW, details={rule: text}), NOW)
    assert raised.value.hint


# -- floors and ceilings --------------------------------------------------------------------------


def test_floors_raise_ceilings_lower_and_each_is_told() -> None:
    """A window of 6, a forecast of 8, a pool of 2; a budget for 7, room for 1 more."""
    made = Forecast(NOW, "UTC", (8,) * HOURS, 0.1, "")
    rules = wish(
        calendar=(ALWAYS,),
        predictive=PredictiveFloor(),
        warm_pool=WarmPool(2, "H200"),
        cost_ceiling=CostCeiling(0.7),
    )
    context = ScalingContext(forecast=made, price_per_hour=0.1, quota_room=1)

    decision = decide_scaling(rules, seen(4, [30_000]), context, NEW, NOW)

    assert rules_of(decision) == {
        "metrics": (4, 3),
        "stabilization": (3, 4),
        "calendar": (4, 6),
        "predictive": (6, 8),
        "cost-ceiling": (8, 7),
        "quota": (7, 5),
    }
    assert decision.desired == 5


def test_a_window_may_raise_the_maximum_and_lower_it() -> None:
    """While it is open its maximum counts, for metrics as well; then the autoscaler's."""
    night = CalendarWindow("night", "0 22 * * *", "0 6 * * *", "UTC", 0, 3)
    day = CalendarWindow("day", "0 8 * * *", "0 18 * * *", "UTC", 2, 200)
    rules = wish(calendar=(night, day))
    at_noon = seen(90, [1_500_000])

    assert decide_scaling(rules, at_noon, PLAIN, NEW, NOW).desired == 150
    at_night = decide_scaling(rules, at_noon, PLAIN, NEW, NOW + timedelta(hours=11))
    assert at_night.desired == 3
    between = decide_scaling(rules, seen(150, [1_500_000]), PLAIN, NEW, NOW + timedelta(hours=7))
    assert between.desired == 100


def test_a_floor_begins_as_early_as_a_start_takes() -> None:
    """19 of 20 starts take up to 240 s: four minutes before the window the replicas are ordered."""
    window = CalendarWindow("day", "10 12 * * *", "0 18 * * *", "UTC", 9)
    rules = wish(calendar=(window,))
    context = ScalingContext(start_times_s=[*[30.0] * 18, 240.0, 900.0])

    early, near = (decide_scaling(rules, seen(1, [0]), context, NEW, later(s)) for s in (359, 360))

    assert (early.desired, near.desired) == (1, 9)
    assert "opens in 240 s" in near.rules[-1].reason


def test_a_warm_pool_stays_in_place_of_zero() -> None:
    """Without any work two replicas stay ready."""
    rules = wish(activation=Activation(cooldown_s=0), warm_pool=WarmPool(2))

    assert counts(queue(rules, [0] * 60, 4))[-1] == 2


def test_a_budget_that_does_not_pay_for_the_minimum_leaves_the_minimum() -> None:
    """The owner says how many are needed at least; the decision tells what it would cost."""
    rules = replace(wish(cost_ceiling=CostCeiling(1.0)), spec=autoscaler(QUEUE, least=4))

    decision = decide_scaling(rules, seen(6, [60_000]), ScalingContext(price_per_hour=1), NEW, NOW)

    assert decision.desired == 4
    assert decision.rules[-1].reason.endswith("the minimum of 4 stays")
    unpriced = decide_scaling(rules, seen(6, [60_000]), PLAIN, NEW, NOW)
    assert unpriced.desired == 6
    assert "not known" in unpriced.rules[-1].reason
    free = decide_scaling(rules, seen(6, [60_000]), ScalingContext(price_per_hour=0), NEW, NOW)
    assert free.desired == 6
    with pytest.raises(InvalidInputError, match="price_per_hour"):
        decide_scaling(rules, seen(6, [60_000]), ScalingContext(price_per_hour=-1), NEW, NOW)


def test_a_forecast_that_is_off_or_missing_raises_nothing_and_says_so() -> None:
    """The reason stands in the decision."""
    off = Forecast(NOW, "UTC", (8,) * HOURS, 0.5, "last week it was wrong by 50 % (allowed: 30)")
    rules = wish(predictive=PredictiveFloor())

    for context, told in (
        (PLAIN, "no forecast was made"),
        (ScalingContext(forecast=off), "wrong by 50 %"),
        (ScalingContext(forecast=replace(off, off="", made_at=later(-90_000))), "too old"),
    ):
        decision = decide_scaling(rules, seen(3, [30_000]), context, NEW, NOW)
        assert decision.desired == 3
        assert told in decision.rules[-1].reason


def test_agents_with_gpus_go_after_a_longer_window() -> None:
    """900 s instead of 300 s, whatever the autoscaler's own window says; a longer one stays."""
    for behavior in (None, Behavior(DEFAULT_UP, DEFAULT_DOWN)):
        rules = WorkloadScaling("web", autoscaler(QUEUE, behavior=behavior))
        plain = counts(queue(rules, [50, *[0] * 70], 5))
        gpu = counts(queue(rules, [50, *[0] * 70], 5, context=ScalingContext(is_gpu=True)))

        assert plain.index(1) in {20, 21}
        assert gpu.index(1) in {60, 61}


# -- rollouts -------------------------------------------------------------------------------------


def test_the_surge_of_a_rollout_never_scales_up() -> None:
    """5 copies that are there twice, without samples or busy with starting: the count stays."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS, QUEUE))
    names = [f"new-{index}" for index in range(5)]
    old = {f"web-{index}": PodSample(5000, NOW) for index in range(10)}
    for samples in (old, {**old, **{name: PodSample(90_000, NOW) for name in names}}):
        pods = [*seen(10).pods, *(pod(name) for name in names)]
        rolling = replace(seen(10, samples, [100_000], pods=pods), status_replicas=15)
        context = ScalingContext(rollout=Rollout(NOW, frozenset(names)))

        assert decide_scaling(rules, rolling, context, NEW, NOW).desired == 10


def test_pods_without_samples_raise_nothing_during_a_rollout_but_a_queue_does() -> None:
    """Three of ten are new; the others are overloaded since they are fewer. Ten minutes long."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS, QUEUE))
    samples = {f"web-{index}": PodSample(9000, NOW) for index in range(7)}
    rollout = ScalingContext(rollout=Rollout(NOW))

    for tasks, after_s, expected in ((100, 60, 10), (120, 60, 12), (100, 601, 13)):
        observed = seen(10, samples, [tasks * 1000])
        decision = decide_scaling(rules, observed, rollout, NEW, later(after_s))
        assert decision.desired == expected, (tasks, after_s)
    assert decide_scaling(rules, seen(10, samples, [100_000]), PLAIN, NEW, NOW).desired == 13


def test_an_overloaded_revision_is_not_hidden_by_the_average() -> None:
    """8 old pods idle at 3 sessions, 2 new ones hold 12: together 4.8 of 5, apart 5 + 5."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS))
    samples = {f"web-{index}": PodSample(3000 if index < 8 else 12_000, NOW) for index in range(10)}
    revisions = {name: "old" if int(name[4:]) < 8 else "new" for name in samples}
    context = ScalingContext(rollout=Rollout(NOW, revisions=revisions))

    together = decide_scaling(rules, seen(10, samples), context, NEW, NOW)
    apart = decide_scaling(replace(rules, per_revision=True), seen(10, samples), context, NEW, NOW)

    assert together.desired == 10
    assert apart.desired == 10
    heavy = {name: one if revisions[name] == "old" else one._replace(value_milli=20_000)
             for name, one in samples.items()}  # fmt: skip
    apart = decide_scaling(replace(rules, per_revision=True), seen(10, heavy), context, NEW, NOW)
    assert apart.desired == 13, "5 for the old ones, 8 for the new ones"


def test_a_metric_that_is_missing_or_from_outside_says_nothing_of_revisions() -> None:
    """Faults and totals are left out; one revision alone is no group."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS, QUEUE), per_revision=True)
    names = [f"web-{index}" for index in range(4)]
    rollout = Rollout(NOW, frozenset({"web-3"}), dict(zip(names, "aabb", strict=True)))
    context = ScalingContext(rollout=rollout)

    faulty = decide_scaling(rules, seen(4, DOWN, [40_000]), context, NEW, NOW)
    assert faulty.desired == 4
    same = replace(rollout, revisions=dict.fromkeys(names, "a"))
    samples = {name: PodSample(5000, NOW) for name in names}
    alone = ScalingContext(rollout=same)
    assert decide_scaling(rules, seen(4, samples, [40_000]), alone, NEW, NOW).desired == 4


# -- small changes --------------------------------------------------------------------------------


def test_a_change_that_is_smaller_than_wished_is_left() -> None:
    """40 replicas with a tolerance of 1 %: 1.6 more are wished, and two are the least."""
    exact = Behavior(replace(DEFAULT_UP, tolerance_milli=10), DEFAULT_DOWN)
    spec = autoscaler(QUEUE, behavior=exact)
    rules = WorkloadScaling("web", spec, ignore_below=2)

    assert counts(queue(replace(rules, ignore_below=0), [416], 40)) == [42]
    assert counts(queue(rules, [416], 40)) == [40]
    assert counts(queue(rules, [421], 40)) == [43]


def test_small_changes_are_judged_by_the_metric_that_asks_for_most() -> None:
    """Its unrounded wish where it is of all replicas, else the count; none without a metric."""
    proposals = (
        Proposal("cpu", 9, 80, 100, 0.8),
        Proposal("queue", 11, 0, 0, 1.04),
        Proposal("gone", None),
    )

    assert wished_change(proposals, 10) == pytest.approx(0.4)
    assert wished_change((proposals[0],), 30) == 21
    assert wished_change((Proposal("total", 14),), 10) == 4
    assert wished_change((Proposal("endless", 14, ratio=float("inf")),), 10) == 4
    assert wished_change(proposals[2:], 10) is None


def test_a_long_way_in_small_steps_is_no_small_change() -> None:
    """One replica a minute is all that the rates allow; the wish is ten."""
    slow = ScalingRules((ScalingPolicy(PolicyType.PODS, 1, 60),), stabilization_window_s=0)
    spec = autoscaler(QUEUE, behavior=Behavior(DEFAULT_UP, slow))

    assert counts(queue(WorkloadScaling("web", spec, ignore_below=5), [200], 30)) == [29]


# -- properties -----------------------------------------------------------------------------------


def _drawn(rng: Random) -> WorkloadScaling:
    """A workload with a queue, and any of the rules."""
    spec = replace(draw_spec(rng), metrics=(QUEUE,), min_replicas=rng.choice((0, 1, 3)))

    def maybe(value: object) -> object:
        return value if rng.random() < 0.5 else None

    window = CalendarWindow("w", "*/7 * * * *", "*/5 * * * *", "Europe/Berlin", rng.randrange(6))
    rules = {
        "activation": maybe(Activation(rng.choice((0, 20_000)), rng.choice((0, 60, 300)))),
        "fallback": maybe(Fallback(rng.randrange(1, 4), rng.randrange(9),
                                   rng.choice(tuple(FallbackBehavior)))),
        "panic": maybe(Panic(rng.choice((6, 30)), 60, rng.choice((1.0, 2.0)))),
        "warm_pool": maybe(WarmPool(rng.randrange(3))),
        "cost_ceiling": maybe(CostCeiling(rng.choice((1.0, 8.0, 1000.0)))),
        "calendar": (window,) if rng.random() < 0.5 else (),
        "ignore_below": rng.choice((0.0, 0.0, 1.5)),
    }  # fmt: skip
    return WorkloadScaling("web", spec, **rules)  # type: ignore[arg-type]


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_count_is_within_the_limits_and_every_step_is_told(seed: int) -> None:
    """Over 30 looks with any load and faults: never above the maximum, rules lead to the count."""
    rng = Random(seed)
    rules = _drawn(rng)
    spec = rules.spec
    context = ScalingContext(price_per_hour=rng.choice((None, 1.0)), is_gpu=rng.random() < 0.3)
    state, replicas = NEW, rng.randrange(min(20, spec.max_replicas) + 1)
    for step in range(30):
        reading: Reading = DOWN if rng.random() < 0.2 else [rng.choice((0, 15, 90, 10_000)) * 1000]
        decision = decide_scaling(rules, seen(replicas, reading), context, state, later(15 * step))
        steps = decision.rules

        assert 0 <= decision.desired <= spec.max_replicas
        if decision.desired < min(spec.min_replicas, decision.current):
            assert rules.activation is not None
        assert steps[0].before == decision.current
        assert steps[-1].after == decision.desired
        assert all(one.after == other.before for one, other in pairwise(steps))
        assert all(one.reason for one in steps)
        state, replicas = decision.state, decision.desired


@settings(max_examples=examples(30), deadline=None)
@given(seed=st.integers(0, 2**32), load=st.one_of(st.none(), st.integers(0, 400)))
def test_under_constant_load_the_count_comes_to_rest(seed: int, load: int | None) -> None:
    """Also without any metric: after an hour nothing changes, with one turn on the way at most."""
    rng = Random(seed)
    rules = replace(_drawn(rng), calendar=())
    if rules.spec.behavior is not None:
        rules = replace(
            rules, spec=replace(rules.spec, behavior=Behavior(DEFAULT_UP, DEFAULT_DOWN))
        )
    context = ScalingContext(price_per_hour=rng.choice((None, 1.0)))

    found = counts(queue(rules, [load] * 300, rng.randrange(21), context=context))

    assert len(set(found[240:])) == 1
    moves = [after - before for before, after in pairwise(found) if after != before]
    turns = sum(1 for one, other in pairwise(moves) if (one > 0) != (other > 0))
    assert turns <= 1
