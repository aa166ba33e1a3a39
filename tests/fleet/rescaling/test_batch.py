"""Thousands of workloads in one call: the same as one by one, to the word."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.rescaling.batch import changes, decide_many
from fleet.rescaling.batch_columns import observation_batch
from fleet.rescaling.batch_specs import spec_batch
from fleet.rescaling.batch_states import empty_state_batch, state_batch
from fleet.rescaling.hpa import decide_replicas
from fleet.rescaling.spec import ControllerOptions
from tests.fleet.rescaling.draw import draw_observation, draw_spec, draw_state
from tests.fleet.rescaling.workloads import NOW, autoscaler, busy, later


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
    with pytest.raises(InvalidInputError, match="observations"):
        observation_batch(specs, [busy(3, 900)])
