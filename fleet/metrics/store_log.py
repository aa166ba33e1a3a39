"""Entries of the metric store's log, and their JSON: the one thing that says what counts.

The document is `docs/formats/metrics.md`. Every entry was checked, before it was created, against
all entries before it: applying them needs no conditions (`fleet.metrics.store_state`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, SchemaMismatchError
from fleet.metrics.levels import Level
from fleet.ports.metric_store import RawCommit, RawPart

FORMAT = 1


class SeriesPart(NamedTuple):
    """One immutable file of the catalogue of series."""

    key: str
    rows: int
    size_bytes: int
    sha256: str


class RollupFile(NamedTuple):
    """One immutable file of records or sketches."""

    key: str
    rows: int
    size_bytes: int
    sha256: str


class RollupShard(NamedTuple):
    """What one shard of a partition was made from, and what was made."""

    shard: int
    inputs: str
    """Names what it was made from; another value means that it is dirty."""
    records: RollupFile | None
    """None where there is no sample."""
    sketches: RollupFile | None
    """None where no series is sketched."""
    conflicts: int = 0
    """Samples of one series and time with different values, of which the last was taken."""
    histograms: RollupFile | None = None
    """None where no series is a native histogram."""

    def files(self) -> list[RollupFile]:
        """All files that were made."""
        return [one for one in (self.records, self.sketches, self.histograms) if one is not None]


class Counted(NamedTuple):
    """Samples of a commit, in numbers."""

    stored: int = 0
    refused_future: int = 0
    """Too far ahead of the store's clock: not stored."""
    refused_expired: int = 0
    """At or before the raw floor: not stored."""
    late: int = 0
    """For an hour that was no longer open: stored, and its rollups are made anew."""
    duplicates: int = 0
    """Said twice in the batch; stored once."""
    conflicts: int = 0
    """Of them with different values."""


@dataclass(frozen=True, slots=True)
class SamplesEntry:
    """A batch of samples counts from here on."""

    commit: RawCommit
    series: SeriesPart | None
    counted: Counted
    histograms: tuple[RawPart, ...] = ()
    """Parts of native histograms."""


@dataclass(frozen=True, slots=True)
class CompactionEntry:
    """Live parts of one hour and shard are replaced by one with the same samples."""

    at: datetime
    sources: tuple[str, ...]
    part: RawPart
    conflicts: int
    histograms: bool = False
    """Whether the parts are those of native histograms."""


@dataclass(frozen=True, slots=True)
class SeriesCompactionEntry:
    """Live parts of the catalogue are replaced by one with the same series."""

    at: datetime
    sources: tuple[str, ...]
    part: SeriesPart


@dataclass(frozen=True, slots=True)
class RollupEntry:
    """Shards of a partition are made."""

    at: datetime
    level: Level
    partition_ms: int
    """Its start."""
    shards: tuple[RollupShard, ...]


@dataclass(frozen=True, slots=True)
class DiscardEntry:
    """A shard of a partition is damaged: it counts no more, and is dirty."""

    at: datetime
    level: Level
    partition_ms: int
    shard: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetentionEntry:
    """What lies at or before the floors is gone."""

    at: datetime
    raw_floor_ms: int
    floors_ms: Mapping[Level, int]


Entry = (
    SamplesEntry
    | CompactionEntry
    | SeriesCompactionEntry
    | RollupEntry
    | DiscardEntry
    | RetentionEntry
)


def encode_entry(entry: Entry) -> bytes:
    """The bytes of an entry; equal entries have equal bytes."""
    fields = {"format": FORMAT, **_fields(entry)}
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def decode_entry(key: str, data: bytes) -> Entry:
    """The entry again.

    Raises:
        SchemaMismatchError: a newer Stateroom wrote it.
        CorruptObjectError: these are no entry's bytes.
    """
    try:
        fields = json.loads(data)
        known = fields["format"] == FORMAT
        kind = str(fields["kind"]) if known else ""
        entry = _READERS[kind](fields) if kind in _READERS else None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(
            f"metric log {key} is no entry: {error}", hint="Restore the object from a backup."
        ) from error
    if entry is None:
        raise SchemaMismatchError(
            f"metric log {key} has a format or kind that this version does not know",
            hint="Run the version of Stateroom that wrote it, or a newer one.",
        )
    return entry


_LEVELS = {level.text: level for level in Level}


