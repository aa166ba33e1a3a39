"""Thousands of workloads in one call: the same as one by one, to the word."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rescaling.batch import changes, decide_many, unapplied_all, unapplied_many
from fleet.rescaling.batch_columns import READY_UNKNOWN, observation_batch
from fleet.rescaling.batch_specs import NONE_US, spec_batch
from fleet.rescaling.batch_states import empty_state_batch, state_batch
from fleet.rescaling.hpa import decide_replicas, unapplied
from fleet.rescaling.observation import (
    AutoscalerState,
    Condition,
    PodSample,
    WorkloadObservation,
)
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.spec import AutoscalerSpec, Behavior, ControllerOptions, TargetType
from tests.fleet.rescaling import recordings
from tests.fleet.rescaling.draw import draw_observation, draw_spec, draw_state
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


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), scale_to_zero=st.booleans())
def test_a_batch_decides_as_one_by_one_through_several_reconciles(
    seed: int, scale_to_zero: bool
) -> None:
    """Counts, memory and conditions are equal, whatever pods, metrics, faults and rules are."""
    rng = Random(seed)
    options = ControllerOptions(scale_to_zero=scale_to_zero)
    specs = [draw_spec(rng) for _ in range(25)]
    batch = spec_batch(specs, options)
    states = [draw_state(rng) for _ in specs]
    columns = state_batch(states)
    counts = [rng.randrange(12) for _ in specs]
    for tick in range(4):
        now = later(15 * tick)
        seen = [
            draw_observation(rng, spec, count, now)
            for spec, count in zip(specs, counts, strict=True)
        ]
        single = [
            decide_replicas(spec, one, state, now, options)
            for spec, one, state in zip(specs, seen, states, strict=True)
        ]
        decided = decide_many(batch, observation_batch(batch, seen), columns, now)

        assert decided.desired.tolist() == [one.desired for one in single]
        states, columns = [one.state for one in single], decided.state
        assert [columns.state(batch, index) for index in range(len(specs))] == states
        assert decided.decision(tick) == single[tick]
        counts = [min(max(one.desired, 0), 40) for one in single]


def test_columns_without_records_are_explained_as_well() -> None:
    """A decision can be asked for where a source has built the columns itself."""
    specs = spec_batch([autoscaler()] * 2)
    seen = observation_batch(specs, [busy(3, 900), busy(3, 540)])
    bare = replace(seen, records=())

    decided = decide_many(specs, bare, empty_state_batch(2), NOW)

    assert decided.desired.tolist() == [6, 3]
    assert list(changes(decided)) == [0]
    for index in range(2):
        told = decided.decision(index)
        assert (told.desired, told.state) == (
            decided.desired[index],
            decided.state.state(specs, index),
        )


def test_columns_that_do_not_belong_together_are_refused() -> None:
    """Another number of workloads or slots, and counts below 0, are the caller's mistakes."""
    specs = spec_batch([autoscaler()] * 2)
    seen = observation_batch(specs, [busy(3, 900)] * 2)
    with pytest.raises(InvalidInputError, match="workloads in specs"):
        decide_many(specs, seen, empty_state_batch(1), NOW)
    with pytest.raises(InvalidInputError, match="slots of readings"):
        decide_many(
            specs, replace(seen, row_offsets=seen.row_offsets[:-1]), empty_state_batch(2), NOW
        )
    negative = np.array([3, -1], np.int32)
    with pytest.raises(InvalidInputError, match="spec_replicas"):
        decide_many(specs, replace(seen, spec_replicas=negative), empty_state_batch(2), NOW)
    with pytest.raises(InvalidInputError, match="ends of rows and pods"):
        decide_many(
            specs, replace(seen, pod_offsets=np.array([0, 3, 5])), empty_state_batch(2), NOW
        )
    with pytest.raises(InvalidInputError, match="now"):
        decide_many(specs, seen, empty_state_batch(2), NOW.replace(tzinfo=None))
    moved = replace(seen, row_offsets=np.array([0, 2, 6]))
    with pytest.raises(InvalidInputError, match="rows of slot 0"):
        decide_many(specs, moved, empty_state_batch(2), NOW)
    with pytest.raises(InvalidInputError, match="observations"):
        observation_batch(specs, [busy(3, 900)])


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_what_nobody_has_done_is_forgotten_at_once_as_one_by_one(seed: int, zero: bool) -> None:
    """Over several reconciles of any workloads, faults and states."""
    rng = Random(seed)
    specs = [draw_spec(rng) for _ in range(12)]
    batch = spec_batch(specs, ControllerOptions(scale_to_zero=zero))
    state = state_batch([draw_state(rng) for _ in specs])
    changed = 0
    for step in range(4):
        now = NOW + timedelta(seconds=15 * step)
        looks = [draw_observation(rng, spec, rng.randrange(12), now) for spec in specs]
        decided = decide_many(batch, observation_batch(batch, looks), state, now)
        kept = unapplied_all(decided)
        for index, spec in enumerate(specs):
            before = state.state(batch, index)
            alone = unapplied(spec, decided.decision(index), before).state
            assert kept.state(batch, index) == alone
        changed += int(decided.is_change.sum())
        state = kept if rng.random() < 0.5 else decided.state
    assert changed


