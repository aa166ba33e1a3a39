"""Damage is found, named and put aside; many processes share a directory without a lock."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fleet.errors import CorruptObjectError, InvalidInputError, LakeUnavailableError, NotFoundError
from fleet.ports.lake import LakeObject
from resources.lake.byte_store import VanishedError
from resources.lake.directory_store import DirectoryStore
from resources.lake.files import Files
from resources.lake.parquet_lake import ParquetLake
from tests.resources.lake.faults import Crash, DeadAt, TracedFiles

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def rows(*values: int) -> pa.Table:
    """A small table."""
    return pa.table({"value": pa.array(values, pa.int64())})


def values(table: pa.Table) -> list[int]:
    """Its only column."""
    found: list[int] = table.column("value").to_pylist()
    return found


@pytest.fixture
def lake(tmp_path: Path) -> ParquetLake:
    """A lake in `tmp_path`."""
    return ParquetLake(DirectoryStore(tmp_path))


def path_of(root: Path, found: LakeObject) -> Path:
    """The file of an object, made writable."""
    path = root / "objects" / found.key
    path.chmod(0o644)
    return path


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """The second half is lost."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Nothing is left but the name."""
    path.write_bytes(b"")


def extend(path: Path) -> None:
    """Bytes too many."""
    path.write_bytes(path.read_bytes() + b"\0")


READS: dict[str, Callable[[ParquetLake], pa.Table]] = {
    "latest": lambda lake: lake.read_latest("nodes", "eu"),
    "all partitions": lambda lake: lake.read_latest("nodes"),
    "history": lambda lake: lake.history("nodes", NOON, NOON + timedelta(hours=1)),
    "query": lambda lake: lake.query("SELECT max(value) AS value FROM nodes"),
    "query history": lambda lake: lake.query("SELECT max(value) AS value FROM nodes_history"),
}


@pytest.mark.parametrize("damage", [flip, truncate, empty, extend])
@pytest.mark.parametrize("read", READS)
def test_a_damaged_object_is_named_put_aside_and_healed_by_the_next_write(
    tmp_path: Path, damage: Callable[[Path], None], read: str
) -> None:
    """Whatever reads it first; older objects stay readable, a new tick is the newest again."""
    writer = ParquetLake(DirectoryStore(tmp_path))
    writer.write("nodes", "eu", rows(1), NOON)
    hurt = writer.write("nodes", "eu", rows(2), NOON + MINUTE)
    damage(path_of(tmp_path, hurt))
    lake = ParquetLake(DirectoryStore(tmp_path))
    with pytest.raises(CorruptObjectError) as caught:
        READS[read](lake)
    assert hurt.key in str(caught.value)
    assert caught.value.hint
    assert 1 in values(READS[read](lake))
    assert not (tmp_path / "objects" / hurt.key).exists()
    (note,) = (tmp_path / "quarantine").glob("**/*.json")
    said = json.loads(note.read_text())
    assert (said["key"], said["expected_sha256"]) == (hurt.key, hurt.sha256)
    moved = note.with_name(note.name.removesuffix(".json")).read_bytes()
    assert said["found_sha256"] == hashlib.sha256(moved).hexdigest()
    assert said["size_bytes"] == len(moved)
    lake.write("nodes", "eu", rows(3), NOON + 2 * MINUTE)
    assert values(lake.read_latest("nodes", "eu")) == [3]


def test_damage_after_an_object_was_verified_is_found_too(
    tmp_path: Path, lake: ParquetLake
) -> None:
    """What was verified is remembered by inode, size and times, not by name."""
    hurt = lake.write("nodes", "eu", rows(1), NOON)
    assert values(lake.read_latest("nodes", "eu")) == [1]
    flip(path_of(tmp_path, hurt))
    with pytest.raises(CorruptObjectError):
        lake.read_latest("nodes", "eu")