def _fields(entry: Entry) -> dict[str, Any]:
    match entry:
        case SamplesEntry():
            commit = entry.commit
            # a kind of its own, so that a version without histograms stops instead of losing them
            more = {"histograms": [list(one) for one in entry.histograms]}
            return (more if entry.histograms else {}) | {
                "kind": "samples_and_histograms" if entry.histograms else "samples",
                "at": _text(commit.committed_at),
                "number": commit.number,
                "batch_id": commit.batch_id,
                "writer": commit.writer,
                "parts": [list(one) for one in commit.parts],
                "series": entry.series and list(entry.series),
                "counted": entry.counted._asdict(),
            }
        case CompactionEntry():
            return {
                "kind": "histogram_compaction" if entry.histograms else "compaction",
                "at": _text(entry.at),
                "sources": list(entry.sources),
                "part": list(entry.part),
                "conflicts": entry.conflicts,
            }
        case SeriesCompactionEntry():
            return {
                "kind": "series_compaction",
                "at": _text(entry.at),
                "sources": list(entry.sources),
                "part": list(entry.part),
            }
        case RollupEntry():
            return {
                "kind": "rollup",
                "at": _text(entry.at),
                "level": entry.level.text,
                "partition_ms": entry.partition_ms,
                "shards": [shard_fields(one) for one in entry.shards],
            }
        case DiscardEntry():
            return {
                "kind": "discard",
                "at": _text(entry.at),
                "level": entry.level.text,
                "partition_ms": entry.partition_ms,
                "shard": entry.shard,
                "reason": entry.reason,
            }
        case RetentionEntry():
            return {
                "kind": "retention",
                "at": _text(entry.at),
                "raw_floor_ms": entry.raw_floor_ms,
                "floors_ms": {level.text: ms for level, ms in entry.floors_ms.items()},
            }


def shard_fields(one: RollupShard) -> list[Any]:
    """A shard as JSON."""
    return [
        one.shard,
        one.inputs,
        one.records and list(one.records),
        one.sketches and list(one.sketches),
        one.conflicts,
        *([list(one.histograms)] if one.histograms else []),
    ]


def shard_of(fields: list[Any]) -> RollupShard:
    """The shard again."""
    shard, inputs, records, sketches, conflicts, *histograms = fields
    return RollupShard(
        shard,
        inputs,
        records and RollupFile(*records),
        sketches and RollupFile(*sketches),
        conflicts,
        RollupFile(*histograms[0]) if histograms else None,
    )


def _samples(fields: dict[str, Any]) -> SamplesEntry:
    commit = RawCommit(
        fields["number"],
        fields["batch_id"],
        fields["writer"],
        _time(fields["at"]),
        tuple(RawPart(*one) for one in fields["parts"]),
    )
    series = fields["series"] and SeriesPart(*fields["series"])
    histograms = tuple(RawPart(*one) for one in fields.get("histograms", ()))
    return SamplesEntry(commit, series, Counted(**fields["counted"]), histograms)


def _compaction(fields: dict[str, Any]) -> CompactionEntry:
    return CompactionEntry(
        _time(fields["at"]),
        tuple(fields["sources"]),
        RawPart(*fields["part"]),
        fields["conflicts"],
        fields["kind"] == "histogram_compaction",
    )


def _series_compaction(fields: dict[str, Any]) -> SeriesCompactionEntry:
    part = SeriesPart(*fields["part"])
    return SeriesCompactionEntry(_time(fields["at"]), tuple(fields["sources"]), part)


def _rollup(fields: dict[str, Any]) -> RollupEntry:
    return RollupEntry(
        _time(fields["at"]),
        _LEVELS[fields["level"]],
        fields["partition_ms"],
        tuple(shard_of(one) for one in fields["shards"]),
    )


def _discard(fields: dict[str, Any]) -> DiscardEntry:
    return DiscardEntry(
        _time(fields["at"]),
        _LEVELS[fields["level"]],
        fields["partition_ms"],
        fields["shard"],
        fields["reason"],
    )


def _retention(fields: dict[str, Any]) -> RetentionEntry:
    floors = {_LEVELS[text]: ms for text, ms in fields["floors_ms"].items()}
    return RetentionEntry(_time(fields["at"]), fields["raw_floor_ms"], floors)


_READERS: Mapping[str, Callable[[dict[str, Any]], Entry]] = {
    "samples": _samples,
    "samples_and_histograms": _samples,
    "compaction": _compaction,
    "histogram_compaction": _compaction,
    "series_compaction": _series_compaction,
    "rollup": _rollup,
    "discard": _discard,
    "retention": _retention,
}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
