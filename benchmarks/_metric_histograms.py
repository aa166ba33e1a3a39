"""Part (f) of `metrics.py`: native histograms beside the same observations as classic series."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
from _metric_data import START_MS, STEP_MS, Sizes, cpu_of, median_of

from fleet.metrics.histogram_columns import KEY_OFFSET, Histograms, HistogramSamples
from fleet.metrics.histogram_records import roll_up_histograms
from fleet.metrics.levels import Level
from fleet.metrics.rolling_up import roll_up
from resources.metrics.histogram_parts import (
    encode_histogram_records,
    encode_histograms,
    read_histograms,
)
from resources.metrics.raw_parts import Samples, encode_samples, open_samples, read_merged
from resources.metrics.record_parts import RecordWriter


def measure_histograms(sizes: Sizes) -> None:
    """Print (f): an hour of counters, a sample each 15 s."""
    count, steps, buckets = max(50, sizes.samples // 20_000), 240, 20
    rng = np.random.default_rng(4)
    grown = np.cumsum(rng.poisson(2, (count, steps, buckets)), axis=1).reshape(-1, buckets)
    seen, rows = grown.sum(axis=1).astype(np.float64), count * steps
    ids = np.repeat(np.arange(count) << 20, steps)
    ts_ms = np.tile(START_MS + STEP_MS * np.arange(1, steps + 1), count)
    found = HistogramSamples(
        ids, ts_ms,
        Histograms(
            np.full(rows, 3), np.full(rows, 2.0**-128), np.zeros(rows), seen, seen * 1.5,
            buckets * np.arange(rows + 1), np.tile(KEY_OFFSET + np.arange(buckets), rows),
            np.maximum(grown, 1).astype(np.float64).ravel(),
        ),
    )  # fmt: skip
    columns = np.column_stack([np.cumsum(grown, axis=1), seen, seen * 1.5])
    series = columns.shape[1]
    flat = columns.reshape(count, steps, series).transpose(0, 2, 1).ravel().astype(np.float64)
    classic = Samples(
        np.repeat(np.arange(count * series) << 10, steps),
        np.tile(ts_ms[:steps], count * series),
        flat,
    )

    def native() -> int:
        read = read_histograms(pq.ParquetFile(io.BytesIO(encode_histograms(found))))
        return len(encode_histogram_records(roll_up_histograms(read, Level.M5)))

    def as_series() -> int:
        data = encode_samples(classic)
        writer = RecordWriter(Level.M5)
        for piece in read_merged([open_samples(pq.ParquetFile(io.BytesIO(data)))]):
            writer.write(roll_up(*piece.samples, Level.M5))
        return len(writer.finish())

    ours, theirs = median_of(min(3, sizes.rounds), native, as_series)
    cpu, cpu_series = cpu_of(native), cpu_of(as_series)
    size, size_series = len(encode_histograms(found)), len(encode_samples(classic))
    print(
        f"(f) {rows} native histograms of {buckets} buckets, written, read and rolled up to 5m: "
        f"{rows / ours / 1e3:.0f} k/s ({rows / cpu / 1e3:.0f} k per second of one core), "
        f"{size / rows:.0f} B each; as {series} classic series {theirs / ours:.1f} x the time "
        f"({cpu_series / cpu:.1f} x the CPU), {size_series / size:.1f} x the bytes; records of 5m "
        f"{native() / (count * 12):.0f} B against {as_series() / (count * 12):.0f} B"
    )