def test_changes_that_were_not_made_are_forgotten_in_columns_too() -> None:
    """Some fail, some nobody tried: the rest is remembered as made."""
    spec = autoscaler(behavior=Behavior(DEFAULT_UP, DEFAULT_DOWN))
    batch = spec_batch([spec] * 3)
    decided = decide_many(
        batch, observation_batch(batch, [busy(3, 900)] * 3), empty_state_batch(3), NOW
    )
    state = unapplied_many(decided, {0: "away", 2: ""})

    single = decide_replicas(spec, busy(3, 900), AutoscalerState(), NOW)
    assert state.state(batch, 1) == single.state == decided.state.state(batch, 0)
    for index, error in ((0, "away"), (2, "")):
        kept = unapplied(spec, single, AutoscalerState(), error)
        assert state.state(batch, index) == kept.state


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_source_of_columns_needs_no_records(seed: int) -> None:
    """Decided from bare columns, and explained from them, a workload gets the same count."""
    rng = Random(seed)
    drawn = [(spec, draw_observation(rng, spec, 6)) for spec in (draw_spec(rng) for _ in range(20))]
    strange = observation_batch(
        spec_batch([spec for spec, _ in drawn]), [one for _, one in drawn]
    ).irregular
    regular = [pair for index, pair in enumerate(drawn) if index not in strange]
    batch = spec_batch([spec for spec, _ in regular])
    states = state_batch([draw_state(rng) for _ in regular])
    seen = observation_batch(batch, [one for _, one in regular])
    told = decide_many(batch, seen, states, NOW)
    bare = decide_many(batch, replace(seen, records=()), states, NOW)

    assert bare.desired.tolist() == told.desired.tolist()
    for index in range(len(regular)):
        assert bare.decision(index).desired == told.desired[index]


def test_a_condition_that_has_never_changed_may_be_unknown() -> None:
    """A pod whose readiness is not known counts, from columns as from a record."""
    batch = spec_batch([autoscaler()])
    columns = replace(
        observation_batch(batch, [busy(1, 900)]),
        records=(),
        pod_ready=np.array([READY_UNKNOWN], np.int8),
        pod_ready_changed_us=np.array([NONE_US], np.int64),
    )
    decided = decide_many(batch, columns, empty_state_batch(1), NOW)
    assert decided.desired.tolist() == [decided.decision(0).desired] == [2]


