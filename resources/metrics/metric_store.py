"""The `MetricStore` port on an object store: batches in, exact samples and records out.

Commit point of `append`: the log entry that names its parts (`resources.metrics.store_log`). Killed
before it, nothing counts; killed after it, the same batch id finds the commit.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from fleet.errors import InvalidInputError, LakeUnavailableError
from fleet.metrics.histogram_columns import HistogramSamples, concat_samples
from fleet.metrics.histogram_columns import take_samples as taken
from fleet.metrics.histogram_records import HistogramRecords, ordered_records
from fleet.metrics.labels import Matcher
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import roll_up
from fleet.metrics.rollup_plan import covers, open_from_ms
from fleet.metrics.samples import SampleBatch, SeriesInfo, distinct
from fleet.metrics.sketches import SketchColumns, concat_sketches, merge_sketches
from fleet.metrics.store_log import Counted, RollupFile, SamplesEntry, SeriesPart
from fleet.metrics.store_state import EARLIEST_MS, NEVER_MS, StoreState, add_counted
from fleet.ports.metric_store import RawCommit, RawPart, SelectedSeries
from fleet.ports.object_store import ObjectStore
from resources.metrics.appending import (
    EncodedPart,
    Sketching,
    accept,
    nonce,
    split,
    validate_batch,
    validate_identity,
)
from resources.metrics.histogram_appending import (
    accept_histograms,
    merge_histogram_parts,
    split_histograms,
    validate_histogram_samples,
)
from resources.metrics.histogram_parts import (
    read_histogram_records,
    read_histograms,
    records_within,
)
from resources.metrics.lazy_series import LazySeries
from resources.metrics.part_files import PartFiles
from resources.metrics.record_parts import empty_records, open_records
from resources.metrics.sample_reading import read_samples, shards_of
from resources.metrics.series_catalogue import SELECTED_MAX, SeriesCatalogue
from resources.metrics.series_parts import encode_series, read_rows
from resources.metrics.series_ranges import interleaved
from resources.metrics.sketch_parts import read_sketches, take_sketches
from resources.metrics.store_log import StoreLog, translated

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

SEEN_MAX = 200_000
"""Series whose last row a writer remembers, so as not to look it up at every batch."""
_RESTARTS_MAX = 100


class ObjectMetricStore:
    """Raw samples, series and rollups in one object store; safe to use from several threads.

    Args:
        store: where everything lies.
        files: opens its objects.
        shards: how a new store is divided.
        now: the store's clock, aware.
        writer: names this process in its commits.
        settle_s: how long after its end an hour stays open.
        first_ms: hours that begin before it are refused.
        selected_max: series that one query may choose.
        sketched: names of metrics whose series have sketches, whatever a batch says of them.
    """

    def __init__(
        self,
        store: ObjectStore,
        files: PartFiles,
        *,
        shards: int,
        now: Callable[[], datetime],
        writer: str = "",
        settle_s: int = 120,
        first_ms: int = NEVER_MS,
        selected_max: int = SELECTED_MAX,
        sketched: Iterable[str] = (),
    ) -> None:
        """Nothing is read or written yet."""
        self.objects = store
        self.files = files
        self.log = StoreLog(store, shards)
        self.shards, self.settle_s = shards, settle_s
        self.now = now
        self._first_ms, self._writer = first_ms, writer
        self._selected_max = selected_max
        self._sketching = Sketching(sketched)
        self._catalogue = SeriesCatalogue()
        self._loaded: dict[str, None] = {}
        self._seen: dict[int, SeriesInfo] = {}
        self._lock = threading.RLock()

    def now_ms(self) -> int:
        """The store's clock, milliseconds since 1970."""
        return int(self.now().timestamp() * 1000)

    def open_from_ms(self) -> int:
        """Start of the first hour that is still open."""
        return open_from_ms(self.now_ms(), self.settle_s)

    def append(self, batch: SampleBatch, batch_id: str) -> RawCommit:
        """See `fleet.ports.MetricStore.append`; committed by one entry of the log."""
        if not batch_id:
            raise InvalidInputError("batch_id", batch_id, "a text that names the batch for good")
        ids = validate_batch(batch)
        if batch.histograms is not None:
            ids = distinct(np.append(ids, validate_histogram_samples(batch.histograms)))
        for _ in range(_RESTARTS_MAX):
            committed = self._try_append(batch, ids, batch_id)
            if committed is not None:
                return committed
        raise LakeUnavailableError(
            f"metric store: the floor rose {_RESTARTS_MAX} times under batch {batch_id}",
            hint="Let only one retention run at a time.",
        )

    def commits(self, after: int = 0) -> Sequence[RawCommit]:
        """See `fleet.ports.MetricStore.commits`; the last 100,000 are kept."""
        with self.log.reading() as state:
            last, first = state.entry, None
            for one in reversed(state.batches.values()):
                if one.number <= after:
                    break
                first = one
        if first is None:
            return []
        entries = self.log.entries(first.entry - 1, last)
        found = (each.entry.commit for each in entries if isinstance(each.entry, SamplesEntry))
        return [commit for commit in found if commit.number > after]

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SelectedSeries:  # noqa: ARG002  every series has samples somewhere; "or more" is allowed
        """See `fleet.ports.MetricReader.select`; the range does not narrow the answer."""
        return self.catalogue().select(matchers, self._selected_max)

    def samples(self, ids: Int64Array, start_ms: int, end_ms: int) -> SampleBatch:
        """See `fleet.ports.MetricReader.samples`."""
        ids = distinct(ids)
        wanted = set(shards_of(ids, self.shards))
        with self.log.reading() as state:
            places = sorted(
                place
                for place in state.raw
                if place[1] in wanted and place[0] < end_ms and place[0] + HOUR_MS > start_ms
            )
            parts = [live.part for place in places for live in state.parts(*place)]
        found = read_samples(parts, self.files.open, ids, self.shards, start_ms, end_ms)
        series = LazySeries(found.ids, self.catalogue().infos)
        return SampleBatch(found.ids, found.ts_ms, found.values, series)

    def records(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> RollupColumns:
        """See `fleet.ports.MetricReader.records`."""
        if start_ms % level or end_ms % level:
            raise InvalidInputError(
                "range", (start_ms, end_ms), f"multiples of {level.text} ({int(level)} ms)"
            )
        ids = distinct(ids)
        pieces = []
        for file in self._files(ids, level, start_ms, end_ms, "records"):
            columns = open_records(self.files.open(file), level).read_ids(ids)
            inside = (columns[1] > start_ms) & (columns[1] <= end_ms)
            if not inside.all():
                columns = tuple(column[inside] for column in columns)
            if len(columns[0]):
                pieces.append(columns)
        return RollupColumns(*interleaved(pieces)) if pieces else empty_records()

    def sketches(self, ids: Int64Array, level: Level, start_ms: int, end_ms: int) -> SketchColumns:
        """Sketches whose bucket lies in (start_ms, end_ms], by (series, end); from 5m on."""
        if level < Level.M5:
            raise InvalidInputError("level", level.text, "5m or coarser: 1m has no sketches")
        ids = distinct(ids)
        found = [
            take_sketches(read_sketches(self.files.open(file)), ids, start_ms, end_ms)
            for file in self._files(ids, level, start_ms, end_ms, "sketches")
        ]
        return merge_sketches(concat_sketches(found), level)

    def histograms(self, ids: Int64Array, start_ms: int, end_ms: int) -> HistogramSamples:
        """See `fleet.ports.MetricReader.histograms`."""
        wanted = set(shards_of(ids, self.shards))
        with self.log.reading() as state:
            places = sorted(
                place
                for place in state.histograms
                if place[1] in wanted and place[0] < end_ms and place[0] + HOUR_MS > start_ms
            )
            parts = [[one.part for one in state.parts(*each, histograms=True)] for each in places]
        found = [self._histograms_of(one, ids, start_ms, end_ms) for one in parts if one]
        joined = concat_samples(found)
        return taken(joined, np.lexsort((joined.ts_ms, joined.series_ids)))

    def histogram_records(
        self, ids: Int64Array, level: Level, start_ms: int, end_ms: int
    ) -> HistogramRecords:
        """See `fleet.ports.MetricReader.histogram_records`."""
        ids = distinct(ids)
        files = self._files(ids, level, start_ms, end_ms, "histograms")
        found = [read_histogram_records(self.files.open(file)) for file in files]
        return ordered_records([records_within(one, ids, start_ms, end_ms) for one in found])

    def open_records(self, ids: Int64Array, level: Level) -> RollupColumns:
        """Records of the buckets that are not built because they are open, made from samples.

        Returns:
            Records of buckets that end after the first open hour began; the last is unfinished.
        """
        start = self.open_from_ms() // level * level
        batch = self.samples(ids, start, self.now_ms() + HOUR_MS)
        intervals = self.catalogue().intervals(distinct(batch.series_ids))
        return roll_up(batch.series_ids, batch.ts_ms, batch.values, level, intervals)

    def covers(self, level: Level, start_ms: int, end_ms: int) -> bool:
        """See `fleet.ports.MetricReader.covers`."""
        with self.log.reading() as state:
            return covers(state, level, start_ms, end_ms, self.open_from_ms())

    def keeps_raw(self, start_ms: int, end_ms: int) -> bool:  # noqa: ARG002  floors only rise from below
        """See `fleet.ports.MetricReader.keeps_raw`."""
        with self.log.reading() as state:
            return start_ms >= state.raw_floor_ms

    def catalogue(self) -> SeriesCatalogue:
        """All series that are committed now."""
        with self._lock, self.log.reading() as state:
            self._sync(state)
            return self._catalogue

    def _try_append(self, batch: SampleBatch, ids: Int64Array, batch_id: str) -> RawCommit | None:
        """One attempt; None when the floor rose meanwhile and the batch has to be split anew."""
        with self._lock:
            with self.log.reading() as state:
                known = state.batches.get(batch_id)
                floor_ms = state.raw_floor_ms
                self._sync(state)
            if known is not None:
                return self.log.samples_entry(known.entry).commit
            fresh = self._fresh(self._sketching.told(batch.series), ids)
        lowest = max(floor_ms, self._first_ms, EARLIEST_MS)
        accepted = accept(batch, self.shards, self.now_ms(), lowest, self.open_from_ms())
        counted, parts = accepted.counted, self._store_parts(split(accepted))
        histograms: tuple[RawPart, ...] = ()
        if batch.histograms is not None:
            found = accept_histograms(batch.histograms, self.now_ms(), lowest, self.open_from_ms())
            counted = add_counted(counted, found.counted)
            histograms = self._store_parts(split_histograms(found.samples, self.shards))
        series = self._store_series(fresh)
        return self._commit(batch_id, parts, histograms, series, fresh, counted, floor_ms)

    def _commit(
        self,
        batch_id: str,
        parts: tuple[RawPart, ...],
        histograms: tuple[RawPart, ...],
        series: SeriesPart | None,
        fresh: Mapping[int, SeriesInfo],
        counted: Counted,
        floor_ms: int,
    ) -> RawCommit | None:
        first: list[int] = []

        def build(state: StoreState) -> SamplesEntry | None:
            known = state.batches.get(batch_id)
            if known is not None:
                first.append(known.entry)
                return None
            if state.raw_floor_ms != floor_ms:
                return None
            self._sync(state)
            self._catalogue.new_of(fresh)  # raises when another writer took an identity
            commit = RawCommit(state.number + 1, batch_id, self._writer, self.now(), parts)
            return SamplesEntry(commit, series, counted, histograms)

        with self._lock:
            done = self.log.commit(build)
            if done is None:
                return self.log.samples_entry(first[0]).commit if first else None
            self._remember(fresh)
        assert isinstance(done.entry, SamplesEntry)
        return done.entry.commit

    def _fresh(self, series: Mapping[int, SeriesInfo], ids: Int64Array) -> dict[int, SeriesInfo]:
        """Series of a batch of which the catalogue does not have this row."""
        new = {one: info for one, info in series.items() if self._seen.get(one) != info}
        for one, info in new.items():
            validate_identity(one, info)
        fresh = self._catalogue.new_of(new)
        self._remember({one: info for one, info in new.items() if one not in fresh})
        said = np.fromiter(series, np.int64, len(series))
        missing = np.setdiff1d(ids, said, assume_unique=True)
        unknown = missing[~self._catalogue.has(missing)]
        if len(unknown):
            raise InvalidInputError(
                "series", int(unknown[0]), "an identity that `series` or the catalogue explains"
            )
        kept = set(ids.tolist()) if fresh else set()
        return {one: info for one, info in fresh.items() if one in kept}

    def _remember(self, series: Mapping[int, SeriesInfo]) -> None:
        """Know that these rows are in the catalogue."""
        if len(self._seen) + len(series) > SEEN_MAX:
            self._seen.clear()
        self._seen.update(series)

    def _store_parts(self, encoded: Iterator[EncodedPart]) -> tuple[RawPart, ...]:
        parts = []
        for part, data in encoded:
            with translated():
                self.objects.create(part.key, data)
            parts.append(part)
        return tuple(parts)

    def _store_series(self, fresh: Mapping[int, SeriesInfo]) -> SeriesPart | None:
        if not fresh:
            return None
        return store_series(self.objects, encode_series(fresh), len(fresh))

    def _sync(self, state: StoreState) -> None:
        """Load the parts of the catalogue that are not loaded yet."""
        missing = [part for key, part in state.series.items() if key not in self._loaded]
        if not missing:
            return
        catalogue = self._catalogue
        if self._loaded and next(iter(state.series)) not in self._loaded:
            catalogue, missing = SeriesCatalogue(), list(state.series.values())
        catalogue.add([read_rows(self.files.open(part)) for part in missing])
        self._catalogue = catalogue
        self._loaded = dict.fromkeys(state.series)

    def _histograms_of(
        self, parts: Sequence[RawPart], ids: Int64Array, start_ms: int, end_ms: int
    ) -> HistogramSamples:
        """Native histograms of one hour and shard."""
        found = []
        for part in parts:
            samples = read_histograms(self.files.open(part))
            inside = (samples.ts_ms > start_ms) & (samples.ts_ms <= end_ms)
            found.append(taken(samples, inside & np.isin(samples.series_ids, ids)))
        return merge_histogram_parts(found)

    def _files(
        self, ids: Int64Array, level: Level, start_ms: int, end_ms: int, what: str
    ) -> Iterator[RollupFile]:
        """Files of a level that may hold buckets in a range, oldest first."""
        wanted = set(shards_of(ids, self.shards))
        with self.log.reading() as state:
            built = state.rollups[level]
            places = sorted(
                place
                for place in built
                if place[1] in wanted
                and place[0] < end_ms
                and place[0] + level.partition_ms > start_ms
            )
            files = [getattr(built[place], what) for place in places]
        return (file for file in files if file is not None)


def store_series(objects: ObjectStore, data: bytes, rows: int) -> SeriesPart:
    """Store a part of the catalogue; not committed by it."""
    digest = hashlib.sha256(data).hexdigest()
    part = SeriesPart(f"series/{nonce()}-{digest}.parquet", rows, len(data), digest)
    with translated():
        objects.create(part.key, data)
    return part
