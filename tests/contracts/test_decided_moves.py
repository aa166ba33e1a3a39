"""What every control store tells a new leader of the moves that others have decided."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from fleet.decided_moves import FACT, move_fact
from fleet.incident_timeline import EntryKind, fact_entry
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from fleet.journal import JournalEntry
from fleet.moments import microseconds
from fleet.ports.control_store import ControlStore
from tests.contracts.store_harness import StoreHarness

WINDOW_S = 600.0


def now_of(harness: StoreHarness) -> datetime:
    """The store's clock, nearly."""
    return harness.clock.now() if harness.exact_times else datetime.now(UTC)


def opened(store: ControlStore, name: str, at: datetime) -> IncidentHeader:
    """The incident of a node."""
    return store.open_incident(IncidentOpening(IncidentKind.NODE, name, "eu", "silent", at, term=4))


def decided(
    header: IncidentHeader, at: datetime, agents: int = 7, what: str = "move_node",
    attempt: int = 1,
) -> JournalEntry:  # fmt: skip
    """A leader's decision; its own clock is an hour behind, `at` is the store's."""
    fact = move_fact(agents, "eu", microseconds(at), attempt=attempt)
    return fact_entry(
        header.incident_id, EntryKind.DECIDED, what, header.subject, "move it",
        at - timedelta(hours=1), rule="terminated", facts={FACT: fact},
    )  # fmt: skip


def ended(store: ControlStore, header: IncidentHeader, at: datetime) -> None:
    """The incident comes to its end."""
    store.update_incident(
        header._replace(state=IncidentState.ENDED, ended_at=at, outcome="all moved")
    )


def test_there_is_nothing_to_tell_of_an_empty_store(store: ControlStore) -> None:
    """And nothing fails."""
    assert store.decided_moves(WINDOW_S) == []


def test_moves_of_open_and_of_ended_incidents_are_told_oldest_first(
    store: ControlStore, harness: StoreHarness
) -> None:
    """Whether they were carried out or not; with their agents and ages."""
    now = now_of(harness)
    one = opened(store, "eu-1", now - timedelta(seconds=200))
    two = opened(store, "eu-2", now - timedelta(seconds=300))
    store.append_journal([decided(one, now - timedelta(seconds=60), 3)])
    store.append_journal([decided(two, now - timedelta(seconds=90), 4)])
    ended(store, two, now - timedelta(seconds=30))
    found = store.decided_moves(WINDOW_S)
    assert [(move.subject, move.agents, move.region) for move in found] == [
        ("node/eu-2", 4, "eu"),
        ("node/eu-1", 3, "eu"),
    ]
    assert 90 <= found[0].age_s < 120
    assert 60 <= found[1].age_s < 90


def test_what_is_older_than_the_window_is_not_told(
    store: ControlStore, harness: StoreHarness
) -> None:
    """Its incident may be open all the same."""
    now = now_of(harness)
    header = opened(store, "eu-1", now - timedelta(seconds=1000))
    store.append_journal([decided(header, now - timedelta(seconds=WINDOW_S + 1))])
    assert store.decided_moves(WINDOW_S) == []
    assert len(store.decided_moves(WINDOW_S + 100)) == 1


def test_an_incident_that_was_opened_long_ago_and_has_just_ended_counts(
    store: ControlStore, harness: StoreHarness
) -> None:
    """It waited for a person for days."""
    now = now_of(harness)
    header = opened(store, "eu-1", now - timedelta(days=9))
    store.append_journal([decided(header, now - timedelta(seconds=20))])
    ended(store, header, now - timedelta(seconds=5))
    assert len(store.decided_moves(WINDOW_S)) == 1


def test_a_clock_that_is_hours_behind_hides_no_move(
    store: ControlStore, harness: StoreHarness
) -> None:
    """Of who opened and ended the incident, and of who decided."""
    now = now_of(harness)
    behind = now - timedelta(hours=20)
    header = opened(store, "eu-1", behind)
    store.append_journal([decided(header, now - timedelta(seconds=20))])
    ended(store, header, behind + timedelta(seconds=30))
    assert len(store.decided_moves(WINDOW_S)) == 1


def test_attempts_and_other_steps_are_no_moves_of_their_own(
    store: ControlStore, harness: StoreHarness
) -> None:
    """One move, whatever else the journal says."""
    now = now_of(harness)
    header = opened(store, "eu-1", now - timedelta(seconds=100))
    at = now - timedelta(seconds=50)
    others = ("alert-gray", "not-move_node-mode", "evacuate_region", "move_nodes", "fail_back")
    plain = fact_entry(
        header.incident_id, EntryKind.DECIDED, "fence_node", "eu-1", "ask it", at, rule="fencing"
    )
    store.append_journal([
        plain,
        JournalEntry(header.incident_id, "move/1-0000", "done", "eu-1", "moved", at, None, "{}"),
        *(decided(header, at, what=word) for word in others),
        decided(header, at),
        decided(header, now, what="move_node-2", attempt=2),
        decided(header, now, what="move_node-3", attempt=3),
    ])  # fmt: skip
    [found] = store.decided_moves(WINDOW_S)
    assert (found.subject, found.agents) == ("node/eu-1", 7)
    assert found.age_s >= 50


def test_a_move_that_was_decided_anew_counts_from_then(
    store: ControlStore, harness: StoreHarness
) -> None:
    """Its step carries the moment, because each step is recorded once."""
    now = now_of(harness)
    header = opened(store, "eu-1", now - timedelta(seconds=500))
    at = now - timedelta(seconds=400)
    again = decided(header, now - timedelta(seconds=30), what=f"move_node.{microseconds(now)}")
    store.append_journal([decided(header, at), again])
    [found] = store.decided_moves(WINDOW_S)
    assert 30 <= found.age_s < 60


def test_nodes_in_one_incident_are_told_apart(store: ControlStore, harness: StoreHarness) -> None:
    """Each has a step of its own."""
    now = now_of(harness)
    opening = IncidentOpening(IncidentKind.REGION, "eu", "eu", "all silent", now, term=4)
    header = store.open_incident(opening)
    store.append_journal(
        [
            decided(header, now, what=f"move_node/{name}")._replace(subject=name)
            for name in ("eu-1", "eu-2")
        ]
    )
    assert [one.subject for one in store.decided_moves(WINDOW_S)] == ["node/eu-1", "node/eu-2"]


def test_a_damaged_detail_counts_as_a_move_of_unknown_size(
    store: ControlStore, harness: StoreHarness
) -> None:
    """The budget is closed rather than forgotten."""
    now = now_of(harness)
    header = opened(store, "eu-1", now)
    entry = decided(header, now)
    store.append_journal([entry._replace(detail=json.dumps({"rule": "x"}), at=now)])
    [found] = store.decided_moves(WINDOW_S)
    assert found.agents is None
