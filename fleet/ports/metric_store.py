"""Where samples and rollups are kept, and how queries read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from fleet.metrics.labels import Matcher
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.samples import SampleBatch, SeriesInfo

if TYPE_CHECKING:
    from fleet.metrics.histogram_columns import HistogramSamples
    from fleet.metrics.histogram_records import HistogramRecords
    from fleet.metrics.samples import Int64Array
    from fleet.metrics.sketches import SketchColumns


class RawPart(NamedTuple):
    """One immutable file of samples: those of one hour and one shard that one batch held."""

    key: str
    shard: int
    hour_ms: int
    """Start of the hour (start, end] of its samples."""
    rows: int
    size_bytes: int
    sha256: str
    min_ts_ms: int
    max_ts_ms: int


class RawCommit(NamedTuple):
    """One entry of the log of raw samples: from then on its parts count."""

    number: int
    """From 1, without gaps."""
    batch_id: str
    writer: str
    committed_at: datetime
    parts: tuple[RawPart, ...]


class SelectedSeries(NamedTuple):
    """Series that a query chose, in ascending order of identity."""

    ids: Int64Array
    infos: Sequence[SeriesInfo]
    """As long as `ids`. A store may refuse to build very many (`TooLargeError`), never a slice or a
    column (`CodedLabels`): what is aggregated needs no series named."""


@runtime_checkable
class CodedLabels(Protocol):
    """What the `infos` of selected series may offer beside: labels as numbers, for grouping."""

    def label_names(self) -> Sequence[str]:
        """Every label that one of the series may have, in order."""
        ...

    def label_column(self, name: str) -> tuple[Int64Array, Sequence[str]]:
        """Values of one label: a code for each series, and the distinct texts they stand for.

        A series without the label has the code of ''.
        """
        ...


class MetricReader(Protocol):
    """What the query layer reads: raw samples exactly, or records where a level covers a range."""

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:
        """Series with a sample in (start_ms, end_ms] (or more) that satisfy all matchers.

        Raises:
            TooLargeError: over the limit on series; the message says how many, and to narrow it.
        """
        ...

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """Samples of series in (start_ms, end_ms], by (series, time), one per pair.

        Stale markers are among them. Of two values at one time the last committed counts.
        """
        ...

    def records(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """Records whose bucket lies in (start_ms, end_ms]; both must be multiples of the level."""
        ...

    def sketches(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> SketchColumns:
        """Sketches whose bucket lies in (start_ms, end_ms], from 5m on, by (series, end).

        Series whose `sketched` is not set have none; NaN is not counted in them.
        """
        ...

    def histograms(self, ids: Int64Array, start_ms: int, end_ms: int) -> HistogramSamples:
        """Native histograms of series in (start_ms, end_ms], by (series, time), one per pair.

        Stale markers are among them. Most series have none; then the answer is immediate.
        """
        ...

    def histogram_records(
        self, ids: Int64Array, level: Level, start_ms: int, end_ms: int
    ) -> HistogramRecords:
        """Records of native histograms whose bucket lies in (start_ms, end_ms].

        Both must be multiples of the level.
        """
        ...

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:
        """Whether a level is built from all raw samples of the range: none dirty, none open."""
        ...

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:
        """Whether retention has left all raw samples of the range in place."""
        ...


class MetricStore(MetricReader, Protocol):
    """Raw samples as immutable parts under a log, and rollups made from them."""

    def append(self, batch: SampleBatch, batch_id: str) -> RawCommit:
        """Keep a batch; committed by one put-if-absent of a log entry.

        The same `batch_id` again is answered with its first commit and stores nothing.

        Raises:
            InvalidInputError: the batch breaks a rule; nothing is stored.
            LakeUnavailableError: nothing is committed; call again with the same `batch_id`.
        """
        ...

    def commits(self, after: int = 0) -> Sequence[RawCommit]:
        """Entries of the log with a greater number, in order."""
        ...
