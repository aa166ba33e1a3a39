"""What holds of every decision, whatever the workload."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.hpa import decide_replicas
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.spec import AutoscalerSpec, Behavior
from tests.examples import examples
from tests.fleet.rescaling.draw import draw_observation, draw_spec, draw_state
from tests.fleet.rescaling.workloads import CPU, NOW, autoscaler, busy, later

_SEEDS = st.integers(0, 2**32)
_RULES = st.sampled_from((None, Behavior(DEFAULT_UP, DEFAULT_DOWN)))


def _decided(rng: Random) -> tuple[AutoscalerSpec, ReplicaDecision]:
    spec = draw_spec(rng)
    observation = draw_observation(rng, spec, rng.randrange(15))
    return spec, decide_replicas(spec, observation, draw_state(rng), NOW)


@settings(max_examples=examples(60), deadline=None)
@given(seed=_SEEDS)
def test_a_change_stays_within_the_limits(seed: int) -> None:
    """Whoever changes the count changes it to something between minimum and maximum."""
    spec, decision = _decided(Random(seed))

    if decision.is_change:
        assert spec.min_replicas <= decision.desired <= spec.max_replicas


@settings(max_examples=examples(60), deadline=None)
@given(seed=_SEEDS)
def test_every_decision_is_explained(seed: int) -> None:
    """The rules lead from the current count to the desired one, also where nothing changes."""
    _, decision = _decided(Random(seed))

    assert decision.rules
    assert all(rule.reason for rule in decision.rules)
    assert decision.rules[0].before == decision.current
    assert decision.rules[-1].after == decision.desired
    assert all(one.after == other.before for one, other in pairwise(decision.rules))


@settings(max_examples=examples(40), deadline=None)
@given(seed=_SEEDS)
def test_the_order_of_pods_and_samples_does_not_matter(seed: int) -> None:
    """Shuffled pods and samples give the same decision, to the word."""
    rng = Random(seed)
    spec = draw_spec(rng)
    observation = draw_observation(rng, spec, rng.randrange(12))
    state = draw_state(rng)
    pods = rng.sample(list(observation.pods), len(observation.pods))
    readings = [
        dict(rng.sample(list(reading.items()), len(reading)))
        if isinstance(reading, dict)
        else reading
        for reading in observation.readings
    ]
    shuffled = replace(observation, pods=pods, readings=readings)

    assert decide_replicas(spec, shuffled, state, NOW) == decide_replicas(
        spec, observation, state, NOW
    )


@settings(max_examples=examples(60), deadline=None)
@given(
    replicas=st.integers(1, 50),
    loads=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
    behavior=_RULES,
)
def test_more_load_never_asks_for_fewer_replicas(
    replicas: int, loads: tuple[int, int], behavior: Behavior | None
) -> None:
    """With all pods ready, the desired count does not fall when every pod uses more."""
    spec = autoscaler(behavior=behavior)
    low, high = (
        decide_replicas(spec, busy(replicas, load), AutoscalerState(), NOW).desired
        for load in sorted(loads)
    )

    assert low <= high


@settings(max_examples=examples(20), deadline=None)
@given(
    total=st.integers(100, 40_000),
    start=st.integers(1, 60),
    target=st.integers(20, 90),
    behavior=_RULES,
)
def test_constant_load_comes_to_rest(
    total: int, start: int, target: int, behavior: Behavior | None
) -> None:
    """The same load, shared by all replicas, ends in one count that is then kept."""
    spec = autoscaler(replace(CPU, target=target), behavior=behavior)
    state, count, counts = AutoscalerState(), start, []
    for tick in range(60):
        decision = decide_replicas(
            spec, busy(count, total // count, later(15 * tick)), state, later(15 * tick)
        )
        state, count = decision.state, decision.desired
        counts.append(count)

    turns = [one - other for one, other in zip(counts, [start, *counts], strict=False)]
    signs = [turn > 0 for turn in turns if turn]
    assert len(set(counts[-20:])) == 1
    assert sum(one != other for one, other in pairwise(signs)) <= 1


@pytest.mark.parametrize("replicas", [1, 7])
def test_load_on_target_changes_nothing(replicas: int) -> None:
    """Exactly on target the count stays, in every reconcile."""
    state = AutoscalerState()
    for tick in range(30):
        decision = decide_replicas(autoscaler(), busy(replicas, 500), state, later(15 * tick))
        assert not decision.is_change
        state = decision.state
