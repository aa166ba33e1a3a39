"""Samples into a real Prometheus by remote write, with their own times and stale markers.

The protobuf is written here once more, on purpose: the reader under test has its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import pyarrow as pa

from tests.servers.prometheus import PrometheusServer

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
Series = tuple[Mapping[str, str], Iterable[tuple[int, float]]]
"""Labels with `__name__`, and milliseconds with values."""


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
        _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(ts_ms))
        for ts_ms, value in samples
    )


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])