def test_writing_the_same_rows_again_heals_a_damaged_object(
    tmp_path: Path, lake: ParquetLake
) -> None:
    """The retried run has the right bytes at hand; the damaged ones are kept aside."""
    hurt = lake.write("nodes", "eu", rows(1), NOON)
    flip(path_of(tmp_path, hurt))
    assert lake.write("nodes", "eu", rows(1), NOON) == hurt
    assert values(lake.read_latest("nodes", "eu")) == [1]
    assert len(list((tmp_path / "quarantine").glob("**/*.json"))) == 1


def test_an_object_that_was_healed_while_it_was_being_moved_aside_is_put_back(
    tmp_path: Path, lake: ParquetLake
) -> None:
    """A reader hashes the damaged bytes; a writer replaces them before the reader moves them."""
    hurt = lake.write("nodes", "eu", rows(1), NOON)
    flip(path_of(tmp_path, hurt))
    healer = ParquetLake(DirectoryStore(tmp_path))

    def heal(number: int, name: str, done: bool) -> None:
        if name == "rename" and not done:
            healer.write("nodes", "eu", rows(1), NOON)

    reader = ParquetLake(DirectoryStore(tmp_path, TracedFiles(heal)))
    assert values(reader.read_latest("nodes", "eu")) == [1]
    assert lake.objects("nodes") == [hurt]
    assert values(ParquetLake(DirectoryStore(tmp_path)).read_latest("nodes", "eu")) == [1]


def test_a_writer_that_meets_a_vanishing_day_folder_makes_it_again(tmp_path: Path) -> None:
    """Another process removes the empty folder between its making and the link."""

    def interfere(number: int, name: str, done: bool) -> None:
        if name == "make_folder" and done and not raced:
            folder = tmp_path / "objects" / "nodes" / "eu" / "2026-03-01"
            if folder.is_dir():
                folder.rmdir()
                raced.append(number)

    raced: list[int] = []
    lake = ParquetLake(DirectoryStore(tmp_path, TracedFiles(interfere)))
    lake.write("nodes", "eu", rows(1), NOON)
    assert raced
    assert values(lake.read_latest("nodes", "eu")) == [1]


def test_a_tmp_file_that_was_taken_for_a_leftover_fails_the_commit_cleanly(tmp_path: Path) -> None:
    """A writer that slept for longer than the grace; it can write again."""

    def sweep(number: int, name: str, done: bool) -> None:
        if name == "link" and not done and not swept:
            for path in (tmp_path / "tmp").iterdir():
                path.unlink()
                swept.append(path)

    swept: list[Path] = []
    lake = ParquetLake(DirectoryStore(tmp_path, TracedFiles(sweep)))
    with pytest.raises(LakeUnavailableError):
        lake.write("nodes", "eu", rows(1), NOON)
    assert lake.objects("nodes") == []
    lake.write("nodes", "eu", rows(1), NOON)
    assert values(lake.read_latest("nodes", "eu")) == [1]


def test_a_damaged_source_stops_a_compaction_and_the_next_one_merges_the_rest(
    tmp_path: Path, lake: ParquetLake
) -> None:
    """Nothing is merged from bytes that do not match, and nothing is lost but them."""
    written = [lake.write("nodes", "eu", rows(n), NOON + n * MINUTE) for n in range(3)]
    flip(path_of(tmp_path, written[1]))
    with pytest.raises(CorruptObjectError):
        lake.compact("nodes", "eu", NOON)
    assert [each.key for each in lake.objects("nodes")] == [written[0].key, written[2].key]
    assert lake.compact("nodes", "eu", NOON) is not None
    assert values(lake.history("nodes", NOON, NOON + 9 * MINUTE)) == [0, 2]


def interrupted_compaction(root: Path) -> list[LakeObject]:
    """Three ticks whose compaction dies before the first of them is removed."""
    lake = ParquetLake(DirectoryStore(root))
    written = [lake.write("nodes", "eu", rows(n), NOON + n * MINUTE) for n in range(3)]
    counting = TracedFiles(lambda *_: None)
    twin = ParquetLake(DirectoryStore(root.with_name("twin"), counting))
    for n in range(3):
        twin.write("nodes", "eu", rows(n), NOON + n * MINUTE)
    before = len(counting.calls)
    twin.compact("nodes", "eu", NOON)
    calls = counting.calls[before:]
    # the first unlink is that of the tmp file, the second the first source's
    second = [number for number, name in enumerate(calls, 1) if name == "unlink"][1]
    dying = ParquetLake(DirectoryStore(root, TracedFiles(DeadAt(second, done=False))))
    with pytest.raises(Crash):
        dying.compact("nodes", "eu", NOON)
    return written


