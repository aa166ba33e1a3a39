"""The embedded route table: crashes, damage, many writers."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from fleet.errors import CorruptObjectError, TrafficUnavailableError
from fleet.routes import Backend, RouteTable
from resources.traffic import atomic_files, embedded
from resources.traffic.embedded import EmbeddedRouter


def table(revision: int, count: int = 3) -> RouteTable:
    """A table whose every backend tells its revision."""
    backends = tuple(
        Backend(f"a{number:02}", "eu", "127.0.0.1", 1000 + revision, 1, 9)
        for number in range(count)
    )
    return RouteTable("web", 1, revision, backends)


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_crash_at_any_step_leaves_the_old_table_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Never a mixture; the next application completes it."""
    router = EmbeddedRouter(tmp_path)
    router.apply_routes([table(1)])

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(
            *{"fsync": (os, "fsync"), "open": (Path, "open")}.get(call, (Path, call)), crash
        )
        with pytest.raises(Crash):
            router.apply_routes([table(2)])
    assert router.table("web") == table(1)
    assert router.apply_routes([table(2)])[0].changed
    assert router.table("web") == table(2)


def test_a_disk_that_takes_nothing_is_an_error_and_the_old_table_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full, or without rights."""
    router = EmbeddedRouter(tmp_path)
    router.apply_routes([table(1)])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files.os, "fsync", full)
        with pytest.raises(TrafficUnavailableError, match="No space left"):
            router.apply_routes([table(2)])
    assert router.table("web") == table(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrafficUnavailableError, match="cannot be made or locked"):
        EmbeddedRouter(tmp_path / "file" / "folder").apply_routes([table(1)])
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TrafficUnavailableError, match="cannot be read"):
        router.table("folder")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"term":1}', '{"term":1,"revision":1,"backends":[[1]]}']
)
def test_a_damaged_file_is_named_and_never_used(tmp_path: Path, text: str) -> None:
    """With the command that helps."""
    (tmp_path / "web.json").write_text(text)
    router = EmbeddedRouter(tmp_path)
    with pytest.raises(CorruptObjectError, match=r"web\.json") as caught:
        router.apply_routes([table(1)])
    assert "rm " in caught.value.hint


def _write(folder: Path, revisions: list[int]) -> None:
    router = embedded.EmbeddedRouter(folder)
    for revision in revisions:
        router.apply_routes([table(revision, 40)])


def test_writers_in_many_processes_never_bring_an_older_table_back(tmp_path: Path) -> None:
    """Compared and swapped under the lock: the revision that is in force never falls."""
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write, args=(tmp_path, list(range(start, 120, 3))))
        for start in (1, 2, 3)
    ]
    for writer in writers:
        writer.start()
    router, last = EmbeddedRouter(tmp_path), 0
    while any(writer.is_alive() for writer in writers):
        found = router.table("web")
        if found is not None:
            assert found == table(found.revision, 40)
            assert found.revision >= last
            last = found.revision
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert router.table("web") == table(119, 40)
