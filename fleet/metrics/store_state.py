"""What the entries of the log mean together: live parts, built rollups, floors, known batches.

Invariant: the state after entry n is a function of entries 1 to n; any reader that has read as far
has the same. A snapshot is this state as JSON.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.errors import SchemaMismatchError
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.store_log import (
    FORMAT,
    CompactionEntry,
    Counted,
    DiscardEntry,
    Entry,
    RetentionEntry,
    RollupEntry,
    RollupShard,
    SamplesEntry,
    SeriesCompactionEntry,
    SeriesPart,
    shard_fields,
    shard_of,
)
from fleet.ports.metric_store import RawPart

BATCHES_REMEMBERED = 100_000
"""Commits whose batch ids are known: two days of eight writers that commit every 15 s."""
RECENT_COMMITS = 1000
"""Commits that say whether samples come in time now."""
FORMAT_HISTOGRAMS = 2
"""Format of a snapshot of a store that has held native histograms: a version that does not know of
them refuses it."""
CODE = "1"
"""Version of what computes records; part of every shard's inputs, so that a new one makes all of
them dirty."""
NO_INPUTS = ""
"""Inputs of a shard that has no sample."""
NEVER_MS = -(2**62)
EARLIEST_MS = -62_135_596_800_000
"""0001-01-01: an hour before it has no day to lie under."""

Place = tuple[int, int]
"""Start of a span of time, and shard."""


class LivePart(NamedTuple):
    """A raw part that counts, and the commit that it stands for in the order of commits."""

    number: int
    part: RawPart


class Batch(NamedTuple):
    """Where the first commit of a batch stands."""

    entry: int
    number: int


class StoreState:
    """The state after some entries; changed only by `apply`."""

    def __init__(self) -> None:
        """Before the first entry."""
        self.entry = 0
        """Number of the last entry applied."""
        self.number = 0
        """Number of the last commit of samples."""
        self.raw: dict[Place, dict[str, LivePart]] = {}
        """(hour, shard) -> key -> live part, in the order of commits."""
        self.histograms: dict[Place, dict[str, LivePart]] = {}
        """The same of parts of native histograms."""
        self.versions: dict[Place, int] = {}
        """(hour, shard) -> number of the last commit that touched it."""
        self.series: OrderedDict[str, SeriesPart] = OrderedDict()
        """Key -> live part of the catalogue, in the order of commits."""
        self.rollups: dict[Level, dict[Place, RollupShard]] = {level: {} for level in Level}
        """Level -> (partition, shard) -> what is built."""
        self.raw_floor_ms = NEVER_MS
        self.floors_ms: dict[Level, int] = dict.fromkeys(Level, NEVER_MS)
        self.batches: OrderedDict[str, Batch] = OrderedDict()
        self.counted = Counted()
        """Of all commits together; conflicts also of compactions."""
        self.recent: deque[Counted] = deque(maxlen=RECENT_COMMITS)
        """Of the newest commits, one by one."""
        self.suspects: dict[Level, set[Place]] = {level: set() for level in Level}
        """Level -> shards of partitions that may be dirty; all others are clean."""

    def apply(self, entry: Entry) -> None:
        """Take the next entry of the log in."""
        self.entry += 1
        match entry:
            case SamplesEntry():
                self._samples(entry)
            case CompactionEntry():
                self._compaction(entry)
            case SeriesCompactionEntry():
                for key in entry.sources:
                    self.series.pop(key)
                self.series[entry.part.key] = entry.part
                self.series.move_to_end(entry.part.key, last=False)
            case RollupEntry():
                for shard in entry.shards:
                    self.rollups[entry.level][entry.partition_ms, shard.shard] = shard
                    self._suspect(entry.level, entry.partition_ms, shard.shard)
            case DiscardEntry():
                self.rollups[entry.level].pop((entry.partition_ms, entry.shard), None)
                self._suspect(entry.level, entry.partition_ms, entry.shard)
            case RetentionEntry():
                self._retention(entry)

    def parts(self, hour_ms: int, shard: int, *, histograms: bool = False) -> list[LivePart]:
        """Live parts of an hour and shard, in the order of commits: of samples, or histograms."""
        found = (self.histograms if histograms else self.raw).get((hour_ms, shard), {})
        return sorted(found.values(), key=lambda live: live.number)

    def inputs(self, level: Level, partition_ms: int, shard: int, open_from_ms: int) -> str:
        """What a shard of a partition has to be made from now; `NO_INPUTS` for nothing.

        Args:
            level: of the rollup.
            partition_ms: start of the partition.
            shard: of the store.
            open_from_ms: hours that begin here or later are open, and no input.
        """
        if level == Level.M1:
            version = self.versions.get((partition_ms, shard))
            return NO_INPUTS if version is None else f"{CODE}-{version}"
        below, step = LOWER[level], LOWER[level].partition_ms
        found = []
        for start in range(partition_ms, partition_ms + level.partition_ms, step):
            made = self.rollups[below].get((start, shard))
            if made is None or start >= open_from_ms:
                continue
            files = [made.records, made.sketches]
            if made.histograms is not None:
                files.append(made.histograms)
            if any(files):
                found.append(f"{start}:" + ",".join(one.sha256 if one else "-" for one in files))
        if not found:
            return NO_INPUTS
        return f"{CODE}-{hashlib.sha256('|'.join(found).encode()).hexdigest()}"

    def built(self, level: Level, partition_ms: int, shard: int) -> str:
        """What a shard of a partition was made from."""
        made = self.rollups[level].get((partition_ms, shard))
        return NO_INPUTS if made is None else made.inputs

    def to_json(self) -> dict[str, Any]:
        """The whole state, for a snapshot."""
        return {
            "format": FORMAT_HISTOGRAMS if self._knows_histograms() else FORMAT,
            "entry": self.entry,
            "number": self.number,
            "raw": [
                [live.number, *live.part] for parts in self.raw.values() for live in parts.values()
            ],
            "histograms": [
                [live.number, *live.part]
                for parts in self.histograms.values()
                for live in parts.values()
            ],
            "versions": [[*place, version] for place, version in self.versions.items()],
            "series": [list(one) for one in self.series.values()],
            "rollups": {
                level.text: [[start, *shard_fields(one)] for (start, _), one in built.items()]
                for level, built in self.rollups.items()
            },
            "raw_floor_ms": self.raw_floor_ms,
            "floors_ms": [self.floors_ms[level] for level in Level],
            "batches": [[key, *one] for key, one in self.batches.items()],
            "counted": list(self.counted),
            "recent": [list(one) for one in self.recent],
            "code": CODE,
            "suspects": {level.text: sorted(places) for level, places in self.suspects.items()},
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> StoreState:
        """The state again.

        Raises:
            SchemaMismatchError: a newer Stateroom wrote the snapshot.
        """
        if fields["format"] not in {FORMAT, FORMAT_HISTOGRAMS}:
            raise SchemaMismatchError(
                f"a snapshot of the metric store has format {fields['format']}, not 1 or 2",
                hint="Run the version of Stateroom that wrote it, or a newer one.",
            )
        state = cls()
        state.entry, state.number = fields["entry"], fields["number"]
        for number, *part in fields["raw"]:
            state._live(state.raw, number, RawPart(*part))
        for number, *part in fields.get("histograms", ()):
            state._live(state.histograms, number, RawPart(*part))
        state.versions = {(hour, shard): one for hour, shard, one in fields["versions"]}
        state.series = OrderedDict((one[0], SeriesPart(*one)) for one in fields["series"])
        for level in Level:
            shards = ((start, shard_of(one)) for start, *one in fields["rollups"][level.text])
            state.rollups[level] = {(start, one.shard): one for start, one in shards}
        state.raw_floor_ms = fields["raw_floor_ms"]
        state.floors_ms = dict(zip(Level, fields["floors_ms"], strict=True))
        state.batches = OrderedDict((key, Batch(*one)) for key, *one in fields["batches"])
        state.counted = Counted(*fields["counted"])
        state.recent.extend(Counted(*one) for one in fields["recent"])
        for level in Level:
            places = fields["suspects"][level.text]
            state.suspects[level] = {(start, shard) for start, shard in places}
        if fields["code"] != CODE:
            state.suspect_all()
        return state

    def suspect_all(self) -> None:
        """Have every shard looked at again: the code that computes records is another."""
        self.suspects[Level.M1] |= set(self.versions)
        for level, built in self.rollups.items():
            self.suspects[level] |= set(built)

    def live_keys(self) -> set[str]:
        """Keys of all objects that count: parts, series, rollups, sketches, histograms."""
        keys = {key for parts in self.raw.values() for key in parts} | set(self.series)
        keys |= {key for parts in self.histograms.values() for key in parts}
        for built in self.rollups.values():
            for made in built.values():
                keys |= {file.key for file in made.files()}
        return keys

    def _knows_histograms(self) -> bool:
        made = (one for built in self.rollups.values() for one in built.values())
        return bool(self.histograms) or any(one.histograms for one in made)

    def _samples(self, entry: SamplesEntry) -> None:
        commit = entry.commit
        self.number = commit.number
        self.batches[commit.batch_id] = Batch(self.entry, commit.number)
        while len(self.batches) > BATCHES_REMEMBERED:
            self.batches.popitem(last=False)
        for part in commit.parts:
            self._live(self.raw, commit.number, part)
        for part in entry.histograms:
            self._live(self.histograms, commit.number, part)
        for part in (*commit.parts, *entry.histograms):
            self.versions[part.hour_ms, part.shard] = commit.number
            self.suspects[Level.M1].add((part.hour_ms, part.shard))
        if entry.series is not None:
            self.series[entry.series.key] = entry.series
        self.counted = add_counted(self.counted, entry.counted)
        self.recent.append(entry.counted)

    def _compaction(self, entry: CompactionEntry) -> None:
        raw = self.histograms if entry.histograms else self.raw
        live = raw[entry.part.hour_ms, entry.part.shard]
        number = max(live.pop(key).number for key in entry.sources)
        self._live(raw, number, entry.part)
        conflicts = self.counted.conflicts + entry.conflicts
        self.counted = self.counted._replace(conflicts=conflicts)

    def _retention(self, entry: RetentionEntry) -> None:
        self.raw_floor_ms = entry.raw_floor_ms
        self.floors_ms = dict(entry.floors_ms)
        floor = self.raw_floor_ms
        self.raw = {place: one for place, one in self.raw.items() if place[0] >= floor}
        self.histograms = {
            place: one for place, one in self.histograms.items() if place[0] >= floor
        }
        for level, floor in self.floors_ms.items():
            built = self.rollups[level]
            self.rollups[level] = {place: one for place, one in built.items() if place[0] >= floor}
            self.suspects[level] = {one for one in self.suspects[level] if one[0] >= floor}
        # A version below the floor of 1m is never asked for again.
        lowest = self.floors_ms[Level.M1]
        self.versions = {place: one for place, one in self.versions.items() if place[0] >= lowest}

    @staticmethod
    def _live(raw: dict[Place, dict[str, LivePart]], number: int, part: RawPart) -> None:
        raw.setdefault((part.hour_ms, part.shard), {})[part.key] = LivePart(number, part)

    def _suspect(self, level: Level, partition_ms: int, shard: int) -> None:
        """Have a shard looked at again, and what is made from it."""
        self.suspects[level].add((partition_ms, shard))
        above = next((one for one, below in LOWER.items() if below == level), None)
        if above is not None:
            start = partition_ms // above.partition_ms * above.partition_ms
            self.suspects[above].add((start, shard))


def add_counted(one: Counted, other: Counted) -> Counted:
    """Both together."""
    return Counted(*(a + b for a, b in zip(one, other, strict=True)))


LOWER = {Level.M5: Level.M1, Level.H1: Level.M5, Level.D1: Level.H1}
"""Level -> the one that it is made from; 1m is made from samples."""


def hour_key(start_ms: int) -> str:
    """A span's start as folders: `2026-03-01/12`; days are their first hour."""
    day, rest = divmod(start_ms, DAY_MS)
    return f"{day_text(day * DAY_MS)}/{rest // HOUR_MS:02d}"


def day_text(start_ms: int) -> str:
    """The UTC day of a time: `2026-03-01`."""
    return datetime.fromtimestamp(start_ms // 1000, UTC).strftime("%Y-%m-%d")
