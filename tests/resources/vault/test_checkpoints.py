"""A new process reads few objects of a long log, and knows what it would know from all of them.

The suite's spacing makes a checkpoint every two records, and longer ones of 4, 8, 16.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError, PermanentError, StoreUnavailableError
from fleet.vault_checkpoint import CheckpointPlace, Spacing, encode_checkpoint, line_of
from fleet.vault_epochs import Promotion, encode_promotion
from fleet.vault_log import EvidenceRecord, LogRecord, SnapshotRecord
from fleet.vault_records import encode_record
from resources.vault.log import checkpoints
from resources.vault.log.checkpoint_checks import CheckpointFault, check_checkpoints
from resources.vault.log.local_log import LocalLog
from resources.vault.log.log_store import VaultLog
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore

KEY = b"k" * 32
AT = datetime(2026, 11, 21, tzinfo=UTC)
FOLDER = "checkpoints/log/net/"


def opened(store: object, key: bytes = KEY, region: str = "") -> VaultLog:
    """As a new process opens it; nothing is read yet."""
    return VaultLog(store, "net", 0, key, region)  # type: ignore[arg-type]


def record(number: int) -> LogRecord:
    """Snapshots and notes in turns."""
    if number % 3:
        return EvidenceRecord("note", str(number))
    return SnapshotRecord(f"s{number}", AT, frozenset({f"p{number}"}))


def grown(count: int, store: InMemoryObjectStore | None = None) -> InMemoryObjectStore:
    """A log of so many records, written by one process."""
    store = store or InMemoryObjectStore()
    log = opened(store)
    log.refresh()
    for number in range(count):
        assert log.append(record(number), AT, {"n": number})
    assert log.doubts == ()
    return store


def names(store: InMemoryObjectStore) -> list[str]:
    """What lies in the folder of checkpoints."""
    return [one.key.removeprefix(FOLDER) for one in store.list_objects(FOLDER)]


def faults(store: InMemoryObjectStore) -> list[CheckpointFault]:
    """What V1 would find of the checkpoints."""
    return check_checkpoints(opened(store))


def assert_same_as_every_record(store: InMemoryObjectStore) -> VaultLog:
    """Reading out of checkpoints gives what every record gives."""
    quick, slow = opened(store), opened(store)
    assert quick.refresh() == slow.read_whole()
    assert quick.records == slow.records
    assert (quick.epoch, quick.promotion) == (slow.epoch, slow.promotion)
    return quick


@pytest.mark.parametrize("count", [*range(20), 33, 64])
def test_a_log_of_any_length_is_read_as_from_every_record(count: int) -> None:
    """And appended to behind its true end."""
    store = grown(count)
    log = assert_same_as_every_record(store)
    assert log.doubts == ()
    assert faults(store) == []
    assert log.append(record(count), AT)
    assert_same_as_every_record(store)


@pytest.mark.usefixtures("shipped_spacing")
@pytest.mark.parametrize(("count", "gets"), [(31, 31), (200, 6 + 8), (1_100, 2 + 2 + 12)])
def test_a_new_process_asks_for_few_objects(count: int, gets: int) -> None:
    """As shipped: blocks of 32 and 512, the records behind them, and two listings."""
    counting = CrashingStore(grown(count))
    log = opened(counting)
    log.refresh()
    assert (len(log.records), counting.counts) == (count, {"list": 2, "get": gets})


@pytest.mark.usefixtures("shipped_spacing")
def test_a_commit_costs_one_more_request_in_thirty_two() -> None:
    """One listing for each process, one creation for each block."""
    counting = CrashingStore(InMemoryObjectStore())
    log = opened(counting)
    log.refresh()
    for number in range(512):
        log.append(record(number), AT)
    assert counting.counts == {"list": 2, "create": 512 + 16}


def test_when_the_tail_is_empty_the_last_record_itself_is_looked_at() -> None:
    """One request more, so that a checkpoint never stands in for a log that went on otherwise."""
    counting = CrashingStore(grown(8))
    opened(counting).refresh()
    assert counting.counts == {"list": 2, "get": 2}


def test_an_old_vault_catches_up_with_few_objects() -> None:
    """Of 45 records: those of 32, 8 and 4; the last one waits for the next."""
    store = InMemoryObjectStore()
    kept, checkpoints.SPACING = checkpoints.SPACING, Spacing(every=1_000)
    grown(45, store)
    checkpoints.SPACING = kept
    assert names(store) == []
    log = opened(store)
    log.refresh()
    log.append(record(45), AT)
    assert names(store) == [
        "0000/0000000001-0000000032.ckpt",
        "0000/0000000033-0000000040.ckpt",
        "0000/0000000041-0000000044.ckpt",
        "0000/0000000045-0000000046.ckpt",
    ]
    assert_same_as_every_record(store)


def test_two_writers_make_the_same_bytes() -> None:
    """Whoever is first; the other one finds its work done."""
    one = grown(16)
    two = InMemoryObjectStore()
    two.objects = {key: data for key, data in one.objects.items() if key.startswith("log/")}
    two.modified = dict.fromkeys(two.objects, AT)
    log = opened(two)
    log.refresh()
    assert log.rewrite_checkpoints() == 1
    assert {one.objects[key] == two.objects[key] for key in two.objects} == {True}
    assert log.rewrite_checkpoints() == 0


DAMAGES = {
    "bit at the start": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "bit in the salt": lambda data: data[:9] + bytes([data[9] ^ 64]) + data[10:],
    "bit in the middle": lambda data: data[:99] + bytes([data[99] ^ 2]) + data[100:],
    "bit at the end": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut by one": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "one byte too long": lambda data: data + b"\x00",
    "newer format": lambda data: b"SRC2" + data[4:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_makes_a_reader_read_every_record_and_is_named(damage: str) -> None:
    """Each one of a log of seven: those that are used, and those that longer ones replaced."""
    for key in names(grown(7)):
        store = grown(7)
        store.replace(FOLDER + key, DAMAGES[damage](store.objects[FOLDER + key]))
        log = assert_same_as_every_record(store)
        is_used = key != "0000/0000000001-0000000002.ckpt"
        assert [key in one for one in log.doubts] == ([True] if is_used else [])
        assert [one.key for one in faults(store)] == [FOLDER + key]
        assert log.append(record(7), AT)
        assert_same_as_every_record(store)


def test_a_checkpoint_at_another_place_is_named() -> None:
    """Exchanged, or an older one replayed over a newer one."""
    for place, taken in itertools.permutations(names(grown(7)), 2):
        store = grown(7)
        store.replace(FOLDER + place, store.objects[FOLDER + taken])
        assert_same_as_every_record(store)
        assert [one.key for one in faults(store)] == [FOLDER + place]


def test_checkpoints_of_another_log_are_named() -> None:
    """Another network's, a region's own log's, another key's: under keys that fit."""
    store = grown(4)
    key = FOLDER + "0000/0000000001-0000000004.ckpt"
    local = LocalLog(store, "net", "eu", KEY)
    for number in range(4):
        local.append(record(number), AT)
    foreign = InMemoryObjectStore()
    other = VaultLog(foreign, "net", 0, b"w" * 32)
    for number in range(4):
        other.append(record(number), AT)
    lent = [store.objects["checkpoints/local/eu/net/0000000001-0000000004.ckpt"]]
    lent += [foreign.objects[key]]
    for data in lent:
        store.replace(key, data)
        assert len(assert_same_as_every_record(store).doubts) == 1
        assert [one.key for one in faults(store)] == [key]


def test_a_checkpoint_of_an_epoch_that_the_log_has_not_is_named() -> None:
    """Sealed by a holder of the key, of records that were never committed."""
    store = grown(4)
    log = opened(store)
    log.refresh()
    records = [one._replace(position=one.position._replace(epoch=7)) for one in log.records]
    place = CheckpointPlace(7, 1, 4)
    key = log.checkpoints.key_of(place)
    contents, before = [], "0" * 64
    for one in records:
        position = one.position._replace(prev_sha256=before)
        contents.append(encode_record(one.record, position, AT, KEY, one.extra))
        before = hashlib.sha256(contents[-1]).hexdigest()
    records[-1] = records[-1]._replace(sha256=before)
    store.create(key, encode_checkpoint(line_of(records), records, contents, KEY, key))
    quick = assert_same_as_every_record(store)
    assert "is missing, and a checkpoint holds it" in quick.doubts[0]
    assert [one.key for one in faults(store)] == [key]


def test_a_checkpoint_of_a_history_that_was_lost_is_named() -> None:
    """A home that lost its newest records, and wrote others in their place."""
    store = grown(4)
    store.delete([f"log/net/0000/{seq:010d}.json" for seq in (3, 4)])
    log = assert_same_as_every_record(store)
    assert (len(log.records), len(log.doubts)) == (2, 1)
    assert [one.problem for one in faults(store)] == [
        "holds records up to 4, which the log does not have"
    ]
    for number in range(5):
        log.append(EvidenceRecord("note", f"other {number}"), AT)
        assert_same_as_every_record(store)
    key = "checkpoints/log/net/0000/0000000001-0000000004.ckpt"
    assert {one.key for one in faults(store)} == {key}
    assert "another record 3" in faults(store)[0].problem


def test_a_missing_checkpoint_is_named_unless_it_is_the_newest() -> None:
    """The newest may not have been written yet; the next commit writes it."""
    store = grown(6)
    assert names(store)[-1] == "0000/0000000005-0000000006.ckpt"
    store.delete([FOLDER + names(store)[-1]])
    assert faults(store) == []
    assert assert_same_as_every_record(store).doubts == ()
    store = grown(6)
    store.delete([FOLDER + one for one in names(store)[:-1]])
    log = assert_same_as_every_record(store)
    assert "no checkpoint holds the log's records 1 to 4" in log.doubts[0]
    assert [(one.key, one.present) for one in faults(store)] == [(FOLDER, False)]
    log.append(record(6), AT)
    log.append(record(7), AT)
    assert faults(store) == []
    assert assert_same_as_every_record(store).doubts == ()


def test_a_stray_object_is_passed_by_and_named() -> None:
    """Whatever its name."""
    strays = ["x", "0000/1-2.ckpt", "0000/0000000003-0000000002.ckpt", "0000/0000000001.json"]
    store = grown(4)
    for one in strays:
        store.create(FOLDER + one, b"x")
    assert assert_same_as_every_record(store).doubts == ()
    assert sorted(one.key for one in faults(store)) == sorted(FOLDER + one for one in strays)


@pytest.mark.parametrize("mode", CRASHES)
def test_a_commit_killed_at_any_operation_leaves_a_log_that_reads_the_same(mode: str) -> None:
    """Record there or not, checkpoint there or not; the next commit makes up for it."""
    base = grown(7)

    def commit(store: object) -> None:
        log = opened(store)
        log.refresh()
        log.append(record(7), AT)

    total = count_operations(base.copy(), commit)
    assert total >= 7
    for number in range(1, total + 1):
        store = base.copy()
        with contextlib.suppress(Crashed, StoreUnavailableError):
            commit(CrashingStore(store, number, mode))
        assert faults(store) == []
        assert assert_same_as_every_record(store).doubts == ()
        for more in range(2):
            commit(store)
            assert len(assert_same_as_every_record(store).records) in {8 + more, 9 + more}
        assert names(store)[0:3:2] == [
            "0000/0000000001-0000000002.ckpt",
            "0000/0000000001-0000000008.ckpt",
        ]


class NoCheckpoints(CrashingStore):
    """Credentials that may not write below `checkpoints/`."""

    denied = True

    def create(self, key: str, data: bytes) -> bool:
        """Refused, as S3 says it."""
        if self.denied and key.startswith("checkpoints/"):
            raise PermanentError(f"object {key}: AccessDenied", hint="Check credentials.")
        return super().create(key, data)


def test_a_checkpoint_that_cannot_be_written_is_no_failure_of_the_commit() -> None:
    """It is said, once, and tried again with the next commit."""
    store = InMemoryObjectStore()
    refusing = NoCheckpoints(store)
    log = opened(refusing)
    log.refresh()
    for number in range(5):
        assert log.append(record(number), AT)
    assert len(log.doubts) == 2
    assert all("no checkpoint was written" in one for one in log.doubts)
    assert names(store) == []
    refusing.denied = False
    log.append(record(5), AT)
    assert names(store) == ["0000/0000000001-0000000004.ckpt", "0000/0000000005-0000000006.ckpt"]


def promoted(store: InMemoryObjectStore, epoch: int, upto: int) -> VaultLog:
    """A log as region `eu` goes on with it behind record `upto`, under a higher epoch."""
    log = opened(store, region="eu")
    log.refresh()
    kept = [one for one in log.records if one.position.seq <= upto]
    log._records = kept
    last = kept[-1].position
    promotion = Promotion(epoch, "eu", last.epoch, last.seq, ("eu",), operator=True)
    assert log.begin_epoch(epoch, encode_promotion(promotion), AT)
    return log


@given(
    first=st.integers(1, 9),
    fork=st.integers(1, 9),
    second=st.integers(0, 9),
    again=st.integers(1, 18),
    third=st.integers(0, 5),
)
def test_forks_at_any_place_are_read_as_from_every_record(
    first: int, fork: int, second: int, again: int, third: int
) -> None:
    """Two promotions that leave branches with checkpoints of their own aside."""
    store = grown(first)
    log = promoted(store, 1, min(fork, first))
    assert_same_as_every_record(store)
    for number in range(second):
        log.append(record(100 + number), AT)
        assert assert_same_as_every_record(store).doubts == ()
    log = promoted(store, 2, min(again, len(log.records)))
    for number in range(third):
        log.append(record(200 + number), AT)
    assert_same_as_every_record(store)
    assert faults(store) == []


@given(turns=st.lists(st.integers(0, 2), max_size=25))
def test_writers_with_stale_views_leave_one_log_and_no_fault(turns: list[int]) -> None:
    """Three long-lived writers, each refreshing only when it was too slow."""
    store = InMemoryObjectStore()
    writers = [opened(store) for _ in range(3)]
    for number, turn in enumerate(turns):
        while not writers[turn].append(record(number), AT):
            writers[turn].refresh()
    assert len(assert_same_as_every_record(store).records) == len(turns)
    assert faults(store) == []
    assert {one.doubts for one in writers} == {()}


def test_a_record_that_changed_behind_a_writer_is_sealed_by_nobody() -> None:
    """What does not read back as it was verified is not vouched for."""
    store = grown(3)
    log = opened(store)
    log.refresh()
    odd = log.records[2]._replace(extra={"n": "of a newer version"})
    log._records = [*log.records[:2], odd]
    store.replace("log/net/0000/0000000003.json", b"x")
    assert log.append(record(3), AT)
    assert "changed since it was read" in log.doubts[0]


def test_appending_to_a_long_local_log_lists_little_and_reads_one_record() -> None:
    """The names of checkpoints save listing what they hold."""
    store = InMemoryObjectStore()
    for number in range(63):
        log = LocalLog(store, "net", "eu", KEY)
        log.seek_tail()
        assert log.append(record(number), AT)
        assert log.doubts == ()
    counting = CrashingStore(store)
    log = LocalLog(counting, "net", "eu", KEY)
    log.seek_tail()
    assert counting.counts == {"list": 2, "get": 1}
    log = LocalLog(store, "net", "eu", KEY)
    assert log.refresh() == LocalLog(store, "net", "eu", KEY).read_whole()
    assert check_checkpoints(LocalLog(store, "net", "eu", KEY)) == []


def test_names_that_lie_about_a_local_log_are_not_believed() -> None:
    """A checkpoint beyond the end hides no record."""
    store = InMemoryObjectStore()
    log = LocalLog(store, "net", "eu", KEY)
    log.append(record(0), AT)
    store.create("checkpoints/local/eu/net/0000000001-0000000099.ckpt", b"x")
    log = LocalLog(store, "net", "eu", KEY)
    log.seek_tail()
    assert log.append(record(1), AT)
    assert len(LocalLog(store, "net", "eu", KEY).refresh()) == 2


def test_a_damaged_record_under_a_checkpoint_is_found_by_reading_every_record() -> None:
    """The checkpoint still gives it; V1 reads whole and names it."""
    store = grown(8)
    store.replace("log/net/0000/0000000003.json", b"x")
    assert opened(store).refresh().head == 8
    with pytest.raises(CorruptObjectError, match="0000000003"):
        faults(store)
