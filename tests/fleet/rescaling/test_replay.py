"""Replays: what a day costs and lacks, computed by hand where that can be done."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rescaling.load_trace import LoadTrace, arrivals_trace, sampled_trace
from fleet.rescaling.policy import Activation, CalendarWindow, WorkloadScaling
from fleet.rescaling.replay import (
    Replayed,
    ServiceModel,
    count_changes,
    peak_replicas,
    replay,
    replay_static,
    smallest_static,
)
from fleet.rescaling.spec import MetricKind, MetricSpec, TargetType
from tests.examples import examples
from tests.fleet.rescaling.workloads import CPU, NOW, QUEUE, REQUESTS, autoscaler

SESSIONS = MetricSpec(MetricKind.PODS, "sessions", TargetType.AVERAGE_VALUE, 10_000)
MODEL = ServiceModel(10.0, start_s=30, metric_delay_s=15, metric_window_s=15, price_per_hour=2.0)


def trace(*load: float) -> LoadTrace:
    """A load, 15 s a step."""
    return LoadTrace("day", NOW, 15, load)


def test_a_step_of_load_is_seen_late_and_served_after_the_start() -> None:
    """Load of 10 becomes 30 at step 3: measured two steps later, served two more after that."""
    rules = WorkloadScaling("web", autoscaler(QUEUE))

    found = replay(rules, trace(*[10] * 3, *[30] * 7), MODEL, first_replicas=1)

    assert found.replicas == (1, 1, 1, 1, 1, 3, 3, 3, 3, 3)
    assert found.ready == (1, 1, 1, 1, 1, 1, 1, 3, 3, 3)
    assert found.short_s == 4 * 15
    # 4 steps bring 20 a second too much: 1,200 wait for one replica of 10 a second; three of them
    # keep up with the load and work nothing off
    assert found.wait_s == 120
    assert found.violated_s == 7 * 15 - 15, "the first of them waits for 30 s, which is allowed"
    assert found.late == 6 * 15 * 30
    assert found.offered == 15 * (3 * 10 + 7 * 30)
    assert found.cost == pytest.approx((5 * 1 + 5 * 3) * 15 / 3600 * 2)
    assert found.replica_hours == pytest.approx(20 * 15 / 3600)
    assert (found.changes, found.flaps) == (1, 0)


def test_a_start_that_takes_no_time_serves_at_once() -> None:
    """The step that orders replicas is the first that they serve."""
    rules = WorkloadScaling("web", autoscaler(QUEUE))

    found = replay(rules, trace(10, *[30] * 4), replace(MODEL, start_s=0), first_replicas=1)

    assert found.ready == found.replicas == (1, 1, 1, 3, 3)


def test_metrics_are_averages_of_what_is_over() -> None:
    """A minute's average, 15 s old: a jump from 10 to 50 is seen in four steps of 10."""
    rules = WorkloadScaling("web", autoscaler(QUEUE))
    model = replace(MODEL, metric_window_s=60)

    found = replay(rules, trace(10, *[50] * 7), model, first_replicas=1)

    assert found.replicas == (1, 1, 1, 2, 3, 4, 5, 5)
    whole = replay(rules, trace(10, *[50] * 7), model)
    assert whole.replicas == (5,) * 8, "it begins with what the peak needs, and keeps it 300 s"


def test_a_queue_is_worked_off_and_a_length_is_not_there_any_more() -> None:
    """A rate waits; sessions that found no place in their step are lost in it, and only in it."""
    load = trace(10, 25, 5, 5, 5)

    queued = replay_static(load, MODEL, 1, "one")
    lost = replay_static(load, replace(MODEL, queues=False), 1, "one")

    assert (queued.wait_s, queued.violated_s, queued.late) == (22.5, 0, 0)
    assert replay_static(load, replace(MODEL, wait_max_s=20), 1, "one").violated_s == 15
    assert (lost.wait_s, lost.violated_s, lost.late) == (0, 15, 15 * 15)
    assert queued.short_s == lost.short_s == 15


def test_nobody_there_is_an_endless_wait_only_while_there_is_work() -> None:
    """No load needs nobody."""
    assert replay_static(trace(0, 0), MODEL, 0, "none").wait_s == 0
    none = replay_static(trace(0, 1), MODEL, 0, "none")
    assert (none.wait_s, none.violated_s) == (inf, 15)


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.booleans())
def test_a_fleet_for_the_peak_is_never_short_and_the_smallest_is_the_smallest(
    load: list[float], queues: bool
) -> None:
    """One replica fewer than the smallest is late; the peak fleet lacks nothing."""
    model = replace(MODEL, queues=queues)
    day = trace(*load)
    peak, smallest = peak_replicas(day, model), smallest_static(day, model)

    assert replay_static(day, model, peak, "").short_s == 0
    assert smallest <= peak
    assert replay_static(day, model, smallest, "").violated_s == 0
    if smallest > 1:
        assert replay_static(day, model, smallest - 1, "").violated_s > 0


