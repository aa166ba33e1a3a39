"""Kind `duckdb`: a copy under DuckDB's own lock, its WAL folded in.

DuckDB lets one process write, or several read. So a copy is consistent while we hold the file as a
reader, and impossible while another process holds it as a writer: that process must do it then
(`COPY FROM DATABASE` into a file that is declared in its place), or let go for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.errors import CorruptObjectError, StateroomError, StoreUnavailableError
from resources.vault.artefacts.staged import StagedSource, copy_file

_TRIES = 10
_PAUSE_S = 0.2
"""Writers that open it for one statement only are gone after two seconds."""


class DuckdbSource(StagedSource):
    """A DuckDB database file."""

    kind = "duckdb"
    sidecars = (".wal",)

    def copy(self, target: Path) -> Mapping[str, Any]:
        """See `StagedSource.copy`.

        Raises:
            StoreUnavailableError: another process has it open for writing.
            CorruptObjectError: it does not open.
        """
        import duckdb

        for remaining in reversed(range(_TRIES)):
            try:
                return self._copy_as_reader(target)
            except duckdb.ConnectionException:
                # This process has it open for writing: its own transaction makes the copy.
                return self._copy_within(target)
            except duckdb.IOException as error:
                if "lock" not in str(error).lower() or not remaining:
                    raise _translated(self.path, error) from error
            except duckdb.Error as error:
                raise _translated(self.path, error) from error
            time.sleep(_PAUSE_S)
        raise StoreUnavailableError(f"DuckDB database {self.path} stays locked")

    def _copy_as_reader(self, target: Path) -> Mapping[str, Any]:
        import duckdb

        wal = Path(f"{self.path}.wal")
        copied_wal = Path(f"{target}.wal")
        held = duckdb.connect(self.path, read_only=True)
        try:
            copy_file(self.path, target)
            if wal.exists():
                copy_file(str(wal), copied_wal)
        finally:
            held.close()
        folded = copied_wal.exists()
        copy = duckdb.connect(str(target))
        try:
            copy.execute("CHECKPOINT")
            return _described(copy, "copy under a read lock", wal_folded=folded)
        finally:
            copy.close()

    def _copy_within(self, target: Path) -> Mapping[str, Any]:
        import duckdb

        live = duckdb.connect(self.path)
        try:
            row = live.execute("SELECT current_database()").fetchone()
            name = str(row[0] if row else "").replace('"', '""')
            place = str(target).replace("'", "''")
            live.execute("CHECKPOINT")
            live.execute(f"ATTACH '{place}' AS stateroom_copy")
            try:
                live.execute(f'COPY FROM DATABASE "{name}" TO stateroom_copy')
            finally:
                live.execute("DETACH stateroom_copy")
        finally:
            live.close()
        copy = duckdb.connect(str(target), read_only=True)
        try:
            return _described(copy, "COPY FROM DATABASE", wal_folded=True)
        finally:
            copy.close()


def _described(copy: Any, by: str, *, wal_folded: bool) -> Mapping[str, Any]:
    row = copy.execute("SELECT count(*) FROM duckdb_tables()").fetchone()
    return {"by": by, "checkpoint": True, "wal_folded": wal_folded, "tables": row[0]}


def _translated(path: str, error: Exception) -> StateroomError:
    if "lock" in str(error).lower():
        return StoreUnavailableError(
            f"DuckDB database {path} is open for writing in another process: {error}",
            hint="Let that process close it for the backup, or let it COPY FROM DATABASE into a "
            "file and declare that file.",
        )
    return CorruptObjectError(
        f"DuckDB database {path} does not open: {error}",
        hint="Restore its last good copy; this one was not stored.",
    )