def test_sources_that_a_dead_compaction_left_are_not_counted_and_then_removed(
    tmp_path: Path,
) -> None:
    """The day object and all its sources are there; readers see each row once."""
    root = tmp_path / "lake"
    written = interrupted_compaction(root)
    lake = ParquetLake(DirectoryStore(root))
    assert all((root / "objects" / each.key).exists() for each in written)
    assert [each.kind for each in lake.objects("nodes")] == ["day"]
    assert values(lake.query("SELECT value FROM nodes_history ORDER BY 1")) == [0, 1, 2]
    assert lake.compact("nodes", "eu", NOON) is None
    assert not any((root / "objects" / each.key).exists() for each in written)


def test_removing_a_merged_day_does_not_bring_its_sources_back(tmp_path: Path) -> None:
    """What it superseded goes first."""
    root = tmp_path / "lake"
    interrupted_compaction(root)
    lake = ParquetLake(DirectoryStore(root))
    assert lake.remove(lake.objects("nodes")) == 1
    assert lake.objects("nodes") == []


def test_a_damaged_merged_day_gives_its_sources_back_when_they_are_still_there(
    tmp_path: Path,
) -> None:
    """Then nothing is lost at all."""
    root = tmp_path / "lake"
    interrupted_compaction(root)
    (day,) = ParquetLake(DirectoryStore(root)).objects("nodes")
    flip(path_of(root, day))
    lake = ParquetLake(DirectoryStore(root))
    with pytest.raises(CorruptObjectError):
        lake.objects("nodes")
    assert values(lake.history("nodes", NOON, NOON + 9 * MINUTE)) == [0, 1, 2]


def test_foreign_files_are_ignored(tmp_path: Path, lake: ParquetLake) -> None:
    """Whatever lies in the folders, only names of the format are objects."""
    found = lake.write("nodes", "eu", rows(1), NOON)
    folder = (tmp_path / "objects" / found.key).parent
    (folder / "README").write_text("hello")
    (folder / f"{'0' * 20}.parquet").write_bytes(b"")
    (tmp_path / "objects" / "stray").write_text("x")
    (tmp_path / "objects" / "Not a table" / "x").mkdir(parents=True)
    assert lake.objects("nodes") == [found]
    assert lake.tables() == ["nodes"]
    assert values(lake.query("SELECT value FROM nodes_history")) == [1]


def test_objects_are_read_only_and_empty_day_folders_go(tmp_path: Path, lake: ParquetLake) -> None:
    """Nobody writes to an object by accident; removal leaves no day folder behind."""
    found = lake.write("nodes", "eu", rows(1), NOON)
    path = tmp_path / "objects" / found.key
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    lake.remove([found])
    assert not path.parent.exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_object_that_vanished_is_an_error_of_its_own_kind(tmp_path: Path) -> None:
    """The lake lists anew on it; nobody else needs to know."""
    store = DirectoryStore(tmp_path)
    with pytest.raises(VanishedError, match="a/b/c"):
        store.fetch("a/b/c", "0" * 64)
    assert store.remove(["a/b/c"]) == 0


