"""Whatever step a process dies at: committed is committed, the rest is invisible, a rerun works."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fleet.errors import LakeUnavailableError
from resources.lake.directory_store import LEFTOVER_GRACE_S, DirectoryStore, StagedFile
from resources.lake.files import Files
from resources.lake.parquet_codec import open_writer
from resources.lake.parquet_lake import ParquetLake
from tests.resources.lake.faults import Crash, DeadAt, FailsOnce, PowerCutFiles, TracedFiles

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Step = Callable[[ParquetLake], object]


def rows(minute: int) -> pa.Table:
    """Three rows of a tick; the third column makes the file take several writes."""
    return pa.table({"minute": [minute] * 3, "text": [os.fsdecode(bytes([65 + minute])) * 900] * 3})


def write(minute: int) -> Step:
    """A step that writes a tick."""
    return lambda lake: lake.write("nodes", "eu", rows(minute), NOON + minute * MINUTE)


def compact(lake: ParquetLake) -> object:
    """The step that merges the day."""
    return lake.compact("nodes", "eu", NOON)


def remove_merged(lake: ParquetLake) -> object:
    """The step that removes the merged day; done already is fine."""
    return lake.remove([each for each in lake.objects("nodes") if each.kind == "day"])


STEPS: list[tuple[Step, set[int]]] = [
    (write(0), {0}),
    (write(1), {0, 1}),
    (compact, {0, 1}),
    (write(2), {0, 1, 2}),
    (compact, {0, 1, 2}),
    (write(3), {0, 1, 2, 3}),
    (remove_merged, {3}),
]
"""A short life of a lake, and the minutes that it holds after each step."""


def minutes_of(lake: ParquetLake) -> set[int]:
    """Which ticks a reader sees; fails unless each is there as a whole and once."""
    if not lake.tables():
        return set()
    found = lake.history("nodes", NOON, NOON + timedelta(days=1)).column("minute").to_pylist()
    assert all(found.count(minute) == 3 for minute in set(found))
    return set(found)


def calls_of_a_life(root: Path) -> list[str]:
    """The file calls of the whole life when nothing fails."""
    files = TracedFiles(lambda *_: None)
    lake = ParquetLake(DirectoryStore(root, files))
    for step, after in STEPS:
        step(lake)
        assert minutes_of(lake) == after
    return files.calls


def live_on(root: Path, done: int) -> None:
    """A new process looks at what is there, then carries on with the step that was cut off."""
    lake = ParquetLake(DirectoryStore(root))
    seen = minutes_of(lake)
    before = STEPS[done - 1][1] if done else set[int]()
    after = STEPS[done][1] if done < len(STEPS) else before
    assert seen in (before, after)
    for step, _ in STEPS[done:]:
        step(lake)
    assert minutes_of(lake) == STEPS[-1][1]
    assert not list((root / "quarantine").glob("**/*"))


def deaths(calls: list[str]) -> list[int]:
    """After which calls to die: all but those amid the writes of one tmp file, which are alike."""
    following = [*calls[1:], ""]
    return [
        number
        for number, (name, then) in enumerate(zip(calls, following, strict=True), 1)
        if (name, then) != ("write", "write")
    ]


def test_a_crash_after_any_file_call_loses_nothing_and_shows_nothing_half(tmp_path: Path) -> None:
    """Sweep: the process dies at every call of a life; what it acknowledged is there.

    To die before a call is to die after the one before it.
    """
    calls = calls_of_a_life(tmp_path / "whole")
    assert {"create", "write", "sync", "link", "sync_folder", "unlink"} <= set(calls)
    for number in deaths(calls):
        root = tmp_path / f"{number}"
        with pytest.raises(Crash):
            live_until_the_end(root, TracedFiles(DeadAt(number, done=True)))
        live_on(root, acknowledged(root))


def live_until_the_end(root: Path, files: Files) -> None:
    """Take the steps, noting each that was acknowledged outside of the lake."""
    lake = ParquetLake(DirectoryStore(root, files))
    for number, (step, _) in enumerate(STEPS, 1):
        step(lake)
        root.with_suffix(".done").write_text(str(number))


def acknowledged(root: Path) -> int:
    """How many steps had returned."""
    note = root.with_suffix(".done")
    return int(note.read_text()) if note.exists() else 0


def test_a_power_cut_after_any_file_call_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """Sweep: every folder entry that was not fsynced is undone, and still nothing is lost."""
    for number in deaths(calls_of_a_life(tmp_path / "whole")):
        root, attic = tmp_path / f"{number}", tmp_path / f"{number}-attic"
        attic.mkdir()
        files = PowerCutFiles(attic)
        mortal = TracedFiles(DeadAt(number, done=True))
        for name in ("sync", "make_folder", "link", "unlink", "sync_folder"):
            setattr(mortal, name, getattr(files, name))
        with pytest.raises(Crash):
            live_until_the_end(root, mortal)
        files.cut()
        live_on(root, acknowledged(root))


def _live_and_die(root: str, number: int) -> None:
    """Runs in a process of its own, which ends at one file call without any clean-up."""

    def die(call: int, name: str, done: bool) -> None:
        if call == number and done:
            os._exit(9)

    live_until_the_end(Path(root), TracedFiles(die))


@pytest.fixture
def processes() -> Iterator[Any]:
    """Fresh processes without our threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyarrow.parquet", "resources.lake.parquet_lake"])
    yield context
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