def test_a_gate_keeps_the_text_of_a_condition_that_another_controller_wrote() -> None:
    """Whether a workload was scaled to zero is read from the status, whoever has worded it."""
    options = ControllerOptions(scale_to_zero=True)
    spec = replace(autoscaler(QUEUE), min_replicas=0)
    batch = spec_batch([spec], options)
    told = Condition("ScaledToZero", status=True, reason="ScaledToZero", message="asleep")
    states = state_batch([AutoscalerState(conditions=(told,), seen=True)])
    seen = observation_batch(batch, [WorkloadObservation(0, 0, (), ([25_000],))])

    decided = decide_many(batch, seen, states, NOW)

    assert decided.current.tolist() == [0]
    assert decided.desired.tolist() == [decided.decision(0).desired] == [3]


def test_nothing_to_decide_is_decided() -> None:
    """No workload at all, and workloads without pods, are no special case."""
    none = spec_batch([])
    decided = decide_many(none, observation_batch(none, []), empty_state_batch(0), NOW)
    assert decided.desired.tolist() == []
    with pytest.raises(InvalidInputError, match="metrics of web"):
        spec_batch([replace(autoscaler(), metrics=())])
    batch = spec_batch([autoscaler(), autoscaler(QUEUE)])
    with pytest.raises(InvalidInputError, match="readings of workload 1"):
        observation_batch(batch, [busy(3, 900), WorkloadObservation(1, 1, (), ())])
    empty = observation_batch(batch, [WorkloadObservation(1, 1, (), ({},)), _queue(1, 5)])
    decided = decide_many(batch, empty, empty_state_batch(2), NOW)
    assert decided.desired.tolist() == [1, 1]


def test_readiness_is_not_looked_at_where_no_metric_is_cpu() -> None:
    """Memory of a pod counts from its first sample on."""
    memory = replace(CPU, name="memory", target_type=TargetType.AVERAGE_VALUE, target=300)
    batch = spec_batch([autoscaler(memory)])
    young = pod("web-0")._replace(started_at=NOW, ready=False, ready_changed_at=NOW)
    observed = observation_batch(batch, [seen(1, {"web-0": PodSample(900, NOW)}, pods=[young])])

    assert decide_many(batch, observed, empty_state_batch(1), NOW).desired.tolist() == [3]


def test_readings_that_columns_cannot_hold_are_decided_one_by_one() -> None:
    """A sample of an unknown pod, or a value that is no number of 64 bits, is not lost."""
    batch = spec_batch([autoscaler(), autoscaler(QUEUE), autoscaler(REQUESTS)])
    strange = {**busy(3, 900).readings[0], "stranger": PodSample(1, NOW)}
    observations = [seen(3, strange), _queue(2, 2**64), _queue(2, 5)]
    observed = observation_batch(batch, observations)

    assert sorted(observed.irregular) == [0, 1]
    decided = decide_many(batch, observed, empty_state_batch(3), NOW)
    assert decided.desired.tolist() == [
        decide_replicas(spec, one, AutoscalerState(), NOW).desired
        for spec, one in zip(batch.specs, observations, strict=True)
    ]


def _queue(replicas: int, value: int) -> WorkloadObservation:
    return seen(replicas, [value])


@pytest.mark.long
def test_recorded_workloads_are_decided_in_columns_as_alone() -> None:
    """Calls of the calculator of one kind of controller, all in one batch: the same proposals."""
    groups: dict[ControllerOptions, list[tuple[AutoscalerSpec, WorkloadObservation]]] = {}
    for line in recordings.lines("calculator.jsonl.gz"):
        spec, observation, options = recordings.calculator_case(line)
        groups.setdefault(options, []).append((spec, observation))
    for options, cases in groups.items():
        batch = spec_batch([spec for spec, _ in cases], options)
        seen = observation_batch(batch, [one for _, one in cases])
        states = empty_state_batch(len(cases))
        decided = decide_many(batch, seen, states, recordings.START)
        for index, (spec, one) in enumerate(cases):
            single = decide_replicas(spec, one, AutoscalerState(), recordings.START, options)
            assert decided.desired[index] == single.desired
            assert decided.state.state(batch, index) == single.state