def test_a_path_that_is_no_folder_is_unavailable(tmp_path: Path) -> None:
    """With the path and the next step."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeUnavailableError, match="file") as caught:
        DirectoryStore(tmp_path / "file")
    assert "lake's path" in caught.value.hint


def test_of_two_writers_that_race_for_a_tick_exactly_one_succeeds(tmp_path: Path) -> None:
    """The second commits between the first's look and its own commit."""
    other = ParquetLake(DirectoryStore(tmp_path))
    raced: list[LakeObject] = []

    def race(number: int, name: str, done: bool) -> None:
        if name == "link" and not done and not raced:
            raced.append(other.write("nodes", "eu", rows(2), NOON))

    lake = ParquetLake(DirectoryStore(tmp_path, TracedFiles(race)))
    try:
        won = [lake.write("nodes", "eu", rows(1), NOON)]
    except InvalidInputError:
        won = raced
    assert other.objects("nodes") == won
    assert len(raced) == 1


def test_a_reader_lists_anew_when_objects_are_compacted_under_it(tmp_path: Path) -> None:
    """Between its listing and its opening the ticks vanish into a merged day."""
    writer = ParquetLake(DirectoryStore(tmp_path))
    for n in range(3):
        writer.write("nodes", "eu", rows(n), NOON + n * MINUTE)

    class CompactedMeanwhile(DirectoryStore):
        """Compacts once, just before the first object is opened."""

        done = False

        def fetch(self, key: str, sha256: str) -> str:
            if not self.done:
                self.done = True
                writer.compact("nodes", "eu", NOON)
            return super().fetch(key, sha256)

    for read, expected in [
        (READS["latest"], [2]),
        (READS["history"], [0, 1, 2]),
        (READS["query history"], [2]),
    ]:
        lake = ParquetLake(CompactedMeanwhile(tmp_path))
        assert values(read(lake)) == expected
        for each in writer.objects("nodes"):
            writer.remove([each])
        for n in range(3):
            writer.write("nodes", "eu", rows(n), NOON + n * MINUTE)


def test_a_writer_lists_anew_when_a_merged_day_is_merged_again_under_it(tmp_path: Path) -> None:
    """Between its listing and its opening the day gives way to a larger one that has its tick."""
    writer = ParquetLake(DirectoryStore(tmp_path))
    for n in range(2):
        writer.write("nodes", "eu", rows(n), NOON + n * MINUTE)
    writer.compact("nodes", "eu", NOON)

    class MergedMeanwhile(DirectoryStore):
        """Merges a further tick in, just before the day is opened."""

        done = False

        def fetch(self, key: str, sha256: str) -> str:
            if not self.done:
                self.done = True
                writer.write("nodes", "eu", rows(2), NOON + 2 * MINUTE)
                writer.compact("nodes", "eu", NOON)
            return super().fetch(key, sha256)

    repeated = ParquetLake(MergedMeanwhile(tmp_path)).write("nodes", "eu", rows(1), NOON + MINUTE)
    assert [repeated] == writer.objects("nodes")
    assert values(READS["history"](writer)) == [0, 1, 2]


def test_objects_that_always_vanish_are_an_error_in_the_end(tmp_path: Path) -> None:
    """A reader gives up after a few listings, and says so."""
    ParquetLake(DirectoryStore(tmp_path)).write("nodes", "eu", rows(1), NOON)

    class NeverThere(DirectoryStore):
        """Lists what it cannot open."""

        def fetch(self, key: str, sha256: str) -> str:
            raise VanishedError(key)

    for read in READS.values():
        with pytest.raises(LakeUnavailableError, match="vanish"):
            read(ParquetLake(NeverThere(tmp_path)))


@pytest.mark.parametrize("torn_pass", [1, 2])
def test_a_pass_over_a_folder_that_missed_both_old_and_new_objects_is_not_believed(
    tmp_path: Path, torn_pass: int
) -> None:
    """A day is merged during one of the passes, which shows neither the ticks nor the day."""
    writer = ParquetLake(DirectoryStore(tmp_path))
    for n in range(3):
        writer.write("nodes", "eu", rows(n), NOON + n * MINUTE)

    class TornPass(Files):
        """One of the passes is overtaken by a compaction."""

        passes = 0

        def names(self, path: str) -> set[str]:
            self.passes += 1
            if self.passes != torn_pass:
                return super().names(path)
            before = super().names(path)
            writer.compact("nodes", "eu", NOON)
            return before & super().names(path)

    reader = ParquetLake(DirectoryStore(tmp_path, TornPass()))
    assert sum(each.rows for each in reader.objects("nodes")) == 3


