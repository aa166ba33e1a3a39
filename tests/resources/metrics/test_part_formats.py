"""Files of the metric store: what goes in comes out, equal rows are equal bytes, small enough."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import roll_up
from fleet.metrics.sketches import sketch
from resources.metrics import raw_parts, record_parts
from resources.metrics.histogram_parts import HistogramSample, encode_histograms, read_histograms
from resources.metrics.raw_parts import (
    Samples,
    SampleWriter,
    encode_samples,
    open_samples,
    read_merged,
)
from resources.metrics.record_parts import NAMES, RecordWriter, open_records, take_records
from resources.metrics.series_ranges import cuts
from resources.metrics.sketch_parts import encode_sketches, read_sketches
from tests.examples import examples
from tests.fleet.metrics.test_native_histograms import observe

ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 10_000_000), st.floats(width=64)),
    max_size=60,
    unique_by=lambda row: row[:2],
).map(sorted)


def as_samples(rows: list[tuple[int, int, float]]) -> Samples:
    """Rows as columns."""
    ids, ts_ms, values = zip(*rows, strict=True) if rows else ((), (), ())
    return Samples(np.array(ids, np.int64), np.array(ts_ms, np.int64), np.array(values, np.float64))


def opened(data: bytes) -> pq.ParquetFile:
    """A file in memory."""
    return pq.ParquetFile(io.BytesIO(data))


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of a few rows, so that ranges and cuts are met."""
    monkeypatch.setattr(raw_parts, "ROW_GROUP_ROWS", 5)
    monkeypatch.setattr(record_parts, "ROW_GROUP_ROWS", 5)


def test_samples_come_back_by_ranges_of_any_size(small_groups: None) -> None:
    """Bit for bit, several parts as one, the later part deciding; no series is divided."""

    @settings(max_examples=examples(40))
    @given(st.lists(ROWS, min_size=1, max_size=3), st.integers(1, 30))
    def check(parts: list[list[tuple[int, int, float]]], chunk_rows: int) -> None:
        readers = [open_samples(opened(encode_samples(as_samples(part)))) for part in parts if part]
        pieces = [one.samples for one in read_merged(readers, chunk_rows)]
        found = [row for one in pieces for row in zip(*map(np.ndarray.tolist, one), strict=True)]
        wanted = {row[:2]: row[2] for part in parts for row in part}
        assert [row[:2] for row in found] == sorted(wanted)
        assert [repr(row[2]) for row in found] == [repr(wanted[row[:2]]) for row in found]
        ids = [set(one.ids.tolist()) for one in pieces]
        assert sum(map(len, ids)) == len(set().union(*ids))

    check()


def test_the_bytes_of_a_part_do_not_depend_on_the_pieces(small_groups: None) -> None:
    """So that equal inputs give equal files, however they were read."""

    @settings(max_examples=examples(30))
    @given(ROWS, st.lists(st.integers(0, 60), max_size=5))
    def check(rows: list[tuple[int, int, float]], places: list[int]) -> None:
        samples = as_samples(rows)
        whole, pieces = SampleWriter(), SampleWriter()
        whole.write(samples)
        records = roll_up(*samples, Level.M1)
        one, other = RecordWriter(Level.M1), RecordWriter(Level.M1)
        one.write(records)
        bounds = sorted({0, len(rows), *(min(at, len(rows)) for at in places)})
        for start, end in pairwise(bounds):
            pieces.write(Samples(*(column[start:end] for column in samples)))
        bounds = sorted({0, len(records), *(min(at, len(records)) for at in places)})
        for start, end in pairwise(bounds):
            other.write(take_records(records, slice(start, end)))
        assert whole.finish() == pieces.finish()
        assert one.finish() == other.finish()

    check()


def test_records_come_back_bit_for_bit(small_groups: None) -> None:
    """Whole, by ranges, and of some series."""

    @settings(max_examples=examples(30))
    @given(ROWS)
    def check(rows: list[tuple[int, int, float]]) -> None:
        records = roll_up(*as_samples(rows), Level.M5)
        if not len(records):
            return
        writer = RecordWriter(Level.M5)
        writer.write(records)
        reader = open_records(opened(writer.finish()), Level.M5)
        some = np.unique(records.series_ids)[::2]
        found = RollupColumns(*reader.read_ids(some))
        wanted = take_records(records, np.isin(records.series_ids, some))
        for name in NAMES:
            one, other = getattr(found, name), getattr(wanted, name)
            assert one.tobytes() == other.tobytes(), name
        above, pieces = -1, []
        for upto in cuts([reader], 3):
            pieces.append(reader.read(above, upto)[0])
            above = upto
        assert np.concatenate(pieces).tolist() == records.series_ids.tolist()

    check()


def test_a_sample_takes_two_bytes() -> None:
    """Counters and gauges of two decimals, steady but for jitter: the format's promise."""
    rng = np.random.default_rng(5)
    series, count = 100, 2000
    values = np.round(50 + np.cumsum(rng.normal(0, 0.5, (series, count)), axis=1), 2)
    values[:50] = np.cumsum(rng.integers(0, 2000, (50, count)), axis=1)
    ts_ms = 15_000 * np.arange(1, count + 1) + rng.integers(0, 3, (series, count))
    samples = Samples(np.repeat(np.arange(series), count), ts_ms.ravel(), values.ravel())
    assert len(encode_samples(samples)) <= 2.3 * series * count


def test_sketches_come_back() -> None:
    """Bins, counts, and where each begins; also none."""
    for count in (0, 500):
        rng = np.random.default_rng(count)
        one = sketch(
            np.sort(rng.integers(0, 5, count)), rng.integers(1, 900_000, count),
            rng.normal(0, 100, count), Level.M5,
        )  # fmt: skip
        back = read_sketches(opened(encode_sketches(one)))
        for name in ("series_ids", "ends_ms", "offsets", "bins", "counts"):
            assert getattr(back, name).tolist() == getattr(one, name).tolist()


def test_native_histograms_come_back() -> None:
    """By series and time, whatever order they came in."""
    samples = [
        HistogramSample(series, ts_ms, observe([0.5 * series, 3.0, -2.0, 0.0] * ts_ms, series))
        for series in (3, 1)
        for ts_ms in (2, 1)
    ]
    data = encode_histograms(samples)
    assert read_histograms(opened(data)) == sorted(samples, key=lambda one: one[:2])
    assert encode_histograms(samples[::-1]) == data
    with pytest.raises(InvalidInputError, match="one for each"):
        encode_histograms([samples[0], samples[0]])
