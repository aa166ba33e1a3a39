"""Native histograms of remote read: protobuf messages into columns.

Integer and float histograms alike. The server's hint about resets is not kept: it speaks of the
sample that the server had before, and resets are found by comparing (`are_resets`). A message is
read field by field, some 20,000 a second.

Source: Prometheus, prompb/types.proto (`Histogram`, `BucketSpan`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from fleet.metrics.histogram_columns import (
    KEY_OFFSET,
    SCHEMA_MAX,
    SCHEMA_MIN,
    Histograms,
    HistogramSamples,
)

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_COUNT_INT, _COUNT_FLOAT, _SUM, _SCHEMA, _THRESHOLD = 1, 2, 3, 4, 5
_ZERO_INT, _ZERO_FLOAT, _TIME = 6, 7, 15
_NEGATIVE, _POSITIVE = (8, 9, 10), (11, 12, 13)
"""Spans, deltas of integer counts, counts of a float histogram."""


class HistogramReader:
    """Collects the histograms of an answer, message by message."""

    def __init__(self) -> None:
        """None is read."""
        self._place: list[int] = []
        self._ts_ms: list[int] = []
        self._plain: list[tuple[int, float, float, float, float]] = []
        self._sizes: list[int] = []
        self._keys: list[int] = []
        self._counts: list[float] = []
        self.custom = 0
        """Histograms with bounds of their own; they are left out."""

    def add(self, place: int, message: bytes) -> None:
        """Read one message.

        Args:
            place: of its series.
            message: of a `Histogram`.

        Raises:
            ValueError, IndexError, struct.error: it is none.
        """
        fields: dict[int, Any] = {}
        lists: dict[int, list[bytes | int | float]] = {}
        for number, value in _fields(message):
            if number in _NEGATIVE or number in _POSITIVE:
                lists.setdefault(number, []).append(value)
            else:
                fields[number] = value
        schema = _zigzag(fields.get(_SCHEMA, 0))
        if not SCHEMA_MIN <= schema <= SCHEMA_MAX:
            self.custom += 1
            return
        buckets = [(-key, count) for key, count in _buckets(lists, _NEGATIVE)][::-1]
        buckets += _buckets(lists, _POSITIVE)
        zero = fields.get(_ZERO_FLOAT, fields.get(_ZERO_INT, 0))
        count = fields.get(_COUNT_FLOAT, fields.get(_COUNT_INT, 0))
        plain = (schema, fields.get(_THRESHOLD, 0.0), zero, count, fields.get(_SUM, 0.0))
        self._place.append(place)
        self._ts_ms.append(_signed(fields.get(_TIME, 0)))
        self._plain.append(plain)
        self._sizes.append(len(buckets))
        self._keys += [key for key, _ in buckets]
        self._counts += [count for _, count in buckets]

    def read(self) -> HistogramSamples:
        """All of them, in no order; `series_ids` are places."""
        plain = list(zip(*self._plain, strict=True)) or [()] * 5
        floats = [np.array(column, np.float64) for column in plain[1:]]
        return HistogramSamples(
            np.array(self._place, np.int64),
            np.array(self._ts_ms, np.int64),
            Histograms(
                np.array(plain[0], np.int64),
                floats[0],
                floats[1],
                floats[2],
                floats[3],
                np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64),
                np.array(self._keys, np.int64),
                np.array(self._counts, np.float64),
            ),
        )


def _buckets(lists: dict[int, list[Any]], numbers: tuple[int, int, int]) -> list[tuple[int, float]]:
    """Key and count of the populated buckets of one side, by index."""
    spans, deltas, counts = (lists.get(number, []) for number in numbers)
    values: list[float] = list(_doubles(counts))
    if deltas:
        values = [float(one) for one in accumulate(_zigzag(one) for one in _varints(deltas))]
    found, index, read = [], 0, iter(values)
    for span in spans:
        parts = dict(_fields(span))
        index += _zigzag(parts.get(1, 0))
        for _step in range(parts.get(2, 0)):
            count = next(read, None)
            if count is None:
                raise ValueError("fewer counts than the spans have buckets")
            if count:
                found.append((index + KEY_OFFSET, count))
            index += 1
    if next(read, None) is not None:
        raise ValueError("more counts than the spans have buckets")
    return found


def _varints(values: Iterable[Any]) -> Iterator[int]:
    """Numbers that came packed, or one by one."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        position = 0
        while position < len(value):
            number, position = read_varint(value, position)
            yield number


def _doubles(values: Iterable[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, float):
            yield value
        else:
            yield from struct.unpack(f"<{len(value) // 8}d", value)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int, a float, or bytes."""
    position, end = 0, len(message)
    while position < end:
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value: Any
            value, position = read_varint(message, position)
        elif kind == _FIXED64:
            (value,) = struct.unpack_from("<d", message, position)
            position += 8
        elif kind == _BYTES:
            size, begins = read_varint(message, position)
            position = begins + size
            if position > end:
                raise ValueError("a field reaches beyond its message")
            value = message[begins:position]
        else:
            raise ValueError(f"tag {tag} in a histogram")
        yield number, value


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