def test_a_listing_never_misses_a_row_while_a_day_is_merged(tmp_path: Path) -> None:
    """One pass over a folder may miss both the new object and the old ones; two passes do not."""
    writer, stop = ParquetLake(DirectoryStore(tmp_path)), threading.Event()
    for n in range(40):
        writer.write("nodes", "eu", rows(n), NOON + n * MINUTE)

    def churn() -> None:
        for n in range(40, 70):
            writer.write("nodes", "eu", rows(n), NOON + n * MINUTE)
            writer.compact("nodes", "eu", NOON)
        stop.set()

    thread = threading.Thread(target=churn)
    thread.start()
    reader, least = ParquetLake(DirectoryStore(tmp_path)), 40
    while not stop.is_set():
        counted = sum(each.rows for each in reader.objects("nodes"))
        assert least <= counted <= 70
        least = counted
    thread.join()
    assert sum(each.rows for each in reader.objects("nodes")) == 70


@pytest.fixture
def processes() -> Iterator[Any]:
    """Fresh processes without our threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyarrow.parquet", "resources.lake.parquet_lake"])
    yield context
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def _work(root: str, worker: int, answers: Any) -> None:
    """One process of several: answers with what it counted, or with its error."""
    try:
        answers.put(_counted(root, worker))
    except BaseException as error:
        answers.put(repr(error))
        raise


def _counted(root: str, worker: int) -> int:
    """Write shared and own ticks, merge, read; how many contested ticks were refused."""
    lake = ParquetLake(DirectoryStore(root))
    refused = 0
    for n in range(12):
        at = NOON + n * MINUTE
        lake.write("nodes", "shared", rows(n), at)
        lake.write("nodes", f"own-{worker}", rows(n, worker), at)
        try:
            lake.write("nodes", "contested", rows(n, worker), at)
        except InvalidInputError:
            refused += 1
        if n % 4 == worker % 4:
            lake.compact("nodes", "shared", NOON)
        seen = values(lake.history("nodes", NOON, at + MINUTE, "shared"))
        assert seen[: n + 1] == list(range(n + 1)), seen
        assert len(seen) == len(set(seen))
    return refused


def test_processes_share_a_lake_without_a_lock(tmp_path: Path, processes: Any) -> None:
    """Equal writes agree, contested ticks have one winner, merges lose and double nothing."""
    answers = processes.Queue()
    children = [
        processes.Process(target=_work, args=(str(tmp_path), worker, answers))
        for worker in range(4)
    ]
    for child in children:
        child.start()
    counts = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join(30)
    answers.close()
    answers.join_thread()
    assert all(isinstance(count, int) for count in counts), counts
    assert [child.exitcode for child in children] == [0] * 4
    lake = ParquetLake(DirectoryStore(tmp_path))
    hour = NOON + timedelta(hours=1)
    assert values(lake.history("nodes", NOON, hour, "shared")) == list(range(12))
    for worker in range(4):
        own = values(lake.history("nodes", NOON, hour, f"own-{worker}"))
        assert own == [each for n in range(12) for each in (n, worker)]
    contested = lake.objects("nodes", "contested")
    assert [each.written_at for each in contested] == [NOON + n * MINUTE for n in range(12)]
    assert sum(counts) <= 3 * 12  # at least one of four succeeds at each tick
    assert os.listdir(tmp_path / "tmp") == []  # noqa: PTH208


def test_a_name_that_leaves_the_lake_never_reaches_the_store(
    tmp_path: Path, lake: ParquetLake
) -> None:
    """Path traversal is refused by name."""
    for table, partition in [("../x", "eu"), ("nodes", "../../x"), ("nodes", "..")]:
        with pytest.raises(InvalidInputError):
            lake.write(table, partition, rows(1), NOON)
        with pytest.raises((InvalidInputError, NotFoundError)):
            lake.read_latest(table, partition)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["objects", "tmp"]
