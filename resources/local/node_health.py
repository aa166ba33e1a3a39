"""Health of a node: live (it answers), ready (it may run agents), deep (what it needs works)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fleet.errors import LakeUnavailableError, StateroomError, StoreUnavailableError
from fleet.ports.control_store import ControlStore

CHECK_TIMEOUT_S = 3.0
"""A dependency that has not answered by then counts as failed."""


class CheckResult(NamedTuple):
    """One dependency, tried just now."""

    name: str
    ok: bool
    latency_ms: float
    detail: str


def check_lake(path: Path) -> str:
    """Write, sync and remove a file in the lake's folder.

    Returns:
        The free space, in words.

    Raises:
        LakeUnavailableError: the folder is missing, read-only or full.
    """
    probe = path / f".probe-{os.getpid()}"
    try:
        file = os.open(probe, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(file, b"probe")
            os.fsync(file)
        finally:
            os.close(file)
            probe.unlink()
        stat = os.statvfs(path)
    except OSError as error:
        raise LakeUnavailableError(
            f"lake {path} takes no file: {error.strerror}",
            hint="Free space, or repair the folder and its permissions.",
        ) from error
    return f"{stat.f_bavail * stat.f_frsize / 2**30:.1f} GiB free"


def check_store(store: ControlStore | None) -> str:
    """Let the store prove a read and a durable write.

    Raises:
        StoreUnavailableError: it cannot, or was never reached.
    """
    if store is None:
        raise StoreUnavailableError("the control store has not been reached since the node started")
    store.ping()
    return "read and durable write"


async def run_check(name: str, check: Callable[[], str]) -> CheckResult:
    """Run one check in a thread, bounded in time."""
    started_s = time.perf_counter()
    try:
        detail = await asyncio.wait_for(asyncio.to_thread(check), CHECK_TIMEOUT_S)
        ok = True
    except TimeoutError:
        ok, detail = False, f"no answer within {CHECK_TIMEOUT_S:g} s"
    except StateroomError as error:
        ok, detail = False, f"{error} {error.hint}".strip()
    return CheckResult(name, ok, round(1000 * (time.perf_counter() - started_s), 2), detail)
