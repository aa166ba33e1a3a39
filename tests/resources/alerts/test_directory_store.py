"""Documents of alerts on disk: whole after any crash, never lost between two writers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.errors import CorruptObjectError, StoreUnavailableError
from resources.alerts import directory_store
from resources.alerts.directory_store import DirectoryAlertStore


def test_a_document_reads_back_the_same(tmp_path: Path) -> None:
    """Also a large one, and one of any text; one that was never written is none."""
    store = DirectoryAlertStore(tmp_path / "made")
    assert store.read("states") is None
    for text in ("", "\N{GRINNING FACE}\x00\n", "x" * 5_000_000):
        store.write("states", text)
        assert store.read("states") == text
    assert store.update("states", lambda before: f"{len(before or '')}") == "5000000"
    assert store.read("states") == "5000000"


@pytest.mark.parametrize("step", ["fsync", "replace", "sync_folder"])
def test_a_crash_at_any_step_leaves_the_old_document_or_the_new(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next write succeeds over what it left."""
    store = DirectoryAlertStore(tmp_path)
    store.write("states", "old")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if step == "fsync":
            patched.setattr(os, "fsync", crash)
        elif step == "replace":
            patched.setattr(Path, "replace", crash)
        else:
            patched.setattr(directory_store, "sync_folder", crash)
        with pytest.raises(KeyboardInterrupt):
            store.write("states", "new")
    expected = "new" if step == "sync_folder" else "old"
    assert DirectoryAlertStore(tmp_path).read("states") == expected
    store.write("states", "newest")
    assert store.read("states") == "newest"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damage_is_found_and_set_aside(damage: str, tmp_path: Path) -> None:
    """Never handed out; the bytes stay for whoever looks into it."""
    store = DirectoryAlertStore(tmp_path)
    store.write("silences", "important " * 100)
    (path,) = tmp_path.glob("silences*")
    data = path.read_bytes()
    damaged = {
        "flip": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "cut": data[: len(data) // 2],
        "empty": b"",
        "foreign": b"{}",
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(CorruptObjectError, match="silences"):
        store.read("silences")
    with pytest.raises(CorruptObjectError):
        store.update("silences", lambda _: "empty again")
    aside = store.set_aside("silences")
    assert Path(aside).read_bytes() == damaged
    assert store.read("silences") is None


def test_two_processes_lose_no_update(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Each adds its marks; all of both are there."""
    code = """
import sys
from pathlib import Path
from resources.alerts.directory_store import DirectoryAlertStore
store = DirectoryAlertStore(Path(sys.argv[1]))
for _ in range(20):
    store.update("silences", lambda text: (text or "") + sys.argv[2])
"""
    processes = [start_python(code, str(tmp_path), mark) for mark in "ab"]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    text = DirectoryAlertStore(tmp_path).read("silences") or ""
    assert sorted(text) == ["a"] * 20 + ["b"] * 20


def test_what_cannot_be_written_says_where_and_leaves_the_lock_free(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    blocked = tmp_path / "alerts"
    blocked.write_text("in the way")
    store = DirectoryAlertStore(blocked)
    with pytest.raises(StoreUnavailableError, match="cannot use"):
        store.write("states", "x")
    with pytest.raises(StoreUnavailableError, match="cannot read"):
        store.read("states")
    blocked.unlink()
    store.write("states", "x")
    with pytest.raises(StoreUnavailableError, match="cannot move"):
        store.set_aside("groups")
    assert store.read("states") == "x"
