"""Log records as bytes: canonical JSON, chained by hash, authenticated by HMAC.

A record proves who wrote it (HMAC under a key derived from the data key), where it belongs
(network, epoch, sequence) and what came before it (hash of the previous record's bytes). Forged,
replayed, reordered or foreign records do not verify; `docs/formats/backup.md` has the fields.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, InvalidInputError, SchemaMismatchError
from fleet.pack_keys import derive_key
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

RECORD_MAX_BYTES = 1024 * 1024
"""A snapshot record names each of its packs in about 70 bytes; more means a fault."""
FIRST_PREVIOUS = "0" * 64
"""`prev_sha256` of the first record."""
_FORMAT = 1


class LogPosition(NamedTuple):
    """Where a record stands."""

    network_id: str
    epoch: int
    seq: int
    prev_sha256: str


class StoredRecord(NamedTuple):
    """A record that has been verified, with the hash that the next one must name."""

    record: LogRecord
    position: LogPosition
    written_at: datetime
    sha256: str
    extra: Mapping[str, Any]
    """Fields beyond the protocol: sizes, counts, run id, code version."""
    size_bytes: int = 0
    """Of the object."""


def encode_record(
    record: LogRecord,
    position: LogPosition,
    written_at: datetime,
    data_key: bytes,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes to create at a position of the log.

    Raises:
        InvalidInputError: the record would be larger than `RECORD_MAX_BYTES`.
    """
    kind = _KIND_OF[type(record)]
    fields = {
        "format": _FORMAT,
        "type": kind,
        **position._asdict(),
        "written_at": _time_text(written_at),
        "body": _CODECS[kind][1](record),
        "extra": dict(extra or {}),
    }
    fields["hmac"] = _signature(fields, data_key)
    data = _canonical(fields)
    if len(data) > RECORD_MAX_BYTES:
        raise InvalidInputError("log record", f"{len(data)} bytes", f"<= {RECORD_MAX_BYTES}")
    return data


def decode_record(data: bytes, expected: LogPosition, data_key: bytes, key: str) -> StoredRecord:
    """Verify a record and read it.

    Args:
        data: the object's bytes.
        expected: where it was found, and the hash of the record before it.
        data_key: of the network.
        key: of the object, for the error.

    Raises:
        CorruptObjectError: it is no record, was forged or altered, or belongs somewhere else.
        SchemaMismatchError: it is authentic, but a newer version wrote it.
    """
    try:
        fields, claimed, position = _parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptObjectError(f"log record {key} cannot be read: {error}") from error
    if not hmac.compare_digest(claimed, _signature(fields, data_key)):
        raise CorruptObjectError(
            f"log record {key} is not authentic: forged, altered, or of another key",
            hint="Compare it with the copy in another region before anything else is written.",
        )
    return _stored(fields, position, expected, data, key)


def read_record(data: bytes, expected: LogPosition, key: str) -> StoredRecord:
    """Read a record whose bytes are authentic already: out of a checkpoint that has been opened.

    Args:
        data: the bytes of the record's object.
        expected: as for `decode_record`.
        key: of the record's object, for the error.

    Raises:
        CorruptObjectError: it belongs somewhere else.
        SchemaMismatchError: a newer version wrote it.
    """
    try:
        fields = json.loads(data)
        position = LogPosition(**{name: fields[name] for name in LogPosition._fields})
        return _stored(fields, position, expected, data, key)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptObjectError(f"log record {key} cannot be read: {error!r}") from error


def _stored(
    fields: Mapping[str, Any], position: LogPosition, expected: LogPosition, data: bytes, key: str
) -> StoredRecord:
    if position != expected:
        wrong = [n for n in LogPosition._fields if getattr(position, n) != getattr(expected, n)]
        raise CorruptObjectError(f"log record {key} belongs elsewhere: {', '.join(wrong)} differ")
    if fields["format"] != _FORMAT or fields["type"] not in _CODECS:
        raise SchemaMismatchError(
            f"log record {key} is of type {fields['type']}, format {fields['format']}",
            hint="A newer Stateroom wrote it; use that version or a newer one.",
        )
    record = _CODECS[fields["type"]][0](fields["body"])
    written_at = datetime.fromisoformat(fields["written_at"])
    digest = hashlib.sha256(data).hexdigest()
    return StoredRecord(record, position, written_at, digest, fields["extra"], len(data))


def _parse(data: bytes) -> tuple[dict[str, Any], str, LogPosition]:
    """Fields without the signature, the signature, and the place that the record claims."""
    fields = json.loads(data)
    claimed = str(fields.pop("hmac"))
    position = LogPosition(**{name: fields[name] for name in LogPosition._fields})
    if _canonical({**fields, "hmac": claimed}) != data:
        raise ValueError("not in canonical form")
    return fields, claimed, position


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _signature(fields: Mapping[str, Any], data_key: bytes) -> str:
    key = derive_key(data_key, b"", b"stateroom log")
    return hmac.new(key, _canonical(fields), hashlib.sha256).hexdigest()


def _time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


_Reader = Callable[[Any], LogRecord]
_Writer = Callable[[Any], Mapping[str, Any]]

_CODECS: Mapping[str, tuple[_Reader, _Writer]] = {
    "snapshot": (
        lambda b: SnapshotRecord(
            b["snapshot_id"], datetime.fromisoformat(b["taken_at"]), frozenset(b["packs"])
        ),
        lambda r: {
            "snapshot_id": r.snapshot_id,
            "taken_at": _time_text(r.taken_at),
            "packs": sorted(r.packs),
        },
    ),
    "forget": (
        lambda b: ForgetRecord(frozenset(b["snapshot_ids"])),
        lambda r: {"snapshot_ids": sorted(r.snapshot_ids)},
    ),
    "undelete": (
        lambda b: UndeleteRecord(b["snapshot_id"]),
        lambda r: {"snapshot_id": r.snapshot_id},
    ),
    "hold": (
        lambda b: HoldRecord(
            b["hold_id"],
            frozenset(b["snapshot_ids"]),
            _optional_time(b["expires_at"]),
            b["reason"],
        ),
        lambda r: {
            "hold_id": r.hold_id,
            "snapshot_ids": sorted(r.snapshot_ids),
            "expires_at": None if r.expires_at is None else _time_text(r.expires_at),
            "reason": r.reason,
        },
    ),
    "release": (lambda b: ReleaseRecord(b["hold_id"]), lambda r: {"hold_id": r.hold_id}),
    "gc": (
        lambda b: GcRecord(frozenset(b["condemned"]), frozenset(b["aborted"])),
        lambda r: {"condemned": sorted(r.condemned), "aborted": sorted(r.aborted)},
    ),
    "map": (
        lambda b: MapRecord(b["old"], b["new"], b["owner"]),
        lambda r: {"old": r.old, "new": r.new, "owner": r.owner},
    ),
    "evidence": (
        lambda b: EvidenceRecord(b["kind"], b["detail"]),
        lambda r: {"kind": r.kind, "detail": r.detail},
    ),
}

_KIND_OF: Mapping[type, str] = {
    SnapshotRecord: "snapshot",
    ForgetRecord: "forget",
    UndeleteRecord: "undelete",
    HoldRecord: "hold",
    ReleaseRecord: "release",
    GcRecord: "gc",
    MapRecord: "map",
    EvidenceRecord: "evidence",
}
