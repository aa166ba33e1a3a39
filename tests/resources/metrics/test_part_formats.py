"""Files of the metric store: what goes in comes out, equal rows are equal bytes, small enough."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.metrics.histogram_columns import (
    HistogramSamples,
    concat_histograms,
    no_histogram_samples,
    scaled,
)
from fleet.metrics.histogram_records import roll_up_histograms
from fleet.metrics.labels import REST_BITS
from fleet.metrics.levels import Level
from fleet.metrics.record import RollupColumns
from fleet.metrics.rolling_up import roll_up
from fleet.metrics.samples import stale_marker
from fleet.metrics.sketches import sketch
from resources.metrics import raw_parts, record_parts
from resources.metrics.histogram_parts import (
    encode_histogram_records,
    encode_histograms,
    read_histogram_records,
    read_histograms,
)
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
from tests.fleet.metrics.plain_histograms import NativeHistogram, in_columns, one_by_one
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


def test_records_of_older_parts_are_read() -> None:
    """They hold the mean itself, not its distance from sum / n."""
    rows = as_samples([(1, 1, 0.1), (1, 2, 0.2), (1, 3, 1e308), (1, 4, 1e308), (2, 1, 7.5)])
    for level in (Level.M1, Level.D1):
        records = roll_up(*rows, level)
        writer = RecordWriter(level)
        writer.write(records)
        table = pq.read_table(io.BytesIO(writer.finish()))
        assert table.column("mean_off").to_pylist()[1] == 0
        older = table.drop_columns("mean_off").append_column("mean", [records.mean])
        for one in (table, older):
            sink = io.BytesIO()
            pq.write_table(one, sink)
            found = open_records(opened(sink.getvalue()), level).read_ids(np.array([1, 2]))
            assert RollupColumns(*found).mean.tobytes() == records.mean.tobytes()


def test_resets_of_older_parts_are_taken_for_decimals_where_they_may_be() -> None:
    """They do not say whether several resets were whole; of one, its value says it."""
    values = [
        (3.0, 1.0, 4.0, 2.0),
        (2.5, 0.5, 1.5, 0.5),
        (7.0, 1.0, 2.0, 3.0),
        (7.5, 1.0, 2.0, 3.0),
    ]
    rows = as_samples([(n, ts, v) for n, some in enumerate(values) for ts, v in enumerate(some, 1)])
    for level in (Level.M1, Level.D1):
        records = roll_up(*rows, level)
        assert records.resets_whole.tolist() == [True, False, True, False]
        writer = RecordWriter(level)
        writer.write(records)
        table = pq.read_table(io.BytesIO(writer.finish()))
        if level is Level.M1:
            table = table.drop_columns("resets_whole")
        else:
            at = table.schema.get_field_index("sums_as_bits")
            older = pa.array(table.column(at).to_numpy() & 3, pa.int8())
            table = table.set_column(at, "sums_as_bits", older)
        sink = io.BytesIO()
        pq.write_table(table, sink)
        found = open_records(opened(sink.getvalue()), level).read_ids(np.arange(4))
        assert RollupColumns(*found).resets_whole.tolist() == [False, False, True, False]


def test_days_of_older_parts_are_read() -> None:
    """They have the columns of the other levels."""
    rows = as_samples([(1, 1, 0.1), (1, 2, 2.5), (2, 3, 7.0), (2, 4, 1.0), (3, 5, -0.0)])
    records = roll_up(*rows, Level.D1)
    sink = io.BytesIO()
    pq.write_table(record_parts._to_table(records, Level.D1, is_day=False), sink)
    found = RollupColumns(*open_records(opened(sink.getvalue()), Level.D1).read_ids(np.arange(4)))
    for name in NAMES:
        assert getattr(found, name).tobytes() == getattr(records, name).tobytes(), name


def day_of(records: RollupColumns) -> bytes:
    """A part of 1d."""
    writer = RecordWriter(Level.D1)
    writer.write(records)
    return writer.finish()


def test_records_of_days_keep_what_answers_need() -> None:
    """Times, counts, values and few resets to the bit, sums exactly, spreads nearly.

    What was read and is written again gives the same bytes.
    """
    odd = st.sampled_from([0.1, 2.5, 1e16, -1e16, -0.0, math.inf, math.nan, stale_marker(), 1e308])
    values = st.one_of(
        odd, st.integers(-500, 500).map(lambda each: each / 100), st.floats(width=64)
    )

    @settings(max_examples=examples(40))
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10_000_000), values), max_size=60,
                    unique_by=lambda row: row[:2]).map(sorted))  # fmt: skip
    def check(rows: list[tuple[int, int, float]]) -> None:
        wanted = roll_up(*as_samples(rows), Level.D1)
        if not len(wanted):
            return
        data = day_of(wanted)
        found = RollupColumns(*open_records(opened(data), Level.D1).read_ids(np.arange(6)))
        for name in set(NAMES) - {"m2", "total", "total_low"}:
            assert getattr(found, name).tobytes() == getattr(wanted, name).tobytes(), name
        assert np.allclose(found.m2, wanted.m2, rtol=2.0**-37, atol=0, equal_nan=True)
        for at in range(len(wanted)):
            ours, theirs = (
                [float(one.total[at]), float(one.total_low[at])] for one in (found, wanted)
            )
            if all(map(math.isfinite, (*ours, *theirs, sum(theirs)))):
                assert sum(map(Fraction, ours)) == sum(map(Fraction, theirs))
            else:
                assert np.array_equal(ours, theirs, equal_nan=True)
        assert day_of(found) == data

    check()


def test_resets_of_counters_survive_a_day_exactly() -> None:
    """Whole ones however many, those of decimals up to a hundred, beyond within 127 doubles.

    The promise that rate and increase are equal bit by bit rests on it.
    """
    rng = np.random.default_rng(6)
    whole = rng.integers(0, 2**40, (6, 400)).astype(np.float64)
    grown = np.round(np.cumsum(rng.uniform(0, 5, (60, 400)), axis=1), 2)
    for row, begins in zip(grown, rng.integers(1, 400, (60, 30)), strict=True):
        for begin in begins:
            row[begin:] = np.round(row[begin:] - row[begin], 2)
    gauges = np.round(rng.uniform(0, 100, (6, 400)), 2)
    values = np.concatenate([whole, grown, gauges])
    ids, ts_ms = np.arange(len(values)), np.tile(np.arange(1, 401), len(values))
    records = roll_up(np.repeat(ids, 400), ts_ms, values.ravel(), Level.D1)
    back = open_records(opened(day_of(records)), Level.D1).read_ids(ids)
    off = np.abs(RollupColumns(*back).reset_sum.view(np.int64) - records.reset_sum.view(np.int64))
    assert records.resets[:6].min() > 100 < records.resets[66:].min()
    assert records.resets[6:66].max() > 20
    assert off[:66].tolist() == [0] * 66
    assert off.max() <= 127


def test_a_record_of_a_day_takes_twenty_five_bytes() -> None:
    """Half counters, half gauges of two decimals: what is random in them, and little more."""
    rng = np.random.default_rng(2)
    series, count = 4000, 96
    values = np.round(50 + np.cumsum(rng.normal(0, 0.5, (series, count)), axis=1), 2)
    values[::2] = np.cumsum(rng.integers(0, 200, (series // 2, count)), axis=1)
    ids = np.sort(rng.integers(0, 2**REST_BITS, series))
    ts_ms = np.tile(900_000 * np.arange(1, count + 1), series)
    records = roll_up(np.repeat(ids, count), ts_ms, values.ravel(), Level.D1)
    assert len(day_of(records)) <= 25 * series


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


def test_native_histograms_come_back_bit_for_bit() -> None:
    """Samples and records; whole counts, fractions, stale markers, and none at all."""
    several = [observe([0.5 * at, 3.0, -2.0, 0.0] * at, at % 4) for at in range(6)]
    halved = scaled(in_columns(several), np.full(6, 0.5))
    ended = in_columns([NativeHistogram(0, 0.0, 0, 0, stale_marker(), {}, {})])
    found = concat_histograms([in_columns(several), halved, ended])
    ids, times = np.repeat([1, 2], [6, 7]), np.arange(13) * 7
    for samples in (HistogramSamples(ids, times, found), no_histogram_samples()):
        data = encode_histograms(samples)
        back = read_histograms(opened(data))
        assert encode_histograms(back) == data
        for one, other in zip(back.histograms.columns(), samples.histograms.columns(), strict=True):
            assert one.tobytes() == other.tobytes()
        assert back.ts_ms.tolist() == samples.ts_ms.tolist()
        records = roll_up_histograms(samples, 30)
        data = encode_histogram_records(records)
        again = read_histogram_records(opened(data))
        assert encode_histogram_records(again) == data
        for name in ("series_ids", "ends_ms", "n", "first_ms", "last_ms", "resets"):
            assert getattr(again, name).tolist() == getattr(records, name).tolist()
        for name in ("first", "last", "reset_sum"):
            assert one_by_one(getattr(again, name)) == one_by_one(getattr(records, name))


def test_a_native_histogram_takes_two_bytes_a_bucket() -> None:
    """Counters of 20 buckets that grow slowly: the buckets' numbers cost nearly nothing."""
    rng, now, several = np.random.default_rng(3), np.zeros(20, np.int64), []
    for _ in range(2000):
        now = now + rng.poisson(2, 20)
        buckets = dict(enumerate(now.tolist(), start=5))
        several.append(NativeHistogram(3, 0.001, 0, int(now.sum()), 1.0, buckets, {}))
    samples = HistogramSamples(
        np.zeros(2000, np.int64), 15_000 * np.arange(2000), in_columns(several)
    )
    assert len(encode_histograms(samples)) <= 2.0 * 20 * 2000
