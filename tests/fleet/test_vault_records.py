"""A log record proves its author, its place and its past, or it is refused by name."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import vault_records
from fleet.errors import CorruptObjectError, InvalidInputError, SchemaMismatchError
from fleet.vault_log import (
    EvidenceRecord,
    ForgetRecord,
    GcRecord,
    HoldRecord,
    LogRecord,
    MapRecord,
    ReleaseRecord,
    SnapshotRecord,
    UndeleteRecord,
)
from fleet.vault_records import FIRST_PREVIOUS, LogPosition, decode_record, encode_record

KEY = b"k" * 32
AT = datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC)
HERE = LogPosition("net-a", 0, 1, FIRST_PREVIOUS)

ids = st.text("abcdef0123456789", min_size=1, max_size=12)
id_sets = st.frozensets(ids, max_size=4)
moments = st.datetimes().map(lambda t: t.replace(tzinfo=UTC))
records: st.SearchStrategy[LogRecord] = st.one_of(
    st.builds(SnapshotRecord, ids, moments, id_sets),
    st.builds(ForgetRecord, id_sets),
    st.builds(UndeleteRecord, ids),
    st.builds(HoldRecord, ids, id_sets, st.none() | moments, st.text(max_size=20)),
    st.builds(ReleaseRecord, ids),
    st.builds(GcRecord, id_sets, id_sets),
    st.builds(MapRecord, ids, ids, ids),
    st.builds(EvidenceRecord, ids, st.text(max_size=20)),
)


@given(records, st.integers(0, 9), st.integers(1, 10**9))
def test_every_record_comes_back_as_it_was(record: LogRecord, epoch: int, seq: int) -> None:
    """With its time and its further fields."""
    place = LogPosition("net-a", epoch, seq, "f" * 64)
    data = encode_record(record, place, AT, KEY, {"bytes": 7})
    stored = decode_record(data, place, KEY, "log/x")
    assert (stored.record, stored.position, stored.written_at) == (record, place, AT)
    assert stored.extra == {"bytes": 7}


@given(records, st.integers(0, 10**6), st.integers(0, 7))
def test_no_altered_record_is_believed(record: LogRecord, place: int, bit: int) -> None:
    """Whichever bit is flipped, the record is refused and named."""
    data = bytearray(encode_record(record, HERE, AT, KEY))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(CorruptObjectError, match="log/x"):
        decode_record(bytes(data), HERE, KEY, "log/x")


@pytest.mark.parametrize(
    ("field", "elsewhere"),
    [
        ("network_id", HERE._replace(network_id="net-b")),
        ("epoch", HERE._replace(epoch=1)),
        ("seq", HERE._replace(seq=2)),
        ("prev_sha256", HERE._replace(prev_sha256="a" * 64)),
    ],
)
def test_a_record_is_refused_anywhere_but_at_its_place(field: str, elsewhere: LogPosition) -> None:
    """Replayed, reordered, or copied from another network: the differing field is named."""
    data = encode_record(ReleaseRecord("h"), HERE, AT, KEY)
    with pytest.raises(CorruptObjectError, match=f"belongs elsewhere: {field} differ"):
        decode_record(data, elsewhere, KEY, "log/x")


def test_a_record_without_the_key_is_a_forgery() -> None:
    """An attacker who can write to the bucket cannot make a record that counts."""
    data = encode_record(GcRecord(frozenset({"p"}), frozenset()), HERE, AT, b"w" * 32)
    with pytest.raises(CorruptObjectError, match="not authentic"):
        decode_record(data, HERE, KEY, "log/x")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b'{"hmac":1}', b"\xff", b"[" * 99999])
def test_what_is_no_record_is_refused_by_name(data: bytes) -> None:
    """Garbage gives one clear error, never another exception."""
    with pytest.raises(CorruptObjectError, match="log/x cannot be read"):
        decode_record(data, HERE, KEY, "log/x")


def test_another_spelling_of_the_same_record_is_refused() -> None:
    """One record has one form, so its hash names it."""
    data = encode_record(ReleaseRecord("h"), HERE, AT, KEY)
    with pytest.raises(CorruptObjectError, match="canonical"):
        decode_record(json.dumps(json.loads(data)).encode(), HERE, KEY, "log/x")


def test_an_authentic_record_of_a_newer_version_says_so() -> None:
    """The remedy is an upgrade, not a restore."""
    fields = json.loads(encode_record(ReleaseRecord("h"), HERE, AT, KEY))
    del fields["hmac"]
    fields["type"] = "invented-later"
    fields["hmac"] = vault_records._signature(fields, KEY)
    data = vault_records._canonical(fields)
    with pytest.raises(SchemaMismatchError, match="invented-later"):
        decode_record(data, HERE, KEY, "log/x")


def test_a_local_time_is_stored_in_utc() -> None:
    """Two regions that write local times must agree on the order."""
    berlin = AT.astimezone(timezone(timedelta(hours=1)))
    assert encode_record(ReleaseRecord("h"), HERE, berlin, KEY) == encode_record(
        ReleaseRecord("h"), HERE, AT, KEY
    )


def test_a_record_too_large_to_be_right_is_refused() -> None:
    """Before it is written."""
    packs = frozenset(f"{n:064d}" for n in range(20_000))
    with pytest.raises(InvalidInputError, match="log record"):
        encode_record(SnapshotRecord("s", AT, packs), HERE, AT, KEY)
