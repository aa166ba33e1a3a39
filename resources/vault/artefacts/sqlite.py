"""Kind `sqlite`: a copy by SQLite's online-backup API, one read transaction, its WAL included."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fleet.errors import CorruptObjectError, StateroomError, StoreUnavailableError
from resources.vault.artefacts.staged import StagedSource

_BUSY_TIMEOUT_S = 30.0
_STEP_S = 1.0
"""SQLite waits so long by itself before the clock is looked at."""


class SqliteSource(StagedSource):
    """A SQLite database, whoever writes to it meanwhile.

    All pages are copied in one step: copying in several would begin again with each commit of
    another process and might never end. In WAL mode writers go on; with a rollback journal they
    wait for the copy (their busy timeout must be longer).
    """

    kind = "sqlite"
    sidecars = ("-wal", "-journal")

    def copy(self, target: Path) -> Mapping[str, Any]:
        """See `StagedSource.copy`.

        Raises:
            StoreUnavailableError: it stays locked, or cannot be opened.
            CorruptObjectError: it is no database, or damaged.
        """
        try:
            try:
                return self._copy(target, "ro")
            except sqlite3.OperationalError as error:
                # A journal that a crash left can be rolled back by a writer only, and the
                # shared-memory file of a WAL can be made by none but a writer.
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
                    raise
                target.unlink(missing_ok=True)
                return self._copy(target, "rw")
        except sqlite3.Error as error:
            raise _translated(self.path, error) from error

    def _copy(self, target: Path, mode: str) -> Mapping[str, Any]:
        ends_s = time.monotonic() + _BUSY_TIMEOUT_S

        def look_at_the_clock(status: int, _left: int, _pages: int) -> None:
            # Python tries a locked database again for ever.
            busy = status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
            if busy and time.monotonic() > ends_s:
                raise sqlite3.OperationalError(f"locked for {_BUSY_TIMEOUT_S:g} s")

        url = f"file:{quote(self.path)}?mode={mode}"
        with (
            closing(sqlite3.connect(url, uri=True, timeout=_STEP_S)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            copy.execute("PRAGMA synchronous=OFF")
            live.backup(copy, pages=-1, progress=look_at_the_clock)
            values = {
                name: copy.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size", "schema_version", "journal_mode")
            }
        with target.open("rb") as header:
            header.seek(24)
            values["change_counter"] = int.from_bytes(header.read(4))
        return values


def _translated(path: str, error: sqlite3.Error) -> StateroomError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return CorruptObjectError(
            f"SQLite database {path}: {error}",
            hint="Restore its last good copy; this one was not stored.",
        )
    return StoreUnavailableError(
        f"SQLite database {path}: {error}",
        hint="Check its mode, the staging folder's room, and who holds it locked.",
    )
