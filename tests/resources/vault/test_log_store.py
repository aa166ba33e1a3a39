"""The log in a store: one winner per slot, nothing twice, nothing unverified."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.vault_log import EvidenceRecord, ReleaseRecord, SnapshotRecord
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.log.log_store import VaultLog
from tests.fakes.faulty_store import FaultyStore

KEY = b"k" * 32
AT = datetime(2026, 11, 21, tzinfo=UTC)


def note(text: str) -> EvidenceRecord:
    """A record without effect."""
    return EvidenceRecord("note", text)


def test_what_one_writer_appends_another_reads(tmp_path: Path) -> None:
    """State, records and further fields, also when read in parts."""
    store = DirectoryObjectStore(tmp_path)
    writer, reader = (VaultLog(store, "net", 0, KEY) for _ in range(2))
    assert writer.append(SnapshotRecord("s1", AT, frozenset({"p"})), AT, {"bytes": 9})
    assert reader.refresh().live.keys() == {"s1"}
    assert writer.append(note("two"), AT)
    assert reader.refresh().head == 2
    assert reader.records == writer.records
    assert reader.records[0].extra["bytes"] == 9
    assert reader.refresh().head == 2


def test_of_two_writers_at_one_head_the_second_is_told_to_read_again(tmp_path: Path) -> None:
    """It then appends behind the winner."""
    store = DirectoryObjectStore(tmp_path)
    one, two = (VaultLog(store, "net", 0, KEY) for _ in range(2))
    assert one.append(note("one"), AT) is True
    assert two.append(note("two"), AT) is False
    two.refresh()
    assert two.append(note("two"), AT) is True
    assert [r.record for r in two.records] == [note("one"), note("two")]


@pytest.mark.parametrize("seed", range(60))
def test_under_faults_each_acknowledged_record_stands_exactly_once(
    tmp_path: Path, seed: int
) -> None:
    """A third of all calls fail, before or after the write; two writers take turns."""
    store = DirectoryObjectStore(tmp_path)
    writers = [VaultLog(FaultyStore(store, seed + n, 0.3), "net", 0, KEY) for n in range(2)]
    acknowledged, doubtful = [], []
    for number in range(30):
        writer, record = writers[number % 2], note(str(number))
        try:
            writer.refresh()
            if writer.append(record, AT):
                acknowledged.append(record)
        except StoreUnavailableError:
            doubtful.append(record)
    log = VaultLog(store, "net", 0, KEY)
    log.refresh()
    written = [one.record for one in log.records]
    assert len(set(written)) == len(written)
    assert set(acknowledged) <= set(written) <= set(acknowledged) | set(doubtful)
    assert acknowledged


@pytest.mark.usefixtures("shipped_spacing")
def test_a_damaged_a_missing_and_a_foreign_record_are_named(tmp_path: Path) -> None:
    """Reading stops there; what was read before stays."""
    store = DirectoryObjectStore(tmp_path)
    log = VaultLog(store, "net", 0, KEY)
    for number in range(3):
        log.append(note(str(number)), AT)
    second = tmp_path / "log/net/0000/0000000002.json"
    content = second.read_bytes()
    second.write_bytes(content.replace(b'"1"', b'"9"'))
    with pytest.raises(CorruptObjectError, match=r"0000000002\.json is not authentic"):
        VaultLog(store, "net", 0, KEY).refresh()
    second.unlink()
    with pytest.raises(CorruptObjectError, match=r"0000000002\.json is missing"):
        VaultLog(store, "net", 0, KEY).refresh()
    second.write_bytes((tmp_path / "log/net/0000/0000000003.json").read_bytes())
    with pytest.raises(CorruptObjectError, match="belongs elsewhere: seq, prev_sha256"):
        VaultLog(store, "net", 0, KEY).refresh()


def test_another_key_reads_nothing(tmp_path: Path) -> None:
    """Wrong key, one clear error."""
    store = DirectoryObjectStore(tmp_path)
    VaultLog(store, "net", 0, KEY).append(ReleaseRecord("h"), AT)
    with pytest.raises(CorruptObjectError, match="another key"):
        VaultLog(store, "net", 0, b"w" * 32).refresh()


def test_networks_have_logs_of_their_own(tmp_path: Path) -> None:
    """A network whose name begins like another's is not mixed up with it."""
    store = DirectoryObjectStore(tmp_path)
    for network in ("net", "net-2"):
        assert VaultLog(store, network, 0, KEY).append(note(network), AT)
    log = VaultLog(store, "net", 0, KEY)
    assert log.refresh().head == 1


class TwoMindedStore(DirectoryObjectStore):
    """Refuses a create as existing and then has nothing there."""

    def create(self, key: str, data: bytes) -> bool:
        """Always taken."""
        return False


def test_a_store_that_contradicts_itself_is_given_up(tmp_path: Path) -> None:
    """After a bounded number of tries, with the record's name."""
    with pytest.raises(StoreUnavailableError, match="exists and does not"):
        VaultLog(TwoMindedStore(tmp_path), "net", 0, KEY).append(note("x"), AT)
