"""The memory between two ticks survives being written down."""

from __future__ import annotations

import json
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.failover.records import (
    ControllerState,
    FailoverState,
    MoveNote,
    NodeMark,
    NodeState,
    RegionMark,
    RegionState,
)
from fleet.failover.rules import Rule
from fleet.failover.state_json import decode_state, encode_state
from tests.examples import examples
from tests.fleet.failover.rule_scenarios import SCENARIOS, lawful

names = st.text(ascii_lowercase, min_size=1, max_size=8)
moments = st.floats(-1e9, 1e9, allow_nan=False)
maybe = st.none() | moments
some = st.lists(moments, max_size=3).map(tuple)
words = st.lists(names, max_size=3).map(tuple)

node_marks = st.builds(
    NodeMark, node_id=names, state=st.sampled_from(NodeState), since_s=moments, suspect_s=moments,
    incident=names, confirmed_by=names, fenced_by=names, moved_s=maybe, fence_s=maybe,
    attempts=st.integers(0, 9), stateless_moved=st.booleans(), cool_until_s=moments,
    flaps_s=some, returns_s=some,
    probation_s=moments, watch_from_s=moments, gray_s=maybe,
    unregistered=st.booleans(), told=words,
)  # fmt: skip
region_marks = st.builds(
    RegionMark, region=names, state=st.sampled_from(RegionState), since_s=moments, incident=names,
    evacuated_s=maybe, wave=st.integers(0, 9), calm_s=maybe, evacuation=names, fail_back_s=maybe,
    told=words,
)  # fmt: skip
states = st.builds(
    FailoverState,
    clock_id=names,
    tick_s=maybe,
    ages_from_s=moments,
    controller=st.sampled_from(ControllerState),
    frozen_by=words,
    nodes=st.lists(node_marks, max_size=4).map(
        lambda marks: {mark.node_id: mark for mark in marks}
    ),
    regions=st.lists(region_marks, max_size=3).map(
        lambda marks: {mark.region: mark for mark in marks}
    ),
    moves=st.lists(
        st.builds(
            MoveNote,
            moments,
            names,
            names,
            st.integers(0, 10**6),
            st.booleans(),
            names,
            st.booleans(),
        ),
        max_size=4,
    ).map(tuple),
    parked=st.dictionaries(names, moments),
)


@settings(max_examples=examples(60))
@given(states)
def test_a_state_reads_back_as_it_was_written(state: FailoverState) -> None:
    """And equal states give equal text."""
    text = encode_state(state)
    assert decode_state(text) == state
    assert encode_state(decode_state(text)) == text


@pytest.mark.parametrize("rule", list(SCENARIOS))
def test_every_state_that_a_history_leaves_reads_back(rule: Rule) -> None:
    """Real states, not only drawn ones."""
    fleet = lawful(rule)
    assert decode_state(encode_state(fleet.state)) == fleet.state


def test_a_healthy_fleet_takes_next_to_nothing() -> None:
    """Only what is not healthy is kept."""
    assert len(encode_state(FailoverState())) < 200


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.update(version=2),
        lambda document: document.pop("nodes"),
        lambda document: document.update(controller="sleepy"),
        lambda document: document.update(nodes=[{"node_id": "a", "colour": "red"}]),
        lambda document: document.update(nodes=[{"node_id": "a", "state": "dead"}]),
        lambda document: document.update(nodes=[{"node_id": "a", "since_s": "soon"}]),
        lambda document: document.update(nodes=[{"state": "healthy"}]),
        lambda document: document.update(regions=["eu"]),
        lambda document: document.update(moves=[[1.0]]),
        lambda document: document.update(parked=[1]),
    ],
)
def test_what_cannot_be_understood_is_refused_not_guessed(damage: object) -> None:
    """The hint says that an empty state is safe."""
    document = json.loads(encode_state(FailoverState()))
    damage(document)  # type: ignore[operator]
    with pytest.raises(InvalidInputError) as caught:
        decode_state(json.dumps(document))
    assert "empty state" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"'])
def test_text_of_another_kind_is_refused(text: str) -> None:
    """Not JSON, or no object."""
    with pytest.raises(InvalidInputError):
        decode_state(text)
