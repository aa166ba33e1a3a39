"""Native histograms as the query API tells them: bounds and counts, from which columns are made.

The document names neither resolution nor zero threshold. The first is read from the ratio of the
bounds of any bucket, the second from the zero bucket. Where there is no such bucket the finest
resolution and a threshold of 0 stand for it: then no bucket depends on them, and comparing with
neighbours finds the same resets.

Source: Prometheus, util/jsonutil/marshal.go (`MarshalHistogram`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fleet.metrics.histogram_columns import (
    KEY_OFFSET,
    SCHEMA_MAX,
    SCHEMA_MIN,
    Histograms,
    HistogramSamples,
)

_ROUNDING = 1e-6
"""How far a resolution or index may be from a whole number: the worst that doubles do is 1e-9."""


class _Bucket(NamedTuple):
    low: float
    high: float
    held: float
    """Observations in it."""


class QueriedHistograms(NamedTuple):
    """Histograms of an answer; `series_ids` of the samples are places of rows."""

    samples: HistogramSamples
    custom: int
    """How many have bounds that are of no resolution; they are left out."""


def read_histograms(rows: Sequence[Mapping[str, Any]]) -> QueriedHistograms:
    """The histograms of the rows of a matrix, in their order.

    Args:
        rows: of the API's answer; `histograms` of one are (seconds, histogram).

    Raises:
        ValueError, TypeError, KeyError, IndexError: they are of another shape.
    """
    plain: list[tuple[int, int, int, float, float, float, float]] = []
    keys: list[int] = []
    counts: list[float] = []
    sizes: list[int] = []
    custom = 0
    for place, row in enumerate(rows):
        for seconds, document in row.get("histograms", ()):
            parts = [_Bucket(*map(float, bucket[1:4])) for bucket in document.get("buckets", ())]
            zeros = [one for one in parts if one.low <= 0 <= one.high]
            others = [one for one in parts if not one.low <= 0 <= one.high]
            schema = _schema(others)
            if schema is None or len(zeros) > 1:
                custom += 1
                continue
            zero = zeros[0] if zeros else _Bucket(0.0, 0.0, 0.0)
            ts_ms = round(float(seconds) * 1000)
            total = float(document["count"])
            plain.append((place, ts_ms, schema, zero.high, zero.held, total, _sum(document)))
            buckets = sorted((_key(one, schema), one.held) for one in others)
            keys += [key for key, _ in buckets]
            counts += [count for _, count in buckets]
            sizes.append(len(buckets))
    columns = list(zip(*plain, strict=True)) or [()] * 7
    whole = [np.array(column, np.int64) for column in columns[:3]]
    thresholds, zero_counts, observations, totals = (
        np.array(column, np.float64) for column in columns[3:]
    )
    found = Histograms(
        whole[2],
        thresholds,
        zero_counts,
        observations,
        totals,
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array(keys, np.int64),
        np.array(counts, np.float64),
    )
    return QueriedHistograms(HistogramSamples(whole[0], whole[1], found), custom)


def _sum(document: Mapping[str, Any]) -> float:
    found = float(document["sum"])
    return math.nan if math.isnan(found) else found


def _schema(buckets: Iterable[_Bucket]) -> int | None:
    """The resolution of buckets; None where bounds are of none."""
    for one in buckets:
        near, far = sorted((abs(one.low), abs(one.high)))
        if near < 1e-300 or far > 1e300:
            continue  # the ends of the range of doubles are cut off
        exact = -math.log2(math.log2(far / near))
        if abs(exact - round(exact)) > _ROUNDING or not SCHEMA_MIN <= round(exact) <= SCHEMA_MAX:
            return None
        return round(exact)
    return SCHEMA_MAX


def _key(bucket: _Bucket, schema: int) -> int:
    """The key of a bucket: by its bound that is farther from 0, or the nearer where that is cut."""
    near, far = sorted((abs(bucket.low), abs(bucket.high)))
    index = math.log2(far) * 2.0**schema if far < 1e300 else math.log2(near) * 2.0**schema + 1
    key = KEY_OFFSET + round(index)
    return -key if bucket.high <= 0 else key


def without_external(
    asked: Sequence[Mapping[str, str]], told: Sequence[Mapping[str, str]]
) -> list[int]:
    """For each row of a query the series of remote read that it is; -1 for none.

    Remote read adds the server's external labels to its series, a query does not.

    Args:
        asked: labels of series by remote read.
        told: labels of the rows of a query.
    """
    known = {name for labels in told for name in labels}
    places = {
        tuple(sorted((name, value) for name, value in labels.items() if name in known)): at
        for at, labels in enumerate(asked)
    }
    return [places.get(tuple(sorted(labels.items())), -1) for labels in told]
