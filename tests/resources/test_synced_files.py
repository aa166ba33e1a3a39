"""What a folder holds is made durable by one call, and its failure is told."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from resources import synced_files
from resources.synced_files import FileSystemFlush, sync_file, write_new


def test_a_flush_writes_out_what_was_written(tmp_path: Path) -> None:
    """Where the kernel tells of errors; a second close does nothing."""
    flush = FileSystemFlush(tmp_path)
    write_new(tmp_path / "one", b"x")
    assert flush.flush() == (synced_files._reporting_syncfs() is not None)
    flush.close()
    flush.close()
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "one", b"y")
    sync_file(tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"x"


def test_a_write_that_did_not_reach_the_disk_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system says it."""

    def fail(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(synced_files, "_reporting_syncfs", lambda: fail)
    flush = FileSystemFlush(tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        flush.flush()
    flush.close()


def test_what_an_early_flush_lost_is_told_by_the_flush_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells of a failed write once, and it may be the early one that hears it."""
    answers = [errno.EIO]

    def flush_once(_: int) -> int:
        ctypes.set_errno(answers.pop() if answers else 0)
        return -1 if ctypes.get_errno() else 0

    monkeypatch.setattr(synced_files, "_reporting_syncfs", lambda: flush_once)
    flush = FileSystemFlush(tmp_path)
    flush.start()
    with pytest.raises(OSError, match="Input/output error"):
        flush.flush()
    flush.close()
    assert answers == []


@pytest.mark.parametrize(
    ("system", "release", "known"),
    [
        ("Linux", "6.1.0-13-amd64", True),
        ("Linux", "5.8.0", True),
        ("Linux", "5.7.19", False),
        ("Linux", "odd", False),
        ("Darwin", "23.1.0", False),
    ],
)
def test_a_system_that_tells_of_no_errors_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, release: str, *, known: bool
) -> None:
    """Each file is synced by itself there."""
    if known and synced_files._reporting_syncfs() is None:
        pytest.skip("this C library has no syncfs")
    found = SimpleNamespace(sysname=system, release=release)
    monkeypatch.setattr(os, "uname", lambda: found)
    synced_files._reporting_syncfs.cache_clear()
    try:
        flush = FileSystemFlush(tmp_path)
        assert flush.flush() is known
        flush.close()
    finally:
        synced_files._reporting_syncfs.cache_clear()
