"""Where tests put their files: in memory where there is room for them.

What is stored durably is synced file by file, and a test throws it away a moment later. Tests of
crashes kill processes, which a folder in memory survives as a disk does.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30
"""Some times what two workers hold at once; a container's 64 MiB are not enough."""


def use_memory() -> None:
    """Let `tempfile`, pytest and the processes of this one use it, unless TMPDIR says where."""
    if "TMPDIR" in os.environ or not _has_room():
        return
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None  # it may have been asked for before


def _has_room() -> bool:
    if not os.access(_MEMORY, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(_MEMORY)
    runs_programs = not found.f_flag & os.ST_NOEXEC  # some tests write programs
    return runs_programs and found.f_bavail * found.f_frsize >= _ROOM_BYTES
