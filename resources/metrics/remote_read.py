"""Prometheus' remote read: the question and the answer as protobuf in a snappy block.

Written by hand because the answer is nearly all samples of one shape: they are read as columns, a
hundred times faster than as messages. Answers are of the type SAMPLES.

Source: Prometheus, prompb/remote.proto and prompb/types.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fleet.metrics.histogram_columns import HistogramSamples
from fleet.metrics.labels import Matcher, MatchKind
from resources.metrics.remote_histograms import HistogramReader, read_varint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.metrics.samples import FloatArray, Int64Array

    Bytes2D = npt.NDArray[np.uint8]

_KINDS = {MatchKind.EQUAL: 0, MatchKind.NOT_EQUAL: 1, MatchKind.REGEX: 2, MatchKind.NOT_REGEX: 3}
_FIRST, _SECOND, _HISTOGRAM = 0x0A, 0x12, 0x22
"""Tags of fields 1, 2 and 4 that hold bytes."""
_USUAL = 18
"""Bytes of a sample with a value and a time of 6 bytes, 1971 to 2109; without the value, which is
left out when it is 0, it has 9 fewer."""


class BrokenAnswerError(Exception):
    """The bytes are no answer of remote read."""


class ReadSeries(NamedTuple):
    """The series of an answer, and their samples in columns of one length."""

    labels: list[bytes]
    """Of each series, as it was sent; see `decode_labels`."""
    place: Int64Array
    """Which series each sample belongs to."""
    ts_ms: Int64Array
    values: FloatArray
    histograms: HistogramSamples
    """Native histograms; their `series_ids` say which series, as `place` does."""
    custom: int
    """Histograms with bounds of their own; they are not read."""


def encode_request(matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> bytes:
    """A request for the samples of one selection, from start to end, both included."""
    import pyarrow as pa

    query = b"\x08" + _varint(start_ms) + b"\x10" + _varint(end_ms)
    for matcher in matchers:
        kind = _KINDS[matcher.kind]
        body = b"\x08" + _varint(kind) if kind else b""
        body += _message(_SECOND, matcher.name.encode()) + _message(0x1A, matcher.value.encode())
        query += _message(0x1A, body)
    packed: bytes = pa.compress(_message(_FIRST, query), codec="snappy", asbytes=True)
    return packed


def unpack(block: bytes, limit_bytes: int) -> bytes:
    """The content of a snappy block.

    Raises:
        BrokenAnswerError: it is none, or it breaks off.
        OverflowError: it would be longer than the limit.
    """
    import pyarrow as pa

    try:
        size, _ = read_varint(block, 0)
    except IndexError as error:
        raise BrokenAnswerError("an empty body") from error
    if size > limit_bytes:
        raise OverflowError(f"{size} bytes")
    try:
        content: bytes = pa.decompress(block, size, codec="snappy", asbytes=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BrokenAnswerError(f"no snappy block: {error}") from error
    return content


def decode_response(data: bytes) -> ReadSeries:
    """Read an answer.

    Raises:
        BrokenAnswerError: the bytes are none.
    """
    try:
        return _decode(data)
    except (IndexError, struct.error, ValueError, TypeError, OverflowError) as error:
        raise BrokenAnswerError(f"not the protobuf of a ReadResponse: {error}") from error


def decode_labels(data: bytes) -> list[tuple[str, str]]:
    """Names and values of one series.

    Raises:
        BrokenAnswerError: the bytes are no labels, or no UTF-8.
    """
    pairs = []
    try:
        for _, start, end in _messages(data, 0, len(data)):
            parts = {tag: data[a:b].decode() for tag, a, b in _messages(data, start, end)}
            pairs.append((parts.get(_FIRST, ""), parts.get(_SECOND, "")))
    except (IndexError, ValueError) as error:
        raise BrokenAnswerError(f"labels that cannot be read: {error}") from error
    return pairs


def _decode(data: bytes) -> ReadSeries:
    columns = _Columns(data)
    for tag, start, end in _messages(data, 0, len(data)):
        if tag != _FIRST:
            continue
        for inner, series_start, series_end in _messages(data, start, end):
            if inner == _FIRST:
                columns.add(series_start, series_end)
    return columns.read()


class _Columns:
    """Collects where samples lie, and reads them together."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._labels: list[bytes] = []
        self._regions: list[tuple[int, int, int]] = []
        """Series, start and end of bytes that look like samples of the usual size only."""
        self._starts: list[int] = []
        self._start_series: list[int] = []
        self._histograms = HistogramReader()

    def add(self, start: int, end: int) -> None:
        """Take a series: labels, then samples, then what else there is."""
        data, position = self._data, start
        while position < end and data[position] == _FIRST:
            size, behind = read_varint(data, position + 1)
            position = behind + size
        series = len(self._labels)
        self._labels.append(data[start:position])
        if position > end:
            raise ValueError("labels reach beyond their series")
        if position < end:
            if (end - position) % _USUAL == 0 and data[position + 1] == _USUAL - 2:
                self._regions.append((series, position, end))
            else:
                self._walk(series, position, end)

    def read(self) -> ReadSeries:
        """All samples, those of the usual size first."""
        import numpy as np

        index, ts_ms, values = self._read_regions()
        starts = np.array(self._starts, np.int64)
        walked = self._read_starts(starts)
        return ReadSeries(
            self._labels,
            np.concatenate([index, np.array(self._start_series, np.int64)]),
            np.concatenate([ts_ms, walked[0]]),
            np.concatenate([values, walked[1]]),
            self._histograms.read(),
            self._histograms.custom,
        )

    def _walk(self, series: int, start: int, end: int) -> None:
        data, position, before = self._data, start, len(self._starts)
        while position < end and data[position] == _SECOND:
            self._starts.append(position)
            position += data[position + 1] + 2
        self._start_series += [series] * (len(self._starts) - before)
        if position > end:
            raise ValueError("samples reach beyond their series")
        for tag, begins, ends in _messages(data, position, end):
            if tag == _HISTOGRAM:
                self._histograms.add(series, data[begins:ends])

    def _read_regions(self) -> tuple[Int64Array, Int64Array, FloatArray]:
        import numpy as np

        joined = b"".join(self._data[start:end] for _, start, end in self._regions)
        rows = np.frombuffer(joined, np.uint8).reshape(-1, _USUAL)
        counts = np.array([(end - start) // _USUAL for _, start, end in self._regions], np.int64)
        series = np.array([one for one, _, _ in self._regions], np.int64)
        index = np.repeat(series, counts)
        wrong = set(index[~_is_usual(rows)].tolist())
        if wrong:
            for one, start, end in self._regions:
                if one in wrong:
                    self._walk(one, start, end)
            kept = ~np.isin(index, list(wrong))
            rows, index = rows[kept], index[kept]
        return index, _times(rows[:, 12:18]), _values(rows[:, 3:11])

    def _read_starts(self, starts: Int64Array) -> tuple[Int64Array, FloatArray]:
        """Samples of any size; those without a value, and odd ones."""
        import numpy as np

        ts_ms, values = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.float64)
        if not len(starts):
            return ts_ms, values
        data = np.frombuffer(self._data, np.uint8)
        sizes = data[starts + 1].astype(np.int64)
        usual = _gathered(data, starts, sizes == _USUAL - 2, _USUAL)
        at = usual[0][_is_usual(usual[1])]
        rows = usual[1][_is_usual(usual[1])]
        ts_ms[at], values[at] = _times(rows[:, 12:18]), _values(rows[:, 3:11])
        zero = _gathered(data, starts, sizes == _USUAL - 11, _USUAL - 9)
        is_zero = (zero[1][:, 2] == 0x10) & _is_time(zero[1][:, 3:9])
        ts_ms[zero[0][is_zero]] = _times(zero[1][is_zero][:, 3:9])
        done = np.zeros(len(starts), np.bool_)
        done[at] = True
        done[zero[0][is_zero]] = True
        for odd in np.flatnonzero(~done).tolist():
            start = int(starts[odd])
            values[odd], ts_ms[odd] = _sample(self._data, start + 2, start + 2 + int(sizes[odd]))
        return ts_ms, values


def _gathered(
    data: npt.NDArray[np.uint8], starts: Int64Array, chosen: npt.NDArray[np.bool_], size: int
) -> tuple[Int64Array, Bytes2D]:
    """Which samples were chosen, and the bytes of each in a row."""
    import numpy as np

    at: Int64Array = np.flatnonzero(chosen).astype(np.int64)
    return at, data[starts[at][:, None] + np.arange(size)]


def _is_usual(rows: Bytes2D) -> npt.NDArray[np.bool_]:
    heads = (rows[:, 0] == _SECOND) & (rows[:, 1] == _USUAL - 2) & (rows[:, 2] == 0x09)
    usual: npt.NDArray[np.bool_] = heads & (rows[:, 11] == 0x10) & _is_time(rows[:, 12:18])
    return usual


def _is_time(rows: Bytes2D) -> npt.NDArray[np.bool_]:
    """Which rows are varints of exactly 6 bytes."""
    found: npt.NDArray[np.bool_] = (rows[:, :5] >= 0x80).all(axis=1) & (rows[:, 5] < 0x80)
    return found


def _times(rows: Bytes2D) -> Int64Array:
    import numpy as np

    shifts = np.arange(0, 42, 7)
    times: Int64Array = ((rows & 0x7F).astype(np.int64) << shifts).sum(axis=1)
    return times


def _values(rows: Bytes2D) -> FloatArray:
    import numpy as np

    values: FloatArray = np.ascontiguousarray(rows).view("<f8").reshape(-1).astype(np.float64)
    return values


def _sample(data: bytes, start: int, end: int) -> tuple[float, int]:
    """One sample field by field."""
    value, ts_ms, position = 0.0, 0, start
    while position < end:
        tag = data[position]
        if tag == 0x09:
            (value,) = struct.unpack_from("<d", data, position + 1)
            position += 9
        elif tag == 0x10:
            number, position = read_varint(data, position + 1)
            ts_ms = number - (1 << 64) if number >> 63 else number
        else:
            raise ValueError(f"tag {tag} in a sample")
    return value, ts_ms


def _messages(data: bytes, start: int, end: int) -> Iterable[tuple[int, int, int]]:
    """Tag, start and end of each field; all are bytes, others are refused."""
    position = start
    while position < end:
        tag = data[position]
        if tag & 7 != 2:
            raise ValueError(f"tag {tag} where a message is expected")
        size, begins = read_varint(data, position + 1)
        position = begins + size
        if position > end:
            raise ValueError("a message reaches beyond its end")
        yield tag, begins, position


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _message(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + _varint(len(body)) + body
