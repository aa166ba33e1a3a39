"""The fold of a journal into a timeline: repeated words count once, nothing is hidden."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.incident_timeline import EntryKind, Losses, add_losses, read_incident
from fleet.journal import JournalEntry
from tests.fleet.incident_records import AT, act, fact, header_of, later, night


def test_a_night_is_folded_into_its_lines() -> None:
    """Facts are lines, an act with three batches is one."""
    incident = read_incident(header_of(), night())
    assert [(line.kind, line.step) for line in incident.timeline] == [
        (EntryKind.SEEN, "silent"),
        (EntryKind.SEEN, "votes"),
        (EntryKind.DECIDED, "move"),
        (EntryKind.DONE, "fence"),
        (EntryKind.DONE, "restore"),
        (EntryKind.DONE, "start_agents"),
    ]
    restore = incident.timeline[4]
    assert (restore.parts, restore.open_parts, restore.failed_parts) == (3, 0, 0)
    assert restore.retried_parts == 1
    assert restore.duration_s == pytest.approx(2.6)
    assert incident.losses == Losses(22, 2, 3, 4.2, 1)
    assert incident.timeline[2].rule == "vote_majority"


def test_a_batch_that_failed_counts_its_losses_only_when_it_is_done() -> None:
    """Else its agents would be counted twice."""
    before = read_incident(header_of(), night()[:10])
    assert before.losses == Losses(moved=10)
    (restore,) = [line for line in before.timeline if line.step == "restore"]
    assert (restore.open_parts, restore.failed_parts, restore.ended_at) == (1, 1, None)


steps = st.builds(
    act,
    st.sampled_from(["fence", "restore/1", "restore/2", "seen/x", "decided/y", "acknowledged"]),
    st.sampled_from(["started", "done", "failed"]),
    st.integers(-5, 50),
    st.none() | st.floats(0, 5),
    st.none() | st.builds(Losses, *[st.integers(0, 9)] * 3, st.floats(0, 99), st.integers(0, 9)),
)


@given(st.lists(steps, max_size=12, unique_by=lambda one: (one.step, one.status)))
def test_the_fold_agrees_with_a_slow_count(entries: list[JournalEntry]) -> None:
    """Losses of done steps, each once; every step is in exactly one line."""
    incident = read_incident(header_of(), entries)
    wanted = Losses()
    for entry in entries:
        if entry.status == "done":
            wanted = add_losses([wanted, Losses(**json.loads(entry.detail))])
    assert incident.losses == wanted
    assert sum(line.parts for line in incident.timeline) == len({one.step for one in entries})
    began = [line.began_at for line in incident.timeline]
    assert began == sorted(began)
    for line in incident.timeline:
        assert line.open_parts + line.failed_parts <= line.parts
        assert (line.ended_at is None) == (line.open_parts > 0)
        assert line.duration_s is None or line.duration_s >= 0


@given(st.lists(steps, max_size=12))
def test_entries_delivered_twice_change_nothing(entries: list[JournalEntry]) -> None:
    """The journal keeps the first; a reader that sees both folds the same lines."""
    first = {}
    for entry in entries:
        first.setdefault((entry.step, entry.status), entry)
    once = read_incident(header_of(), list(first.values()))
    assert read_incident(header_of(), [*first.values(), *first.values()]).losses == once.losses


@pytest.mark.parametrize(
    "detail", ["", "null", "[1]", "{", '{"moved": "x"}', '{"moved": true}', '{"seconds": NaN}',
               '{"versions": -4}', '{"moved": 1e300}', '{"seconds": Infinity}'],
)  # fmt: skip
def test_a_detail_that_means_nothing_counts_as_nothing(detail: str) -> None:
    """A story is read when things go wrong; it never fails on a foreign entry."""
    entry = JournalEntry("i", "restore", "done", "n", "text", AT, 1.0, detail)
    incident = read_incident(header_of(), [entry])
    assert incident.losses == Losses()
    assert incident.timeline[0].text == "text"


def test_an_end_without_a_beginning_began_its_duration_before() -> None:
    """The first word may have been lost with its writer."""
    (line,) = read_incident(header_of(), [act("fence", "done", 10, 4.0)]).timeline
    assert (line.began_at, line.ended_at) == (later(6), later(10))
    assert line.duration_s == timedelta(seconds=4).total_seconds()


def test_a_person_s_word_is_a_decision_in_the_timeline() -> None:
    """Acknowledgements and approvals stand where they happened, each approval on its own."""
    said = JournalEntry("i", "acknowledged", "done", "n", "kim: mine", later(2))
    one = JournalEntry("i", "approved/a/b", "done", "n", "kim: yes", later(3))
    two = JournalEntry("i", "approved/a/c", "done", "n", "kim: yes", later(4))
    seen = fact(EntryKind.SEEN, "silent", "why", 0)
    lines = read_incident(header_of(), [said, one, two, seen]).timeline
    assert [line.step for line in lines] == [
        "silent", "acknowledged", "approved/a/b", "approved/a/c"
    ]  # fmt: skip
    assert {line.kind for line in lines[1:]} == {EntryKind.DECIDED}
