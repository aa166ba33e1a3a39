"""Events of a machine: numbered, shared by processes, readable from a cursor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import InvalidInputError
from resources.local.event_log import EventLog

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_events_are_read_back_from_any_cursor(tmp_path: Path) -> None:
    """Each reader goes on where it stopped; another log on the same file sees the same."""
    log = EventLog(tmp_path / "events.jsonl")
    written = [log.append("kind", f"n{i}", "detail", AT) for i in range(5)]
    other = EventLog(tmp_path / "events.jsonl")
    for i in range(6):
        assert other.after(str(i)) == written[i:]
    assert other.cursor() == "5"


def test_concurrent_writers_never_share_a_number(tmp_path: Path) -> None:
    """Numbers run from 1 without gaps."""
    path = tmp_path / "events.jsonl"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: EventLog(path).append("k", str(i), "", AT), range(100)))
    assert [event.cursor for event in EventLog(path).after("0")] == [str(i + 1) for i in range(100)]


@pytest.mark.parametrize("torn", [b"{", b'{"seq": 2, "kind": "k"', b"\xff\xfe"])
def test_a_half_written_line_is_ignored_and_cut_off(tmp_path: Path, torn: bytes) -> None:
    """A writer killed in the middle of its line harms neither readers nor the next writer."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    first = log.append("k", "a", "", AT)
    with path.open("ab") as file:
        file.write(torn)
    assert log.after("0") == [first]
    second = log.append("k", "b", "", AT)
    assert second.cursor == "2"
    assert log.after("0") == [first, second]


def test_a_reader_who_comes_too_late_is_told_what_it_missed(tmp_path: Path) -> None:
    """The file is bounded; the gap is an event of its own."""
    log = EventLog(tmp_path / "events.jsonl", lines_max=10)
    for i in range(11):
        log.append("k", str(i), "", AT)
    found = log.after("2")
    assert (found[0].kind, found[0].cursor) == ("events_lost", "5")
    assert found[0].detail.startswith("3 older events")
    assert [event.cursor for event in found[1:]] == [str(i) for i in range(6, 12)]
    assert log.after(found[0].cursor) == found[1:]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣"])
def test_a_foreign_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    """It is no number of this log."""
    with pytest.raises(InvalidInputError, match="cursor"):
        EventLog(tmp_path / "events.jsonl").after(cursor)
