"""Who holds SQLite's write lock, as the kernel has it.

In WAL mode the one writer holds a POSIX lock on byte 120 of the `-shm` file. `/proc/locks` names
its process. It is read instead of asking with fcntl, because closing a descriptor of the file would
drop all locks that *this* process has on it.

Source: SQLite, os_unix.c (UNIX_SHM_BASE = (22 + SQLITE_SHM_NLOCK) * 4 = 120) and wal.c
(WAL_WRITE_LOCK = 0); proc(5) for `/proc/locks`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

WRITE_LOCK_BYTE = 120


def write_lock_holders(database: Path) -> list[int]:
    """Pids that hold the write lock of a SQLite database in WAL mode; usually none, at most one.

    Empty also where the database is not open anywhere.

    Raises:
        OSError: `/proc/locks` cannot be read.
    """
    try:
        inode = os.stat(f"{database}-shm").st_ino  # noqa: PTH116 - looked at several times a second
    except FileNotFoundError:
        return []
    return parse_locks(Path("/proc/locks").read_text(encoding="ascii"), inode)


def parse_locks(text: str, inode: int) -> list[int]:
    """Pids with a write lock on `WRITE_LOCK_BYTE` of this inode, sorted.

    Lines look like `3: POSIX  ADVISORY  WRITE 708 fe:01:1314 120 120`; with `->` they are of those
    who wait. Only the inode is compared: on some file systems the kernel's device number is not the
    one that stat gives, and whoever acts on this also asks the store and the process table.
    """
    found = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 8 or fields[1] != "POSIX" or fields[3] != "WRITE":
            continue
        with suppress(ValueError):
            first = int(fields[6])
            last = first if fields[7] == str(first) else _last(fields[7])
            own = int(fields[5].rpartition(":")[2]) == inode
            if own and first <= WRITE_LOCK_BYTE <= last:
                found.add(int(fields[4]))
    return sorted(found)


def _last(text: str) -> int:
    return 2**63 if text == "EOF" else int(text)
