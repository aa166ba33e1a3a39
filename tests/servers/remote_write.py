"""Samples into a real Prometheus by remote write, with their own times and stale markers.

The protobuf is written here once more, on purpose: the reader under test has its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import pyarrow as pa

from tests.fleet.metrics.plain_histograms import NativeHistogram, to_spans
from tests.servers.prometheus import PrometheusServer

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
Series = tuple[Mapping[str, str], Iterable[tuple[int, float | NativeHistogram]]]
"""Labels with `__name__`, and milliseconds with values: numbers or native histograms."""


def write(server: PrometheusServer, series: Iterable[Series]) -> None:
    """Store samples; out of order is allowed by the usual configuration."""
    message = b"".join(_field(1, _series(labels, samples)) for labels, samples in series)
    body = pa.compress(message, codec="snappy", asbytes=True)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    assert server.post("/api/v1/write", body, headers) // 100 == 2


def _series(labels: Mapping[str, str], samples: Iterable[tuple[int, float]]) -> bytes:
    pairs = sorted(labels.items())
    head = b"".join(_field(1, _field(1, n.encode()) + _field(2, v.encode())) for n, v in pairs)
    return head + b"".join(
        _field(4, histogram_message(ts_ms, value))
        if isinstance(value, NativeHistogram)
        else _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(ts_ms))
        for ts_ms, value in samples
    )


def histogram_message(ts_ms: int, one: NativeHistogram) -> bytes:
    """A histogram as prompb/types.proto has it; with `observations` a float, a float histogram."""
    sides = ((8, one.negative), (11, one.positive))
    is_float = isinstance(one.observations, float)
    if is_float:
        body = _double(2, one.observations) + _double(7, one.zero_count)
    else:
        body = b"\x08" + _varint(int(one.observations)) + b"\x30" + _varint(int(one.zero_count))
    body += _double(3, one.total) + b"\x20" + _varint(_zigzag(one.schema))
    body += _double(5, one.zero_threshold)
    for number, side in sides:
        spans = to_spans(side)
        for offset, length in zip(spans.offsets, spans.lengths, strict=True):
            body += _field(number, b"\x08" + _varint(_zigzag(offset)) + b"\x10" + _varint(length))
        if is_float:
            packed = b"".join(struct.pack("<d", side[index]) for index in sorted(side))
            body += _field(number + 2, packed)
        else:
            packed = b"".join(_varint(_zigzag(int(delta))) for delta in spans.deltas)
            body += _field(number + 1, packed)
    return body + b"\x78" + _varint(ts_ms)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _zigzag(number: int) -> int:
    return (number << 1) ^ (number >> 63)


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])
