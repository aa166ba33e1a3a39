"""What is kept between two looks: texts and back, orders, folded decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.observation import AutoscalerState, Condition, Recommendation, ScaleEvent
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.scale_order import (
    ScaleOrder,
    batch_key,
    decode_orders,
    encode_orders,
    order_of,
)
from fleet.rescaling.standing import (
    APPROVAL,
    HOLD,
    LoggedDecision,
    Pending,
    ScalingOrder,
    fold,
    live_orders,
    next_pending,
    scales_journaled,
)
from fleet.rescaling.state_json import (
    decode_autoscaler,
    decode_pending,
    emptied_standing,
    encode_autoscaler,
    encode_pending,
    pack_standing,
    read_standing,
    standing_of_row,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
COUNTS = st.integers(0, 2**31 - 1)
EVENTS = st.lists(st.builds(ScaleEvent, TIMES, COUNTS, st.booleans()), max_size=3).map(tuple)
STATES = st.builds(
    AutoscalerState,
    st.lists(st.builds(Recommendation, TIMES, COUNTS), max_size=3).map(tuple),
    EVENTS,
    EVENTS,
    st.lists(
        st.builds(Condition, st.text(max_size=5), st.booleans(), st.text(), st.text()), max_size=2
    ).map(tuple),
    st.booleans(),
    st.dictionaries(st.text(max_size=4), st.text(max_size=9), max_size=2),
)
PENDING = st.builds(Pending, COUNTS, COUNTS, TIMES, STATES, st.text())


@given(STATES, PENDING)
def test_what_is_remembered_comes_back_to_the_microsecond(
    state: AutoscalerState, pending: Pending
) -> None:
    """Every field, and nothing where there was nothing."""
    assert decode_autoscaler(encode_autoscaler(state)) == state
    assert decode_pending(encode_pending(pending)) == pending
    assert decode_autoscaler("") == AutoscalerState()
    assert decode_pending(encode_pending(None)) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"version": 2}', '{"version": 1, "recommendations": [[1]]}', "{}"]
)
def test_a_text_that_is_none_is_refused(text: str) -> None:
    """With what to do about it."""
    with pytest.raises(CorruptObjectError) as caught:
        decode_autoscaler(text)
    assert "stateroom scaling forget" in caught.value.hint
    with pytest.raises(CorruptObjectError):
        decode_pending(json.dumps({"state": text}))


NUMBERS = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=3), st.none(), st.lists(st.none())
)
ENTRIES = st.lists(st.lists(NUMBERS, max_size=5), max_size=2) | NUMBERS
NEAR_STATES = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "recommendations": ENTRIES,
        "ups": ENTRIES,
        "downs": ENTRIES,
        "conditions": ENTRIES,
        "seen": NUMBERS,
        "details": NUMBERS | st.dictionaries(st.text(max_size=2), NUMBERS, max_size=2),
    },
)
NEAR_PENDING = st.fixed_dictionaries(
    {
        "current": NUMBERS,
        "desired": NUMBERS,
        "since": NUMBERS,
        "reason": NUMBERS,
        "state": NEAR_STATES | NUMBERS,
    }
)
TEXTS = st.text(max_size=20) | (NEAR_STATES | NEAR_PENDING | NUMBERS).map(json.dumps)


@given(TEXTS, TEXTS)
def test_whatever_stands_in_a_row_is_a_standing_or_damaged_and_never_an_error(
    state_json: str, pending_json: str
) -> None:
    """And what is whole can be decided in columns, kept again, and is the same then."""
    from fleet.rescaling.batch_states import TYPES, state_batch

    read = read_standing(standing_of_row(("w", "r", state_json, 1, pending_json, 0, 1)))
    if isinstance(read, DamagedStanding):
        assert read.key == ("w", "r")
        assert read.damage
        return
    assert read_standing(pack_standing(read)) == read
    states = [read.state, *([] if read.pending is None else [read.pending.state])]
    state_batch(
        [
            replace(one, conditions=tuple(each for each in one.conditions if each.type in TYPES))
            for one in states
        ]
    )


def test_a_damage_is_told_in_one_sentence_that_leaves_room_for_the_next_step() -> None:
    """However much nonsense stands there."""
    read = read_standing(
        standing_of_row(("w", "r", json.dumps({"version": "x" * 999}), 0, "", 0, 0))
    )
    assert isinstance(read, DamagedStanding)
    assert read.reason.startswith("the standing of w in r is damaged: its state cannot be read")
    assert len(read.reason) < 200
    assert "stateroom scaling forget w --region r" in read.told


def test_a_number_of_changes_goes_on_above_all_that_were_journaled() -> None:
    """Whatever stands in the row: a number that is reused would be a plan's that was refused."""
    steps = ["scaled/2", "forgotten/9", "scaled/11", "scaled/x", "hold/77", "scaled/\u00b2"]
    assert scales_journaled(steps) == 11
    assert scales_journaled([]) == 0
    assert emptied_standing(("w", "r"), 3, 11).scales == 12
    assert emptied_standing(("w", "r"), 20, 11).scales == 21
    for nonsense in ("many", -4, None, 2**60):
        assert emptied_standing(("w", "r"), nonsense, 11).scales == 12


