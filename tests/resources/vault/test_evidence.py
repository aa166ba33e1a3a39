"""Evidence says what was proven, where and when; it is authentic, and no restore depends on it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.backup_evidence import (
    NAMED_MAX,
    Evidence,
    HealEvidence,
    NoteEvidence,
    SweepEvidence,
    TaintEvidence,
    VerificationEvidence,
    decode_evidence,
    encode_evidence,
    lost_packs,
    tainted_snapshots,
)
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.vault_log import EvidenceRecord
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.evidence import (
    mend_evidence,
    read_evidence,
    read_local,
    record_evidence,
)
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.vault_fleet import AT, VaultFleet

texts = st.text(max_size=20)
lists = st.lists(texts, max_size=5).map(tuple)
counts = st.integers(0, 2**60)
moments = st.datetimes().map(lambda t: t.replace(tzinfo=UTC))
names = st.sampled_from(["net", "eu-west", "r1"])
evidences: st.SearchStrategy[Evidence] = st.one_of(
    st.builds(
        VerificationEvidence,
        names,
        names,
        st.sampled_from(["V0", "V5"]),
        texts,
        moments,
        st.floats(0, 1e9),
        counts,
        counts,
        lists,
        texts,
        st.dictionaries(texts, st.integers() | texts | st.lists(texts)),
        st.just(7),
    ),
    st.builds(HealEvidence, names, names, texts, texts, texts, texts, moments, st.just(7)),
    st.builds(TaintEvidence, names, names, texts, texts, lists, lists, counts, moments, st.just(7)),
    st.builds(SweepEvidence, names, names, counts, counts, lists, moments, st.just(7)),
    st.builds(NoteEvidence, names, names, texts, moments, st.just(7)),
)


def passed(level: str = "V1", number: int = 0) -> VerificationEvidence:
    """A verification that found nothing."""
    return VerificationEvidence("net", "eu", level, f"s{number}", AT, 1.5, 3, 9, (), "1.0")


@given(evidences)
def test_evidence_comes_back_as_it_was_recorded(evidence: Evidence) -> None:
    """Every kind, with its number in the log."""
    assert decode_evidence(encode_evidence(evidence), 7) == evidence


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("level", "V6"),
        ("level", ""),
        ("region", "../x"),
        ("network_id", ""),
        ("started_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("seconds", -1.0),
        ("seconds", float("nan")),
        ("items", -1),
        ("items", True),
        ("bytes_checked", 1.5),
        ("failures", ["a list"]),
        ("failures", (1,)),
        ("snapshot_id", None),
        ("detail", "text"),
        ("detail", {"x": {1, 2}}),
        ("detail", {"x": float("inf")}),
    ],
)
def test_evidence_that_could_mislead_is_refused(field: str, value: object) -> None:
    """Before it is written; the field is named."""
    with pytest.raises(InvalidInputError, match=field):
        encode_evidence(passed()._replace(**{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("detail", ["", "[]", "{}", '{"level":"V9"}'])
def test_a_record_that_is_no_evidence_of_its_kind_is_named(detail: str) -> None:
    """With its number; a kind of a newer version is passed over."""
    with pytest.raises(CorruptObjectError, match="evidence 4 of kind verify"):
        decode_evidence(EvidenceRecord("verify", detail), 4)
    assert decode_evidence(EvidenceRecord("invented-later", detail), 4) is None


def test_long_lists_are_cut_and_counted_but_no_tainted_snapshot_is_left_out() -> None:
    """A million failures fit into one record; a snapshot that is not named would count as good."""
    many = tuple(f"{number}" for number in range(NAMED_MAX + 5))
    cut = decode_evidence(encode_evidence(passed()._replace(failures=many)), 0)
    assert isinstance(cut, VerificationEvidence)
    assert (len(cut.failures), cut.failures[-1]) == (NAMED_MAX + 1, "and 5 more")
    taint = TaintEvidence("net", "eu", "k", "lost", many, many, len(many), AT)
    kept = decode_evidence(encode_evidence(taint), 0)
    assert isinstance(kept, TaintEvidence)
    assert (kept.snapshots, len(kept.agents)) == (many, NAMED_MAX + 1)


def test_only_a_verification_without_failures_is_passed() -> None:
    """And what is no taint and no heal changes no taint."""
    assert passed().ok
    assert not passed()._replace(failures=("pack x: gone",)).ok
    note = NoteEvidence("net", "eu", "text", AT)
    assert tainted_snapshots([passed(), note]) == frozenset()


def test_a_taint_lasts_until_the_very_object_is_healed() -> None:
    """The heal of another object changes nothing; a new loss taints again."""
    taint = TaintEvidence("net", "eu", "a", "lost", ("s1", "s2"), (), 0, AT)
    other = HealEvidence("net", "eu", "b", "lost", "us", "", AT)
    assert tainted_snapshots([taint, other]) == {"s1", "s2"}
    assert tainted_snapshots([taint, other._replace(key="a")]) == frozenset()
    assert tainted_snapshots([taint, other._replace(key="a"), taint]) == {"s1", "s2"}


def test_packs_that_are_lost_are_no_base_until_they_are_healed() -> None:
    """Only packs, and by the name that manifests use."""
    key = "packs/net/sid/" + "a" * 64 + ".pack"
    taint = TaintEvidence("net", "eu", key, "gone", ("s1",), (), 0, AT)
    heal = HealEvidence("net", "eu", key, "gone", "us", "", AT)
    assert lost_packs([taint, taint._replace(key="log/net/0000/0000000001.json")]) == {"a" * 64}
    assert lost_packs([taint, heal]) == frozenset()
    assert lost_packs([taint, heal, taint]) == {"a" * 64}


def test_what_one_process_records_another_reads_in_order_and_in_parts(tmp_path: Path) -> None:
    """Each network and each region has its own numbers; the main log is untouched."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    for number in range(1, 6):
        assert record_evidence(fleet.vault(store), "eu", passed(number=number)) == number
    foreign = passed()._replace(region="us")
    assert record_evidence(fleet.vault(store), "us", foreign) == 1
    vault = fleet.vault(store)
    found = read_evidence(vault, "eu")
    assert found == [passed(number=n)._replace(seq=n) for n in range(1, 6)]
    assert read_evidence(vault, "eu", after=3) == found[3:]
    assert read_evidence(vault, "eu", after=5) == []
    assert read_evidence(vault, "nowhere") == []
    with pytest.raises(NotFoundError):
        read_evidence(vault, "eu", after=6)
    assert vault.log.refresh().head == 0


