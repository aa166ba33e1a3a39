"""Samples and rollups in plain Python lists: the twin that is too simple to be wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.metrics.histogram_columns import HistogramSamples, concat_samples, take_samples
from fleet.metrics.histogram_records import HistogramRecords
from fleet.metrics.labels import Labels, Matcher, labels_of, series_id
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import STALE_BITS, SampleBatch, SeriesInfo
from fleet.metrics.sketches import SketchColumns, bins_of
from fleet.ports.metric_store import SelectedSeries
from tests.fleet.metrics.plain_histograms import (
    HistogramRecord,
    NativeHistogram,
    in_columns,
    records_in_columns,
    roll_up_histograms,
)

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

Point = tuple[int, float]


@dataclass
class Record:
    """One record of one bucket, as `RollupColumns` names its parts."""

    series_ids: int
    ends_ms: int
    n: int = 0
    expected: float = math.nan
    total: float = 0.0
    total_low: float = 0.0
    minimum: float = math.nan
    maximum: float = math.nan
    first_ms: int = 0
    first: float = 0.0
    last_ms: int = 0
    last: float = 0.0
    reset_sum: float = 0.0
    resets_whole: bool = True
    resets: int = 0
    changes: int = 0
    mean: float = 0.0
    m2: float = 0.0


def bits_of(value: float) -> int:
    """The 64 bits of a double."""
    return int(np.array([value]).view(np.uint64)[0])


def sample_record(identity: int, ts_ms: int, value: float) -> Record:
    """The record of one sample."""
    return Record(
        identity, ts_ms, 1, math.nan, value, 0.0, value, value, ts_ms, value, ts_ms, value,
        mean=value,
    )  # fmt: skip


def merged_record(one: Record, other: Record, end_ms: int) -> Record:
    """The record of two neighbouring spans, from what each keeps."""
    n = one.n + other.n
    total, low = neumaier((one.total, other.total), one.total_low + other.total_low)
    fell = other.first < one.last
    moved = other.first != one.last and not (math.isnan(other.first) and math.isnan(one.last))
    delta = other.mean - one.mean
    return Record(
        one.series_ids,
        end_ms,
        n,
        math.nan,
        total,
        low,
        lower(one.minimum, other.minimum),
        -lower(-one.maximum, -other.maximum),
        one.first_ms,
        one.first,
        other.last_ms,
        other.last,
        one.reset_sum + other.reset_sum + (one.last if fell else 0.0),
        one.resets_whole and other.resets_whole and not (fell and one.last % 1),
        one.resets + other.resets + fell,
        one.changes + other.changes + moved,
        one.mean + delta * (other.n / n),
        one.m2 + other.m2 + delta * delta * (one.n * other.n / n),
    )


def lower(one: float, other: float) -> float:
    """The lower of two values; NaN counts only where both are."""
    if math.isnan(one) or other < one:
        return other
    return one


def neumaier(values: Iterable[float], low: float = 0.0) -> tuple[float, float]:
    """Sum and what rounding lost of it."""
    total = 0.0
    for value in values:
        new = total + value
        big, small = (total, value) if abs(total) >= abs(value) else (value, total)
        low += (big - new) + small
        total = new
    return total, low


@dataclass
class InMemoryMetricReader:
    """A `MetricReader` over lists.

    Attributes:
        levels: which levels exist.
        built_to_ms: up to where they are built.
        raw_from_ms: before it retention has removed raw samples.
    """

    levels: set[Level] = field(default_factory=set)
    built_to_ms: int = 2**62
    built_from_ms: int = 0
    raw_from_ms: int = 0
    series: dict[int, SeriesInfo] = field(default_factory=dict)
    points: dict[int, list[Point]] = field(default_factory=dict)
    built: dict[Level, dict[int, list[Record]]] = field(default_factory=dict)
    histogram_points: dict[int, list[tuple[int, NativeHistogram]]] = field(default_factory=dict)
    columns: dict[int, HistogramSamples] = field(default_factory=dict)
    histograms_built: dict[tuple[Level, int], dict[int, HistogramRecord]] = field(
        default_factory=dict
    )

    def add(self, labels: Labels, points: Sequence[Point]) -> None:
        """Add a series with its samples, in order of time."""
        identity = series_id(labels)
        self.series[identity] = SeriesInfo(labels)
        self.points[identity] = sorted([*self.points.get(identity, []), *points])
        self.built.clear()

    def add_histograms(self, labels: Labels, points: Sequence[tuple[int, NativeHistogram]]) -> None:
        """Add a series of native histograms, in order of time."""
        identity = series_id(labels)
        self.series[identity] = SeriesInfo(labels)
        self.points.setdefault(identity, [])
        self.histogram_points[identity] = list(points)
        self.columns.clear()
        self.histograms_built.clear()

    def add_metric(self, metric: str, points: Sequence[Point], **labels: str) -> None:
        """Add a series by name and labels."""
        self.add(labels_of(metric, labels), points)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """Series with a sample in the range whose labels match."""
        found = [
            identity
            for identity, info in sorted(self.series.items())
            if all(one.matches(dict(info.labels).get(one.name, "")) for one in matchers)
            and any(
                start_ms < ts <= end_ms
                for ts, *_ in (*self.points[identity], *self.histogram_points.get(identity, ()))
            )
        ]
        return SelectedSeries(np.array(found, np.int64), [self.series[one] for one in found])

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """Samples in the range that retention has left."""
        start_ms = max(start_ms, self.raw_from_ms)
        rows = [
            (int(identity), ts, value)
            for identity in ids
            for ts, value in self.points[int(identity)]
            if start_ms < ts <= end_ms
        ]
        return SampleBatch(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float64),
            {int(identity): self.series[int(identity)] for identity in ids},
        )

    def records(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """Records in the range, each made from those of the next finer level."""
        assert level in self.levels, f"no level {level.text}"
        assert start_ms % level == 0
        assert end_ms % level == 0
        built = self._built(level)
        rows = [
            record
            for identity in ids
            for record in built[int(identity)]
            if start_ms < record.ends_ms <= end_ms
        ]
        return columns_of(rows)

    def sketches(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> SketchColumns:
        """Sketches in the range, each value put into its bin one by one."""
        assert level in self.levels - {Level.M1}, f"no sketches at {level.text}"
        found: dict[tuple[int, int], Counter[int]] = {}
        for identity in sorted(int(one) for one in ids if self.series[int(one)].sketched):
            for ts, value in self.points[identity]:
                end = -(-ts // level) * level
                if start_ms < end <= end_ms and not math.isnan(value):
                    number = int(bins_of(np.array([value]))[0])
                    found.setdefault((identity, end), Counter())[number] += 1
        rows = sorted(found)
        bins = [number for row in rows for number in sorted(found[row])]
        counts = [found[row][number] for row in rows for number in sorted(found[row])]
        return SketchColumns(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.cumsum([0, *(len(found[row]) for row in rows)]).astype(np.int64),
            np.array(bins, np.int32),
            np.array(counts, np.int64),
        )

    def histograms(self, ids: Int64Array, start_ms: int, end_ms: int) -> HistogramSamples:
        """Native histograms in the range that retention has left."""
        start_ms = max(start_ms, self.raw_from_ms)
        found = [self._histograms(int(identity)) for identity in ids]
        return concat_samples(
            [take_samples(one, (one.ts_ms > start_ms) & (one.ts_ms <= end_ms)) for one in found]
        )

    def _histograms(self, identity: int) -> HistogramSamples:
        """All histograms of a series as columns, made once."""
        if identity not in self.columns:
            points = self.histogram_points.get(identity, [])
            times = np.array([ts for ts, _ in points], np.int64)
            self.columns[identity] = HistogramSamples(
                np.full(len(points), identity), times, in_columns([one for _, one in points])
            )
        return self.columns[identity]

    def histogram_records(
        self, ids: Int64Array, level: Level, start_ms: int, end_ms: int
    ) -> HistogramRecords:
        """Records of native histograms, made from the samples one by one."""
        assert level in self.levels, f"no level {level.text}"
        rows = []
        for identity in map(int, ids):
            if (level, identity) not in self.histograms_built:
                points = self.histogram_points.get(identity, ())
                there = [(ts, one) for ts, one in points if bits_of(one.total) != STALE_BITS]
                self.histograms_built[level, identity] = roll_up_histograms(there, level)
            built = self.histograms_built[level, identity]
            rows += [(identity, end, one) for end, one in built.items() if start_ms < end <= end_ms]
        return records_in_columns(rows)

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:
        """Whether the level exists and is built there."""
        built = self.built_from_ms <= start_ms and end_ms <= self.built_to_ms
        return level in self.levels and built

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:
        """Whether raw samples of the range are left."""
        return start_ms >= self.raw_from_ms

    def _built(self, level: Level) -> dict[int, list[Record]]:
        if level not in self.built:
            finer = max((one for one in Level if one < level), default=None)
            self.built[level] = {
                identity: rolled_up(
                    [
                        sample_record(identity, ts, value)
                        for ts, value in points
                        if bits_of(value) != STALE_BITS
                    ]
                    if finer is None
                    else self._built(finer)[identity],
                    level,
                )
                for identity, points in self.points.items()
            }
        return self.built[level]


def rolled_up(records: Sequence[Record], length_ms: int) -> list[Record]:
    """Records merged into buckets of a length, one after the other."""
    found: list[Record] = []
    for record in records:
        end = -(-record.ends_ms // length_ms) * length_ms
        if found and found[-1].ends_ms == end:
            found[-1] = merged_record(found[-1], record, end)
        else:
            found.append(Record(**{**vars(record), "ends_ms": end}))
    return found


def columns_of(records: Sequence[Record]) -> RollupColumns:
    """Records as columns."""
    whole = ("series_ids", "ends_ms", "n", "first_ms", "last_ms", "resets", "changes")
    kinds = {**dict.fromkeys(whole, np.int64), "resets_whole": np.bool_}
    columns: dict[str, Any] = {
        one.name: np.array(
            [getattr(record, one.name) for record in records],
            kinds.get(one.name, np.float64),
        )
        for one in fields(Record)
    }
    return RollupColumns(**columns)
