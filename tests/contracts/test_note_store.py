"""The log of notes and the standings of indexes: one contract for every control store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from fleet.agents import Note
from fleet.errors import LeaseLostError
from fleet.ports.control_store import ControlStore
from fleet.ports.note_store import NoteChange
from fleet.vectors.standing import (
    IndexFacts,
    IndexStanding,
    RefreshResult,
    ScrubFacts,
    lease_name,
    with_result,
)
from tests.contracts.store_harness import StoreHarness
from tests.contracts.test_home_store import place

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def note(note_id: str, network: str = "net", text: str = "disk was busy") -> Note:
    """A note of one agent."""
    return Note(note_id, "a1", network, AT, text)


def told(changes: list[NoteChange]) -> list[tuple[str, str | None]]:
    """Note and text of each change."""
    return [(one.note_id, one.note and one.note.text) for one in changes]


def test_late_notes_come_last_whatever_their_id_says(store: ControlStore) -> None:
    """The order is that of commits; a cursor on ids would never see the second batch."""
    store.append_notes([note("m"), note("z")])
    first = store.note_changes("net", 0, 100)
    store.append_notes([note("a"), note("m"), note("other", "net-2")])
    second = store.note_changes("net", first[-1].change_id, 100)
    assert (told(first), told(second)) == (
        [("m", "disk was busy"), ("z", "disk was busy")],
        [("a", "disk was busy")],
    )
    assert told(store.note_changes("net", 0, 2)) == told(first)
    assert store.note_changes("net", second[-1].change_id, 9) == []
    assert store.note_changes("nobody", 0, 9) == []


def test_what_a_person_does_to_notes_is_in_the_log(harness: StoreHarness) -> None:
    """Removed, changed, given to another network: each is told, with the note as it is now."""
    harness.clear()
    store = harness.store
    store.append_notes([note("a"), note("b"), note("c")])
    after = store.note_changes("net", 0, 9)[-1].change_id
    harness.change_note(note("a", text="disk was idle"))
    harness.delete_note("b")
    assert told(store.note_changes("net", after, 9)) == [("a", "disk was idle"), ("b", None)]
    assert told(store.note_changes("net", 0, 9)) == [
        ("a", "disk was idle"),
        ("b", None),
        ("c", "disk was busy"),
        ("a", "disk was idle"),
        ("b", None),
    ]
    assert list(store.note_ids("net", "", 9)) == ["a", "c"]
    assert list(store.note_ids("net", "a", 9)) == ["c"]


def test_a_change_tells_where_the_agent_is_placed(store: ControlStore) -> None:
    """The region goes into the index, so that searches can be limited to it."""
    place(store, "a1", "us-1", "us-west-2")
    store.append_notes([note("a"), note("b")._replace(agent_id="nobody")])
    regions = {one.note_id: one.region for one in store.note_changes("net", 0, 9)}
    assert regions == {"a": "us-west-2", "b": None}


def test_one_look_says_what_waits_in_every_network(store: ControlStore) -> None:
    """Counts go as far as they are asked to; oldest and newest change and builder are told."""
    assert store.note_backlogs(10) == []
    store.append_notes([note(f"n{number}") for number in range(5)])
    store.append_notes([note("x", "net-2")])
    lease = store.acquire_lease(lease_name("net"), "builder-1", 30.0)
    first, second = store.note_backlogs(3)
    assert (first.network_id, first.waiting, first.builder) == ("net", 3, lease)
    assert (second.network_id, second.waiting, second.builder) == ("net-2", 1, None)
    assert first.oldest_at is not None
    log = store.note_changes("net", 0, 9)
    store.change_index_standing("net", lambda one: one._replace(indexed_change=log[1].change_id))
    assert store.note_backlogs(10)[0].waiting == 3
    store.change_index_standing("net", lambda one: one._replace(indexed_change=log[-1].change_id))
    done = store.note_backlogs(10)[0]
    assert (done.waiting, done.oldest_at, done.newest_change) == (0, None, log[-1].change_id)


def test_a_standing_is_kept_whole_and_a_late_builder_is_refused(store: ControlStore) -> None:
    """Terms only rise; whoever does not build changes it under any term."""
    assert store.index_standing("net") == IndexStanding("net")
    facts = IndexFacts(
        "20261121T120000000000Z-00000000", "flat", "Flat", 3, 3, 2, None, None, None, 0.95, 4096,
        256, AT, 0.5, AT - timedelta(hours=1), "faiss-cpu", "policy off",
    )  # fmt: skip
    full = with_result(
        IndexStanding("net", "m-1", 7, 2, AT, 7, facts),
        RefreshResult.PUBLISHED,
        "there was no index",
        AT,
    )
    full = full._replace(scrub=ScrubFacts(AT, 1, 4096, ("index.faiss.0000 differs",), 1))
    assert store.change_index_standing("net", lambda _: full, term=2) == full
    with pytest.raises(LeaseLostError, match="term 1 has ended"):
        store.change_index_standing("net", lambda one: one._replace(sequence=9), term=1)
    assert store.index_standing("net") == full
    store.change_index_standing("net", lambda one: one._replace(sequence=3))
    assert store.index_standing("net").sequence == 3


def test_no_change_comes_later_below_one_that_was_read(store: ControlStore) -> None:
    """Four writers at once, one reader behind them: every note is read once, in rising order."""

    def write(writer: int) -> None:
        for batch in range(10):
            store.append_notes([note(f"{writer}-{batch}-{item}") for item in range(5)])

    writers = [Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    seen: list[NoteChange] = []
    while any(writer.is_alive() for writer in writers) or len(seen) < 200:
        seen += store.note_changes("net", seen[-1].change_id if seen else 0, 50)
    for writer in writers:
        writer.join()
    numbers = [one.change_id for one in seen]
    assert numbers == sorted(set(numbers))
    assert len({one.note_id for one in seen}) == len(seen) == 200