def test_reading_on_costs_only_what_is_new(tmp_path: Path) -> None:
    """One listing, the record before, and each new one."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    for number in range(20):
        record_evidence(fleet.vault(store), "eu", passed(number=number))
    counting = CrashingStore(store)
    assert len(read_evidence(fleet.vault(counting), "eu", after=18)) == 2
    assert counting.counts == {"list": 1, "get": 3}


def test_evidence_of_another_network_or_region_is_not_recorded(tmp_path: Path) -> None:
    """A mixed-up handle would vouch for the wrong copy."""
    vault = VaultFleet(2).vault(DirectoryObjectStore(tmp_path))
    for wrong in ({"region": "us"}, {"network_id": "net-2"}):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            record_evidence(vault, "eu", passed()._replace(**wrong))
    with pytest.raises(InvalidInputError, match="region"):
        vault.local_log()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", CRASHES)
def test_recording_is_killed_at_any_operation_and_leaves_a_valid_log(
    tmp_path: Path, mode: str
) -> None:
    """A lost answer does not record twice."""
    fleet = VaultFleet(2)

    def run(store: object) -> None:
        record_evidence(fleet.vault(store), "eu", passed(number=2))  # type: ignore[arg-type]

    base = DirectoryObjectStore(tmp_path / "count")
    record_evidence(fleet.vault(base), "eu", passed(number=1))
    total = count_operations(base, run)
    for number in range(1, total + 1):
        store = DirectoryObjectStore(tmp_path / f"{number}")
        record_evidence(fleet.vault(store), "eu", passed(number=1))
        try:
            run(CrashingStore(store, number, mode))
        except (Crashed, StoreUnavailableError):
            assert len(read_evidence(fleet.vault(store), "eu")) in {1, 2}
        else:
            assert mode == "lost"
            assert len(read_evidence(fleet.vault(store), "eu")) == 2
        run(store)
        found = [one.snapshot_id for one in read_evidence(fleet.vault(store), "eu")]
        assert found[:2] == ["s1", "s2"]


def test_records_cannot_be_moved_between_logs(tmp_path: Path) -> None:
    """Neither to another region's log nor into the main log: each has a key of its own."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    record_evidence(fleet.vault(store), "eu", passed())
    data = store.get("local/eu/net/0000000001.json")
    store.create("local/us/net/0000000001.json", data)
    store.create("log/net/0000/0000000001.json", data)
    with pytest.raises(CorruptObjectError, match="not authentic"):
        read_evidence(fleet.vault(store), "us")
    with pytest.raises(CorruptObjectError, match="not authentic"):
        fleet.vault(store).log.refresh()


