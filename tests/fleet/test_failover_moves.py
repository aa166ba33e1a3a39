"""Plans are read back as they were written, and what is stored tells which of them are made."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Placement
from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.failover_moves import (
    PlannedMove,
    batches,
    encode_plan,
    read_plans,
    settle,
    to_placement,
)
from fleet.failover_order import FailoverOrder, OrderKind, decode_order, encode_order
from fleet.journal import JournalEntry

NOW = datetime(2026, 11, 21, tzinfo=UTC)
names = st.integers(0, 30).map(lambda i: f"a{i:02}")
moves_st = st.lists(
    st.builds(
        PlannedMove,
        names,
        st.integers(1, 3),
        st.just("n0"),
        st.sampled_from(["n1", "n2"]),
        st.just("east"),
        st.just("running"),
        st.text(max_size=5),
    ),
    unique_by=lambda one: one.agent_id,
)


def told(step: str, moves: list[PlannedMove], status: str = "done") -> JournalEntry:
    """A journal entry with a plan."""
    detail = json.dumps({"moves": encode_plan(moves)})
    return JournalEntry("incident", step, status, "n0", "", NOW, None, detail)


@given(moves_st, st.integers(1, 7))
def test_a_plan_is_read_back_from_its_batches(moves: list[PlannedMove], size: int) -> None:
    """Whatever the batches; other steps of the journal are no plans."""
    entries = [told(f"plan/1-{n:04d}", one) for n, one in enumerate(batches(moves, size))]
    other = JournalEntry("incident", "move/1-0000", "done", "n0", "", NOW)
    assert read_plans([*entries, other]) == sorted(moves)
    assert all(len(one) <= size for one in batches(moves, size))


def test_the_latest_plan_of_an_agent_counts() -> None:
    """A second attempt plans anew."""
    first = PlannedMove("a", 1, "n0", "n1", "east", "running", "")
    second = first._replace(node_id="n2", epoch=2)
    assert read_plans([told("plan/1-0000", [first]), told("plan/2-0000", [second])]) == [second]
    assert read_plans([told("plan/1-0000", [first], "started")]) == []


@given(moves_st, st.lists(st.sampled_from(["still", "made", "elsewhere", "gone"]), min_size=31))
def test_what_is_stored_tells_what_became_of_each_move(
    moves: list[PlannedMove], fates: list[str]
) -> None:
    """Still there: pending. One epoch on, on the planned node: made. Else: somebody else's."""
    stored, expected = {}, {"still": [], "made": [], "elsewhere": [], "gone": []}  # type: ignore[var-annotated]
    for move, fate in zip(moves, fates, strict=False):
        placed = Placement(
            move.agent_id, "net", "w", "n0", "east", move.epoch, 1, "running", "", NOW
        )
        made = to_placement(move, placed, 7)._replace(epoch=move.epoch + 1)
        elsewhere = made._replace(node_id="n9")
        if fate != "gone":
            stored[move.agent_id] = {"still": placed, "made": made, "elsewhere": elsewhere}[fate]
        expected[fate].append(move)
    settled = settle(moves, stored)
    assert list(settled.pending) == expected["still"]
    assert list(settled.made) == expected["made"]
    assert sorted(settled.overtaken) == sorted(expected["elsewhere"] + expected["gone"])


@pytest.mark.parametrize("detail", ["", "[]", '{"moves": 3}', '{"moves": [["a"]]}', "{}"])
def test_a_plan_that_cannot_be_read_names_its_step(detail: str) -> None:
    """Nobody guesses where an agent was to go."""
    entry = JournalEntry("incident", "plan/1-0000", "done", "n0", "", NOW, None, detail)
    with pytest.raises(CorruptObjectError, match="plan/1-0000 holds no moves"):
        read_plans([entry])


orders_st = st.builds(
    FailoverOrder,
    st.sampled_from(OrderKind),
    names,
    names,
    st.integers(1, 9),
    st.integers(0, 9),
    st.text(max_size=9),
    nodes=st.lists(names).map(tuple),
    heartbeats=st.dictionaries(names, st.integers(0, 2**50)),
    avoid=st.lists(names).map(tuple),
    regions=st.lists(names).map(tuple),
    head_room=st.sampled_from([0.0, 0.25]),
    agents_max=st.none() | st.integers(1, 9),
    forced=st.booleans(),
)


@given(orders_st)
def test_an_order_travels_as_text(order: FailoverOrder) -> None:
    """From the sensor into the run."""
    assert decode_order(encode_order(order)) == order


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "node"}', "null"])
def test_what_is_no_order_is_refused(text: str) -> None:
    """With the field's name."""
    with pytest.raises(InvalidInputError, match="order"):
        decode_order(text)
