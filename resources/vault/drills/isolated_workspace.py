"""A private folder for a restore that nobody works with, removed whatever happens.

It is removed when its block ends. Killed before that, it is left behind with its lock released,
and the next workspace below the same parent removes it: no pid and no age is guessed at.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.errors import StoreUnavailableError

_GATE = ".workspaces.lock"
"""Below the parent; held while a workspace is made or others are looked through."""
_LOCK = ".in-use.lock"
RESERVE_BYTES = 64 * 1024 * 1024
"""Left free on the workspace's disk, for whoever else writes there."""


def _leave(_: Path) -> None:
    """Nothing to end before a left workspace is removed."""


@contextmanager
def isolated_workspace(
    parent: Path, kind: str, *, before_removal: Callable[[Path], None] = _leave
) -> Iterator[Path]:
    """A fresh folder of mode 0700 below `parent`, for as long as the block runs.

    Args:
        parent: made when it is missing; workspaces that were left behind below it are removed.
        kind: begins the folder's name, `restore-test` or `drill`.
        before_removal: called with a workspace that was left behind, to end what still runs in it.

    Raises:
        StoreUnavailableError: the folder cannot be made, or not be removed again.
    """
    folder, lock = _make(parent, kind, before_removal)
    try:
        yield folder
    finally:
        try:
            _remove(folder)
        except OSError as error:
            raise StoreUnavailableError(
                f"workspace {folder} cannot be removed: {error.strerror}",
                hint="Remove it by hand; it holds restored states in the clear.",
            ) from error
        finally:
            os.close(lock)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Demand room before anything is written: a full disk would hurt whoever shares it.

    Raises:
        StoreUnavailableError: less than `needed_bytes` and a reserve are free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise StoreUnavailableError(
            f"workspace {folder}: {free_bytes} bytes are free, "
            f"{needed_bytes + RESERVE_BYTES} are needed (disk full)",
            hint="Free space there, or choose a workspace on another disk.",
        )


def _make(parent: Path, kind: str, before_removal: Callable[[Path], None]) -> tuple[Path, int]:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        gate = os.open(parent / _GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for left in parent.glob(f"{kind}-*"):
                _sweep(left, before_removal)
            folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=parent))
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        finally:
            os.close(gate)
    except OSError as error:
        raise StoreUnavailableError(
            f"no workspace can be made below {parent}: {error.strerror}",
            hint="Check the folder, its owner and the free space.",
        ) from error
    return folder, lock


def _sweep(left: Path, before_removal: Callable[[Path], None]) -> None:
    """Remove a workspace unless somebody holds its lock."""
    try:
        lock = os.open(left / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Its maker was killed between two calls; whatever holds more than nothing is no workspace.
        with suppress(OSError):
            left.rmdir()
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before_removal(left)
        _remove(left)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a workspace; its lock file goes last, so that a cut removal is taken up again."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()
    (folder / _LOCK).unlink()
    folder.rmdir()