@pytest.mark.usefixtures("shipped_spacing")
@pytest.mark.parametrize("damage", ["flipped", "deleted", "emptied", "foreign"])
def test_a_damaged_evidence_log_stops_no_restore_and_is_mended(tmp_path: Path, damage: str) -> None:
    """The bad part goes to quarantine, the loss is confessed in the log, and it goes on."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(3)
    taken = back_up(fleet.vault(store), fleet.store)
    for number in range(1, 6):
        record_evidence(fleet.vault(store), "eu", passed(number=number))
    path = tmp_path / "local/eu/net/0000000003.json"
    content = path.read_bytes()
    path.unlink()
    if damage != "deleted":
        other = {"flipped": content[:50] + b"#" + content[51:], "emptied": b"", "foreign": b"{}"}
        path.write_bytes(other[damage])
    vault = fleet.vault(store)
    with pytest.raises(CorruptObjectError, match="evidence log of region eu is damaged"):
        read_evidence(vault, "eu")
    torn = tmp_path / "local/eu/net/0000000006.json"
    torn.write_bytes(b"torn")
    with pytest.raises(CorruptObjectError, match="evidence log of region eu is damaged"):
        record_evidence(vault, "eu", passed())
    torn.unlink()
    assert fleet.restored(store, taken.snapshot_id) == fleet.bodies()
    assert mend_evidence(vault, "eu") == (0, 2 if damage == "deleted" else 3)
    assert [one.snapshot_id for one in read_evidence(vault, "eu")] == ["s1", "s2"]
    (confession,) = [one for one in read_local(vault, "eu") if isinstance(one, NoteEvidence)]
    assert "from number 3 on were set aside" in confession.text
    assert len(store.list_objects("quarantine/local/eu/net/")) == (2 if damage == "deleted" else 3)
    assert record_evidence(vault, "eu", passed(number=9)) == 4
    assert mend_evidence(vault, "eu") == (0, 0)


class ReadOnlyStore(CrashingStore):
    """A region's vault whose credentials may only read."""

    def create(self, key: str, data: bytes) -> bool:
        """Denied, as S3 says it."""
        raise PermanentError(f"object {key}: AccessDenied", hint="Check credentials.")


def test_a_vault_that_may_not_be_written_says_that_the_finding_still_holds(tmp_path: Path) -> None:
    """One clear error; reading goes on."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    record_evidence(fleet.vault(store), "eu", passed())
    vault = fleet.vault(ReadOnlyStore(store))
    with pytest.raises(PermanentError, match="evidence of region eu cannot be recorded") as refused:
        record_evidence(vault, "eu", passed())
    assert "what was found still holds" in refused.value.hint
    assert len(read_evidence(vault, "eu")) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """The embedded default without write permission."""
    vault = VaultFleet(2).vault(DirectoryObjectStore(tmp_path))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreUnavailableError, match="evidence of region eu"):
            record_evidence(vault, "eu", passed())
    finally:
        tmp_path.chmod(0o700)


def test_times_are_stored_in_utc_whatever_the_zone(tmp_path: Path) -> None:
    """Two regions agree on the order."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    local = (AT + timedelta(hours=0)).astimezone()
    record_evidence(fleet.vault(store), "eu", passed()._replace(started_at=local))
    body = json.loads(store.get("local/eu/net/0000000001.json"))["body"]
    assert json.loads(body["detail"])["started_at"] == AT.isoformat()