@pytest.mark.parametrize("metric", [QUEUE, SESSIONS, CPU, replace(REQUESTS, target=20_000)])
def test_every_kind_of_metric_comes_to_rest_under_constant_load(metric: MetricSpec) -> None:
    """Total, per pod, and percent of the capacity, which is capped: all serve a load of 95."""
    rules = WorkloadScaling("web", autoscaler(metric))

    found = replay(rules, trace(*[95.0] * 120), MODEL)

    assert found.ready[-1] >= 10
    assert len(set(found.replicas[90:])) == 1
    assert found.flaps == 0


def test_the_same_replay_twice_is_the_same() -> None:
    """Nothing but the arguments counts."""
    rules = WorkloadScaling("web", autoscaler(SESSIONS))
    load = trace(*[float(index * 37 % 90) for index in range(200)])

    assert replay(rules, load, MODEL) == replay(rules, load, MODEL)


def test_rules_beyond_kubernetes_hold_in_a_replay() -> None:
    """Asleep after the cool-down, awake with load, and ready when the window opens."""
    window = CalendarWindow("noon", "10 12 * * *", "20 12 * * *", "UTC", 6)
    rules = WorkloadScaling(
        "web", autoscaler(QUEUE), activation=Activation(cooldown_s=60), calendar=(window,)
    )

    found = replay(rules, trace(*[0.0] * 100), MODEL)

    assert found.replicas[0] == 1
    assert found.replicas[5:38] == (0,) * 33
    assert found.replicas[38] == 6, "30 s before 12:10, as long as a start takes"
    assert found.ready[40] == 6
    assert found.replicas[-1] == 0


def test_a_change_that_is_turned_around_within_ten_minutes_is_a_flap() -> None:
    """Up and down within 600 s is one, a second rise is none."""
    assert count_changes([1, 2, 3, 3, 2], 15) == (3, 1)
    assert count_changes([1, 2, *[2] * 41, 1], 15) == (2, 0)
    assert count_changes([1, 2, *[2] * 39, 1], 15) == (2, 1)
    assert count_changes([4], 15) == (0, 0)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (replace(MODEL, replica_capacity=0), "replica_capacity"),
        (replace(MODEL, replica_capacity=inf), "replica_capacity"),
        (replace(MODEL, start_s=-1), "start_s"),
        (replace(MODEL, metric_delay_s=float("nan")), "metric_delay_s"),
        (replace(MODEL, metric_window_s=inf), "metric_window_s"),
        (replace(MODEL, price_per_hour=-1), "price_per_hour"),
        (replace(MODEL, wait_max_s=-1), "wait_max_s"),
    ],
)
def test_a_model_that_cannot_be_is_refused(model: ServiceModel, field: str) -> None:
    """The field is named, by replays and by comparisons."""

    def static() -> Replayed:
        return replay_static(trace(1), model, 1, "")

    for action in (
        static,
        lambda: replay(WorkloadScaling("web", autoscaler(QUEUE)), trace(1), model),
        lambda: peak_replicas(trace(1), model),
    ):
        with pytest.raises(InvalidInputError, match=field):
            action()


def test_what_load_does_not_tell_is_refused() -> None:
    """Memory does not follow load; a million replicas are no replay."""
    memory = replace(CPU, name="memory")
    for spec, named in ((autoscaler(memory), "memory"), (autoscaler(QUEUE, most=10**6), "1000000")):
        with pytest.raises(InvalidInputError, match=named):
            replay(WorkloadScaling("web", spec), trace(1), MODEL)


def test_samples_hold_until_the_next_one() -> None:
    """Values at 0, 20 and 60 s, in any order, on a grid of 15 s."""
    found = sampled_trace("t", {60.0: 7.0, 0.0: 1.0, 20.0: 5.0})

    assert (found.load, found.start.timestamp(), found.duration_s) == ([1, 1, 5, 5, 7], 0, 75)
    assert found.repeated(2).load == [1, 1, 5, 5, 7] * 2
    assert found.peak == 7


def test_arrivals_are_counted_by_second_and_the_last_part_of_a_step_is_left_out() -> None:
    """Three within the first 15 s, one in the next; the rest of 10 s says nothing of a step."""
    found = arrivals_trace("t", [(14.9, 1), (0, 1), (7, 4), (15, 3), (39.0, 9)])

    assert found.load == [6 / 15, 3 / 15]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), inf])
def test_a_load_that_cannot_be_is_refused(bad: float) -> None:
    """Value, time, span and step are checked before anything is built."""
    with pytest.raises(InvalidInputError, match="load t"):
        sampled_trace("t", {0.0: bad})
    with pytest.raises(InvalidInputError, match="load t"):
        arrivals_trace("t", [(0, 1), (100, bad)])
    if bad != -1.0:
        with pytest.raises(InvalidInputError, match="load t"):
            sampled_trace("t", {bad: 1.0})
    with pytest.raises(InvalidInputError, match="one row"):
        sampled_trace("t", {})
    with pytest.raises(InvalidInputError, match="of arrivals or more"):
        arrivals_trace("t", [(0, 1), (3, 1)])
    with pytest.raises(InvalidInputError, match="times of load"):
        sampled_trace("t", {0.0: 1.0, 1.7e12: 1.0})
    with pytest.raises(InvalidInputError, match="step_s"):
        sampled_trace("t", {0.0: 1.0}, step_s=0)
