"""Bounded logs of agents: one file each, at most about twice LOG_MAX_BYTES with its predecessor.

Agents write to their file themselves (O_APPEND), so a log line costs the node nothing. The
supervisor looks at the sizes now and then and cuts: the newest half goes to `<name>.log.1`, the
file itself is emptied in place. What an agent writes in between the two steps is lost; between
two looks a file may grow past the bound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

LOG_MAX_BYTES = 1024 * 1024
"""Size from which a log is cut."""

_LINE_MAX_BYTES = 300


def cut_logs(paths: Iterable[Path], max_bytes: int = LOG_MAX_BYTES) -> int:
    """Cut the files that have grown past `max_bytes`; returns how many."""
    return sum(_cut(path, max_bytes) for path in paths)


def last_line(path: Path) -> str:
    """The last line of a log that is not empty, at most 300 bytes of it; '' when there is none."""
    lines = _tail(path, 4096).decode(errors="replace").split("\n")
    for line in reversed(lines):
        if line.strip():
            return line.strip()[:_LINE_MAX_BYTES]
    return ""


def _cut(path: Path, max_bytes: int) -> bool:
    try:
        if path.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    kept = _tail(path, max_bytes // 2)
    before = path.with_suffix(".log.1")
    partial = path.with_suffix(".log.part")
    partial.write_bytes(kept)
    partial.replace(before)
    os.truncate(path, 0)
    return True


def _tail(path: Path, size_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size_bytes))
            return file.read()
    except FileNotFoundError:
        return b""
