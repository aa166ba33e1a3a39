"""One reconcile: what is decided, and what the decision tells of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.errors import InvalidInputError
from fleet.rescaling.decision import PodCounts
from fleet.rescaling.hpa import decide_replicas, unapplied
from fleet.rescaling.observation import (
    AutoscalerState,
    MetricFault,
    PodSample,
    Recommendation,
    ScaleEvent,
)
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.spec import Behavior, MetricSpec, TargetType
from tests.fleet.rescaling.workloads import (
    CPU,
    NOW,
    QUEUE,
    REQUESTS,
    autoscaler,
    busy,
    later,
    pod,
    seen,
)

NEW = AutoscalerState()
RULES = Behavior(DEFAULT_UP, DEFAULT_DOWN)


def test_load_above_target_adds_replicas_and_says_why() -> None:
    """3 pods at 90 % of what they request, against 50 %, become 6; every number is told."""
    decision = decide_replicas(autoscaler(), busy(3, 900), NEW, NOW)

    assert (decision.current, decision.desired, decision.error) == (3, 6, "")
    (proposal,) = decision.proposals
    assert (proposal.value, proposal.target, proposal.ratio, proposal.replicas) == (90, 50, 1.8, 6)
    assert proposal.pods == PodCounts(ready=3)
    assert [rule.rule for rule in decision.rules] == ["metrics"]
    assert {one.type: (one.status, one.reason) for one in decision.conditions} == {
        "AbleToScale": (True, "SucceededRescale"),
        "ScalingActive": (True, "ValidMetricFound"),
        "ScalingLimited": (False, "DesiredWithinRange"),
    }


def test_a_count_that_stays_is_explained_as_well() -> None:
    """Within the tolerance the decision names the ratio and the bounds that held it."""
    decision = decide_replicas(autoscaler(), busy(3, 540), NEW, NOW)

    assert not decision.is_change
    assert decision.rules[-1].rule == "tolerance"
    assert decision.rules[-1].reason == "1.080 of the target is within 0.900 to 1.100"


def test_a_utilization_is_cut_to_whole_percents_before_it_is_compared() -> None:
    """55.9 % counts as 55 %: 1.1 times the target is within the tolerance, 1.118 would not be."""
    assert not decide_replicas(autoscaler(), busy(3, 559), NEW, NOW).is_change
    assert decide_replicas(autoscaler(), busy(3, 560), NEW, NOW).is_change


def test_a_change_that_was_not_made_leaves_no_trace_but_the_proposal() -> None:
    """A refused write keeps the count and the events, and its error stands in the condition."""
    spec = autoscaler(behavior=RULES)
    before = AutoscalerState(scale_downs=(ScaleEvent(later(-9), 1),))
    decision = decide_replicas(spec, busy(3, 900), before, NOW)
    assert (decision.desired, decision.state.scale_ups) == (6, (ScaleEvent(NOW, 3),))

    kept = unapplied(spec, decision, before, "the API is away")

    assert (kept.desired, kept.state.scale_ups, kept.state.scale_downs) == (
        3,
        (),
        before.scale_downs,
    )
    assert kept.state.recommendations == decision.state.recommendations
    assert kept.error == "failed to rescale Deployment/default/web: the API is away"
    assert kept.conditions[0].reason == "FailedUpdateScale"


def test_a_change_that_nobody_tried_shows_what_the_past_said() -> None:
    """Observed only, the condition is the one from before the change; without one all stays."""
    lowered = AutoscalerState((Recommendation(later(-60), 8),), seen=True)
    for spec, before, count, told in (
        (autoscaler(), NEW, 3, "ReadyForNewScale"),
        (autoscaler(), lowered, 3, "ScaleDownStabilized"),
        (autoscaler(most=2), NEW, 3, "SucceededGetScale"),
    ):
        decision = decide_replicas(spec, busy(count, 900), before, NOW)
        kept = unapplied(spec, decision, before)
        assert (kept.desired, kept.error, kept.conditions[0].reason) == (count, "", told)
        assert kept.rules[-1].reason == "nobody acted"
    calm = decide_replicas(autoscaler(), busy(3, 500), NEW, NOW)
    assert unapplied(autoscaler(), calm, NEW, "no matter") is calm


def test_a_metric_that_cannot_be_had_never_counts_as_zero() -> None:
    """All invalid: nothing changes. Some: the rest may add replicas, and may not remove any."""
    away = MetricFault("any", "no answer")
    spec = autoscaler(CPU, QUEUE)
    samples = {f"web-{index}": PodSample(900, NOW) for index in range(3)}
    idle = {name: PodSample(10, NOW) for name in samples}

    none = decide_replicas(spec, seen(3, away, away), NEW, NOW)
    up = decide_replicas(spec, seen(3, samples, away), NEW, NOW)
    down = decide_replicas(spec, seen(3, idle, away), NEW, NOW)

    assert (none.desired, up.desired, down.desired) == (3, 6, 3)
    assert "2 invalid out of 2" in none.error
    assert not up.error
    assert "1 invalid out of 2" in up.warning
    assert down.rules[-1].rule == "invalid-metrics"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5, 2**63])
def test_a_sample_that_is_no_whole_number_makes_the_metric_invalid(value: float) -> None:
    """What no controller could have read is named with its pod, and changes nothing."""
    decision = decide_replicas(
        autoscaler(),
        seen(1, {"web-0": PodSample(value, NOW)}),
        NEW,
        NOW,  # type: ignore[arg-type]
    )

    assert not decision.is_change
    assert f"sample web-0 is {value!r}" in decision.error


def test_readings_that_do_not_fit_the_spec_are_refused() -> None:
    """Another number of readings, and a reading of another kind, are the caller's mistakes."""
    for observation in (seen(1), seen(1, [5]), seen(1, {}, {})):
        with pytest.raises(InvalidInputError, match="reading"):
            decide_replicas(autoscaler(), observation, NEW, NOW)
    for metric, observation in ((QUEUE, seen(1, {})), (REQUESTS, seen(1, [1, 2]))):
        with pytest.raises(InvalidInputError, match="reading"):
            decide_replicas(autoscaler(metric), observation, NEW, NOW)
    with pytest.raises(InvalidInputError, match="now"):
        decide_replicas(autoscaler(), seen(1, {}), NEW, NOW.replace(tzinfo=None))
    with pytest.raises(InvalidInputError, match="metrics of web"):
        decide_replicas(replace(autoscaler(), metrics=()), seen(1), NEW, NOW)
    with pytest.raises(InvalidInputError, match="spec_replicas of web"):
        decide_replicas(autoscaler(), seen(-1, {}, pods=()), NEW, NOW)