@pytest.mark.parametrize("which", ["link", "sync_folder", "unlink"])
def test_a_process_that_is_really_killed_leaves_a_lake_that_works(
    tmp_path: Path, processes: Any, which: str
) -> None:
    """`os._exit` in another process at the first call of each kind that changes what is seen."""
    number = calls_of_a_life(tmp_path / "whole").index(which) + 1
    root = tmp_path / "killed"
    child = processes.Process(target=_live_and_die, args=(str(root), number))
    child.start()
    child.join(60)
    assert child.exitcode == 9
    live_on(root, acknowledged(root))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_refused_file_call_is_an_error_that_leaves_nothing_behind(
    tmp_path: Path, code: int
) -> None:
    """Sweep over one write: disk full at any call; no tmp file, a retry works.

    Nothing is visible, unless only the folder's fsync was refused after the link.
    """
    calls = TracedFiles(lambda *_: None, 700)
    write(0)(ParquetLake(DirectoryStore(tmp_path / "whole", calls)))
    for number, name in enumerate(calls.calls, 1):
        root = tmp_path / f"{number}"
        lake = ParquetLake(DirectoryStore(root, TracedFiles(FailsOnce(number, code), 700)))
        with pytest.raises(LakeUnavailableError) as caught:
            write(0)(lake)
        assert caught.value.hint
        assert isinstance(caught.value.__cause__, OSError)
        linked = "link" in calls.calls[: number - 1]
        assert minutes_of(ParquetLake(DirectoryStore(root))) == ({0} if linked else set())
        assert not list((root / "tmp").iterdir()) or name == "unlink"
        write(0)(lake)
        assert minutes_of(lake) == {0}


def test_a_writer_that_failed_writes_nothing_into_a_later_object(tmp_path: Path) -> None:
    """Descriptors are used again: what holds an old one must not reach the new file."""
    first = StagedFile(Files(), str(tmp_path / "first"))
    schema = pa.schema([("minute", pa.int64())])
    with pytest.raises(ZeroDivisionError) as caught, open_writer(first, schema) as writer:
        writer.write_table(pa.table({"minute": [1 // 0]}))
    first.shut()
    second = StagedFile(Files(), str(tmp_path / "second"))
    with pytest.raises(ValueError, match="shut"):
        first.write(b"late")
    del writer, caught
    gc.collect()
    assert (tmp_path / "second").read_bytes() == b""
    second.shut()


def _write_with_a_small_disk(root: str, answers: Any) -> None:
    """Runs in a process that may write only 2,000 bytes to a file."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    lake = ParquetLake(DirectoryStore(root))
    wide = pa.table({"text": [os.urandom(20).hex() for _ in range(1000)]})
    try:
        lake.write("nodes", "eu", wide, NOON + MINUTE)
    except LakeUnavailableError as error:
        answers.put((str(error), error.hint))


def test_a_file_that_the_kernel_refuses_to_grow_is_not_visible(
    tmp_path: Path, processes: Any
) -> None:
    """A real limit of the operating system, met in the middle of an object."""
    lake = ParquetLake(DirectoryStore(tmp_path))
    write(0)(lake)
    answers = processes.Queue()
    child = processes.Process(target=_write_with_a_small_disk, args=(str(tmp_path), answers))
    child.start()
    message, hint = answers.get(timeout=60)
    child.join(60)
    answers.close()
    answers.join_thread()
    assert "File too large" in message
    assert "Free disk space" in hint
    assert minutes_of(lake) == {0}
    assert not list((tmp_path / "tmp").iterdir())


def test_leftovers_of_crashes_are_removed_by_a_later_write_after_the_grace(tmp_path: Path) -> None:
    """Not sooner: the file may belong to a writer that is still at work."""
    lake = ParquetLake(DirectoryStore(tmp_path))
    old, young = tmp_path / "tmp" / "old.tmp", tmp_path / "tmp" / "young.tmp"
    for path in (old, young):
        path.write_bytes(b"PAR1 half an object")
    now = young.stat().st_mtime
    os.utime(old, (now - LEFTOVER_GRACE_S - 60,) * 2)
    os.utime(young, (now - LEFTOVER_GRACE_S + 60,) * 2)
    write(0)(lake)
    assert sorted((tmp_path / "tmp").iterdir()) == [young]
    assert minutes_of(lake) == {0}