ORDERS = st.lists(
    st.builds(ScaleOrder, st.text(), st.text(), COUNTS, COUNTS, COUNTS, TIMES, COUNTS, st.text()),
    max_size=4,
)


@given(ORDERS, st.randoms())
def test_orders_travel_as_text_and_are_the_same_in_any_order(
    orders: list[ScaleOrder], random: object
) -> None:
    """One run for what was ordered together, whoever lists it."""
    assert decode_orders(encode_orders(orders)) == orders
    key = batch_key(orders)
    random.shuffle(orders)  # type: ignore[attr-defined]
    assert batch_key(orders) == key


@pytest.mark.parametrize(
    "text",
    ["x", "{}", "[[1]]", '[["w","r",1,2,3,"no time",0,"why"]]', '[["w","r",true,2,3,"",0,""]]',
     '[["w",7,1,2,3,"2026-03-01T00:00:00+00:00",0,"why"]]'],
)  # fmt: skip
def test_an_order_that_is_none_is_refused(text: str) -> None:
    """A run that is started by hand with a slip says so."""
    with pytest.raises(InvalidInputError):
        decode_orders(text)


def test_an_order_is_the_same_until_it_has_waited_for_a_minute() -> None:
    """Then it is another attempt, and so another run."""
    pending = Pending(2, 5, NOW, AutoscalerState(), "cpu")
    orders = [order_of(("w", "r"), pending, 3, NOW + timedelta(seconds=s)) for s in (0, 59, 60)]
    assert [one.attempt for one in orders] == [0, 0, 1]
    assert batch_key(orders[:1]) == batch_key(orders[1:2]) != batch_key(orders[2:])


def test_a_pending_change_keeps_its_beginning_while_it_stays_the_same() -> None:
    """Another number begins anew."""
    first = Pending(2, 5, NOW, AutoscalerState(), "cpu")
    later = first._replace(since=NOW + timedelta(seconds=15), reason="cpu still")
    assert next_pending(None, first) == first
    assert next_pending(first, later) == later._replace(since=NOW)
    assert next_pending(first, later._replace(desired=4)).since == later.since


def decided(**changes: object) -> LoggedDecision:
    """A decision that changes nothing."""
    found = LoggedDecision(
        "w", "r", ScalingMode.AUTO, NOW, NOW, 1, 2, 2, 1, 9, 2, 1.0, "", "unchanged", "why"
    )
    return found._replace(**changes)  # type: ignore[arg-type]


def test_decisions_that_say_the_same_are_one_with_their_number() -> None:
    """The newest figures count, the first time stays; another verdict is another row."""
    first = decided(decision_id=7, times=3)
    later = decided(first_at=NOW + timedelta(seconds=15), last_at=NOW + timedelta(seconds=15))
    assert fold(None, later) == later
    together = fold(first, later._replace(load=1.05))
    assert (together.first_at, together.times, together.decision_id) == (NOW, 4, 7)
    assert (together.load, together.last_at) == (1.05, later.last_at)
    assert fold(first, later._replace(desired=3)).times == 1


def test_orders_count_until_their_end() -> None:
    """Which is exclusive; one without an end counts."""
    hold = ScalingOrder("w", "r", HOLD, 3, "ann", "why", NOW, NOW + timedelta(hours=1))
    approval = hold._replace(kind=APPROVAL, until=None)
    holds, approvals = live_orders([hold, approval], NOW + timedelta(minutes=59))
    assert (holds, approvals) == ({("w", "r"): hold}, {("w", "r"): approval})
    holds, approvals = live_orders([hold, approval], NOW + timedelta(hours=1))
    assert (holds, approvals) == ({}, {("w", "r"): approval})
