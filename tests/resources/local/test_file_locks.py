"""Who holds SQLite's write lock, against SQLite itself."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from resources.local.file_locks import parse_locks, write_lock_holders

WRITER = """
import sqlite3, sys
found = sqlite3.connect(sys.argv[1], isolation_level=None)
found.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
found.execute("COMMIT")
print("free", flush=True)
sys.stdin.readline()
found.close()
"""


def test_the_kernel_names_the_writer_only_while_it_writes(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Readers and open connections hold no write lock."""
    database = tmp_path / "control.db"
    assert write_lock_holders(database) == []
    with closing(sqlite3.connect(database)) as reader:
        reader.execute("PRAGMA journal_mode=WAL")
        reader.execute("CREATE TABLE t (n)")
        reader.execute("SELECT * FROM t").fetchall()
        assert write_lock_holders(database) == []
        writer = start_python(WRITER, str(database))
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "locked\n"
        assert write_lock_holders(database) == [writer.pid]
        assert write_lock_holders(tmp_path / "another.db") == []
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "free\n"
        assert write_lock_holders(database) == []
        writer.communicate("\n", timeout=30)
    assert writer.pid != os.getpid()


def test_only_a_write_lock_on_the_byte_counts() -> None:
    """Those who wait, readers, other bytes, other files and other kinds of locks do not."""
    text = """\
1: POSIX  ADVISORY  WRITE 11 fe:01:77 120 120
2: POSIX  ADVISORY  WRITE 12 fe:01:78 120 120
2: -> POSIX  ADVISORY  WRITE 13 fe:01:77 120 120
3: POSIX  ADVISORY  READ 14 fe:01:77 120 120
4: POSIX  ADVISORY  WRITE 15 fe:01:77 123 123
5: POSIX  ADVISORY  WRITE 16 fe:01:77 0 EOF
6: FLOCK  ADVISORY  WRITE 17 fe:01:77 0 EOF
7: OFDLCK ADVISORY  WRITE -1 fe:01:77 120 120
8: POSIX  ADVISORY  WRITE 18 fe:01:77 100 127
"""
    assert parse_locks(text, 77) == [11, 16, 18]
    assert parse_locks("", 77) == []
