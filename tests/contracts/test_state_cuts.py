"""Cuts of agent states: what was touched since the last one, or everything, never less."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.agents import StatePut, StateRestore
from fleet.errors import CorruptObjectError
from fleet.ports.control_store import ControlStore
from fleet.state_cuts import ChangeCursor, StateListing, columns_of
from tests.contracts.store_harness import StoreHarness
from tests.contracts.test_control_store import place, placed, shape
from tests.examples import examples

AGENTS = ("a", "b", "c", "d")


def write(store: ControlStore, *agent_ids: str) -> None:
    """The next version of each, all alike."""
    for agent_id in agent_ids:
        state = store.state(agent_id)
        placement = {one.agent_id: one for one in store.placements()}[agent_id]
        put = StatePut(agent_id, placement.epoch, state.version if state else 0, b"same")
        (result,) = store.put_states([put])
        assert result.error is None


def declare_into(store: ControlStore, network_id: str, agent_id: str) -> None:
    """Declare an agent into a network, as a changed settings file does."""
    epoch = {one.agent_id: one.epoch for one in store.placements()}.get(agent_id, 0)
    store.declare_agents([shape(agent_id, network_id=network_id)])
    assert store.place_agents([place(agent_id, epoch=epoch)._replace(network_id=network_id)])


def listed(listing: StateListing) -> list[tuple[str, int]]:
    """Agents and versions."""
    return list(zip(listing.states.agent_ids, listing.states.versions, strict=True))


@pytest.fixture
def begun(store: ControlStore) -> ControlStore:
    """Three agents with a state, and one of another network."""
    placed(store, "a", "b", "c")
    declare_into(store, "other", "x")
    write(store, "a", "b", "c", "x")
    return store


def test_the_first_cut_lists_everything_of_its_network(begun: ControlStore) -> None:
    """As `state_infos` does, in columns; another network has cuts of its own."""
    first = begun.cut_states("net", None)
    assert (first.is_whole, first.broken) == (True, "no earlier cut is known")
    infos = [one for one in begun.state_infos() if one.network_id == "net"]
    assert first.states == columns_of(infos)
    assert first.cursor.change_id == begun.state_changes(0, 99)[-1].change_id
    assert listed(begun.cut_states("other", None)) == [("x", 1)]
    assert listed(begun.cut_states("nobody", None)) == []
    assert begun.cut_states("net", first.cursor).broken == ""


def test_a_later_cut_lists_what_was_touched_since(begun: ControlStore) -> None:
    """Each once, by its newest version; retired and declared again changes nothing."""
    cut = begun.cut_states("net", None)
    cut = begun.cut_states("net", cut.cursor)
    assert (listed(cut), cut.is_whole, cut.broken) == ([], False, "")
    write(begun, "b", "b", "x")
    begun.retire_agents(["c"])
    placed(begun, "new")
    cut = begun.cut_states("net", cut.cursor)
    assert (listed(cut), cut.is_whole) == ([("b", 3)], False)
    write(begun, "new", "a")
    begun.retire_agents(["a"])
    declare_into(begun, "net", "c")
    write(begun, "c")
    (done,) = begun.restore_states([StateRestore("b", 3, 1, b"same")])
    assert done.error is None
    cut = begun.cut_states("net", cut.cursor)
    assert (listed(cut), cut.broken) == ([("a", 2), ("b", 4), ("c", 2), ("new", 1)], "")


def test_only_the_newest_cut_can_be_gone_on_from(begun: ControlStore) -> None:
    """An attempt that came to nothing leaves its token; the next one lists everything."""
    first = begun.cut_states("net", None)
    begun.cut_states("net", first.cursor)
    again = begun.cut_states("net", first.cursor)
    assert "does not know the earlier cut" in again.broken
    assert [agent_id for agent_id, _ in listed(again)] == ["a", "b", "c"]


def test_everything_is_listed_on_request_and_says_whether_it_had_to_be(
    begun: ControlStore,
) -> None:
    """A full backup compares all, and knows that the change log continued."""
    first = begun.cut_states("net", None)
    whole = begun.cut_states("net", first.cursor, whole=True)
    assert (len(listed(whole)), whole.is_whole, whole.broken) == (3, True, "")
    assert begun.cut_states("net", None, whole=True).broken == "no earlier cut is known"


def test_a_change_log_trimmed_past_the_cut_is_noticed(begun: ControlStore) -> None:
    """Up to the entry before the cursor nothing is lost; one more, and nobody can tell."""
    cursor = begun.cut_states("net", None).cursor
    write(begun, "a")
    begun.trim_state_changes(cursor.change_id - 1)
    kept = begun.cut_states("net", cursor)
    assert (listed(kept), kept.broken) == ([("a", 2)], "")
    write(begun, "b")
    begun.trim_state_changes(kept.cursor.change_id)
    lost = begun.cut_states("net", kept.cursor)
    assert f"no longer holds entry {kept.cursor.change_id}" in lost.broken
    assert len(listed(lost)) == 3


def test_an_empty_change_log_is_never_gone_on_from(begun: ControlStore) -> None:
    """What was trimmed from it since cannot be told."""
    begun.trim_state_changes(10**9)
    cut = begun.cut_states("net", None)
    assert cut.cursor.change_id == 0
    assert "no longer holds entry 0" in begun.cut_states("net", cut.cursor).broken


def test_an_agent_that_changes_its_network_is_noticed_by_both(begun: ControlStore) -> None:
    """No entry of the change log tells it; moves within a network are nothing of the kind."""
    cuts = {name: begun.cut_states(name, None).cursor for name in ("net", "other")}
    begun.place_agents([place("a", "node-2", epoch=1)])
    cuts = {name: begun.cut_states(name, cuts[name]) for name in cuts}
    assert [one.broken for one in cuts.values()] == ["", ""]
    declare_into(begun, "other", "b")
    found = {name: begun.cut_states(name, cuts[name].cursor) for name in cuts}
    assert {one.broken for one in found.values()} == {
        "a state was deleted, or an agent changed its network"
    }
    assert [listed(one) for one in found.values()] == [
        [("a", 1), ("c", 1)],
        [("b", 1), ("x", 1)],
    ]
    assert begun.cut_states("net", found["net"].cursor).broken == ""


def test_an_agent_retired_and_declared_into_another_network_is_noticed(
    begun: ControlStore,
) -> None:
    """Between the two its state stays with the network it had."""
    cut = begun.cut_states("net", None)
    begun.retire_agents(["b"])
    cut = begun.cut_states("net", cut.cursor)
    assert cut.broken == ""
    declare_into(begun, "other", "b")
    assert "changed its network" in begun.cut_states("net", cut.cursor).broken


def test_a_deleted_row_is_noticed(harness: StoreHarness) -> None:
    """Nothing deletes states but a person; the database notes it in the same transaction."""
    harness.clear()
    store = harness.store
    placed(store, "a", "b")
    write(store, "a", "b")
    cut = store.cut_states("net", None)
    harness.delete_state("a")
    after = store.cut_states("net", cut.cursor)
    assert (listed(after), "was deleted" in after.broken) == ([("b", 1)], True)
    assert store.cut_states("net", after.cursor).broken == ""


def test_a_store_made_anew_knows_no_cut(harness: StoreHarness) -> None:
    """The same agents, versions, bytes and numbers, and yet another store."""

    def fill() -> None:
        harness.clear()
        placed(harness.store, "a", "b")
        write(harness.store, "a", "b")

    fill()
    cursor = harness.store.cut_states("net", None).cursor
    fill()
    harness.store.cut_states("net", None)
    found = harness.store.cut_states("net", cursor)
    assert "does not know the earlier cut" in found.broken
    assert found.cursor.change_id == cursor.change_id


def test_a_damaged_digest_is_named_and_the_next_cut_lists_everything(
    harness: StoreHarness,
) -> None:
    """A cut that failed is not gone on from."""
    harness.clear()
    store = harness.store
    placed(store, "a", "b")
    write(store, "a", "b")
    cursor = store.cut_states("net", None).cursor
    write(store, "a")
    harness.damage_digest("a", "no digest")
    with pytest.raises(CorruptObjectError, match="agent a"):
        store.cut_states("net", cursor)
    harness.damage_digest("a", hashlib.sha256(b"same").hexdigest())
    assert "does not know" in store.cut_states("net", cursor).broken


STEPS: st.SearchStrategy[tuple[str, str]] = st.tuples(
    st.sampled_from(["write", "write", "write", "retire", "declare", "move", "restore", "trim"]),
    st.sampled_from(AGENTS),
)


def take_step(store: ControlStore, what: str, agent_id: str, cursor: ChangeCursor) -> None:
    """One step of a history; what is not possible now does nothing."""
    placements = {one.agent_id: one for one in store.placements()}
    if what == "trim":
        store.trim_state_changes(cursor.change_id - 1)
    elif what == "declare":
        if agent_id not in placements:
            declare_into(store, "net", agent_id)
    elif agent_id not in placements:
        return
    elif what == "write":
        write(store, agent_id)
    elif what == "retire":
        store.retire_agents([agent_id])
    elif what == "move":
        target = "other" if placements[agent_id].network_id == "net" else "net"
        declare_into(store, target, agent_id)
    else:
        state = store.state(agent_id)
        version = state.version if state else 0
        store.restore_states([StateRestore(agent_id, version, version + 5, b"older")])


@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rounds=st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=5))
def test_what_a_cut_does_not_list_has_not_changed(
    harness: StoreHarness, rounds: list[list[tuple[str, str]]]
) -> None:
    """Random histories: the last cut brought up to date equals the full listing, every time."""
    harness.clear()
    store = harness.store
    placed(store, *AGENTS[:2])
    write(store, *AGENTS[:2])
    cut = store.cut_states("net", None)
    known = dict(listed(cut))
    for steps in rounds:
        moved = False
        for what, agent_id in steps:
            before = store.agents()
            take_step(store, what, agent_id, cut.cursor)
            moved |= what == "move" and store.agents() != before
        cut = store.cut_states("net", cut.cursor)
        if not moved and not any(what == "declare" for what, _ in steps):
            assert cut.broken == ""
        known = dict(listed(cut)) if cut.is_whole else known | dict(listed(cut))
        infos = store.state_infos()
        assert known == {one.agent_id: one.version for one in infos if one.network_id == "net"}
