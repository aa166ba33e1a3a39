"""What happened to the nodes of this machine, as one file that any process may read from a cursor.

One JSON object a line, numbered by `seq` from 1 without gaps. Writers hold an exclusive lock
(flock) from reading the last number until the line is written, so numbers never repeat; a line
half written by a process that was killed is cut off by the next writer. When the file grows past
LINES_MAX lines the older half is dropped; a reader whose cursor points there gets an
`events_lost` event first.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path

from fleet.errors import InvalidInputError
from fleet.ports.cluster import ClusterEvent

LINES_MAX = 20_000
"""Lines after which the older half is dropped: some 3 MiB."""


class EventLog:
    """The event file of one state folder."""

    def __init__(self, path: Path, *, lines_max: int = LINES_MAX) -> None:
        """Use the file at `path`; it is made by the first append."""
        self._path = path
        self._lines_max = lines_max

    def append(self, kind: str, subject: str, detail: str, at: datetime) -> ClusterEvent:
        """Durably append one event; returns it with its cursor."""
        with self._locked() as file:
            events = _parse(file.read())
            seq = int(events[-1].cursor) + 1 if events else 1
            event = ClusterEvent(str(seq), kind, subject, at, detail)
            if len(events) >= self._lines_max:
                self._replace([*events[self._lines_max // 2 :], event])
            else:
                file.seek(0)
                file.seek(_whole_bytes(file.read()))
                file.truncate()
                file.write(_line(event))
                file.flush()
                os.fsync(file.fileno())
            return event

    def cursor(self) -> str:
        """The cursor that means "from now on"."""
        events = self._read()
        return events[-1].cursor if events else "0"

    def after(self, cursor: str) -> list[ClusterEvent]:
        """Events after the cursor, oldest first.

        Raises:
            InvalidInputError: the cursor is none of this log's.
        """
        if not cursor.isascii() or not cursor.isdigit():
            raise InvalidInputError("cursor", cursor, "'' or the cursor of an earlier event")
        known = int(cursor)
        events = self._read()
        found = [event for event in events if int(event.cursor) > known]
        if found and known and int(found[0].cursor) > known + 1:
            lost = int(found[0].cursor) - known - 1
            detail = f"{lost} older events are kept no longer; take a snapshot"
            before = str(int(found[0].cursor) - 1)
            found.insert(0, ClusterEvent(before, "events_lost", "", found[0].at, detail))
        return found

    def size_bytes(self) -> int:
        """Size of the file: a cheap sign that something was appended."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self) -> list[ClusterEvent]:
        try:
            return _parse(self._path.read_bytes())
        except FileNotFoundError:
            return []

    def _replace(self, events: list[ClusterEvent]) -> None:
        partial = self._path.with_suffix(".part")
        with partial.open("wb") as file:
            file.writelines(map(_line, events))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[BufferedRandom]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is a file of its own, because the log itself is replaced when it is cut.
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            log = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(log, "r+b") as file:
                yield file
        finally:
            os.close(lock)


def _line(event: ClusterEvent) -> bytes:
    record = {
        "seq": int(event.cursor),
        "kind": event.kind,
        "subject": event.subject,
        "at": event.at.astimezone(UTC).isoformat(),
        "detail": event.detail,
    }
    return json.dumps(record).encode() + b"\n"


def _whole_bytes(text: bytes) -> int:
    return text.rfind(b"\n") + 1


def _parse(text: bytes) -> list[ClusterEvent]:
    records = (json.loads(line) for line in text[: _whole_bytes(text)].splitlines())
    return [
        ClusterEvent(
            str(record["seq"]),
            record["kind"],
            record["subject"],
            datetime.fromisoformat(record["at"]),
            record["detail"],
        )
        for record in records
    ]
