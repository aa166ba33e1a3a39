"""The levels of rollups and their buckets: (start, end], named by their end, aligned to UTC.

A sample exactly at a border belongs to the bucket that ends there, as in Prometheus from 3.0 on.
All times are whole milliseconds since 1970.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Level(IntEnum):
    """Length of a level's buckets, in milliseconds; each divides the next."""

    M1 = MINUTE_MS
    M5 = 5 * MINUTE_MS
    H1 = HOUR_MS
    D1 = DAY_MS

    @property
    def text(self) -> str:
        """As people write it: `1m`, `5m`, `1h`, `1d`."""
        return _TEXTS[self]

    @property
    def asset(self) -> str:
        """Name of the asset that holds it."""
        return f"rollup_{self.text}"

    @property
    def partition_ms(self) -> int:
        """How much time one partition of the level holds: an hour, or a day from 1h on."""
        return HOUR_MS if self < Level.H1 else DAY_MS


_TEXTS = {Level.M1: "1m", Level.M5: "5m", Level.H1: "1h", Level.D1: "1d"}


def bucket_ends_ms(ts_ms: Int64Array, length_ms: int) -> Int64Array:
    """End of the bucket of each time: the next multiple of `length_ms`, itself included."""
    ends: Int64Array = -(-ts_ms // length_ms) * length_ms
    return ends


def span_starts_ms(ts_ms: Int64Array, length_ms: int) -> Int64Array:
    """Start of the (start, end] span of each time, whatever 64 bits hold as one.

    Starts of the first spans that there are cannot be written: times there count as later ones,
    still 146 million years ago.
    """
    import numpy as np

    starts: Int64Array = (np.maximum(ts_ms, -(2**62)) - 1) // length_ms * length_ms
    return starts


def span_start_ms(ts_ms: int, length_ms: int) -> int:
    """Start of the (start, end] span of `length_ms` that holds a time."""
    return (ts_ms - 1) // length_ms * length_ms