def test_ready_pods_are_told_from_those_that_start() -> None:
    """CPU of a pod that has just started says nothing of load; its memory does."""
    young = pod("web-0")._replace(started_at=later(-60), ready_changed_at=later(-10))
    samples = {"web-0": PodSample(900, NOW)}

    decision = decide_replicas(autoscaler(), seen(1, samples, pods=[young]), NEW, NOW)

    assert "pods might be unready" in decision.error


@pytest.mark.parametrize("tolerance", [None, 0.0005])
def test_a_tolerance_finer_than_a_thousandth_counts_as_it_is(tolerance: float | None) -> None:
    """1.0006 times the target is too much for 0.0005; a thousandth would let it pass."""
    metric = replace(CPU, target_type=TargetType.AVERAGE_VALUE, target=10_000)
    rules = replace(DEFAULT_UP, tolerance_milli=1, tolerance=tolerance)
    spec = autoscaler(metric, behavior=Behavior(rules, DEFAULT_DOWN))

    assert decide_replicas(spec, busy(3, 10_006), NEW, NOW).is_change is (tolerance is not None)


@pytest.mark.parametrize(("usage", "desired"), [(-500, 2), (0, 2), (2**62, 10), (2**63 - 1, 10)])
def test_negative_and_exploding_metrics_stay_within_bounds(usage: int, desired: int) -> None:
    """What is below nothing asks for the minimum, what is beyond all numbers for the most."""
    spec = autoscaler(replace(CPU, target_type=TargetType.AVERAGE_VALUE), least=2, most=40)
    decision = decide_replicas(spec, busy(5, usage), AutoscalerState(seen=True), NOW)

    assert decision.desired == desired


def test_a_late_sample_of_a_starting_pod_does_not_count() -> None:
    """What was measured before a pod was ready, for one window, is of its start and is left out."""
    young = pod("web-0")._replace(started_at=later(-60), ready_changed_at=later(-40))
    for age_s, counts in ((5, True), (9, True), (11, False), (300, False)):
        samples = {"web-0": PodSample(900, later(-age_s), window_s=30)}
        decision = decide_replicas(autoscaler(), seen(1, samples, pods=[young]), NEW, NOW)
        assert (decision.error == "") is counts


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (CPU, "neither an average utilization target nor an average value (usage) target"),
        (QUEUE, "invalid external metric source: neither a value target nor an average value"),
        (REQUESTS, "invalid object metric source: neither a value target nor an average value"),
    ],
)
def test_a_metric_without_the_number_of_its_target_is_invalid(
    metric: MetricSpec, told: str
) -> None:
    """Whoever got such a spec past the API gets the controller's words."""
    reading = {} if metric is CPU else [1]
    decision = decide_replicas(
        autoscaler(replace(metric, has_target=False)), seen(1, reading), NEW, NOW
    )

    assert told in decision.error
    assert decision.conditions[-1].reason == f"FailedGet{metric.kind}Metric"
