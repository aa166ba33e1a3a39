"""Asking a real Prometheus, keeping what it said, and comparing answers with it."""

from __future__ import annotations

import gzip
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.metrics.labels import Labels
from fleet.metrics.samples import stale_marker
from fleet.promql.answer import Answer
from fleet.promql.engine import PromqlEngine
from tests.fleet.promql.oracle_data import Ask
from tests.servers.prometheus import PrometheusServer, backfill, running_prometheus

FROZEN = Path(__file__).parents[2] / "golden" / "promql_answers.json.gz"
NATIVE_FROZEN = FROZEN.with_name("promql_native_answers.json.gz")
"""About native histograms."""

Rows = dict[Labels, dict[int, float]]
"""Value of each row at each time, milliseconds."""


@contextmanager
def loaded_prometheus(
    openmetrics: str, series: Sequence[tuple[Labels, Sequence[tuple[int, float]]]]
) -> Iterator[PrometheusServer]:
    """A server with the text's samples, and the stale markers of the series by remote write."""
    with TemporaryDirectory() as folder:
        backfill(openmetrics, Path(folder))
        with running_prometheus(Path(folder)) as server:
            marked = [(labels, _markers(points)) for labels, points in series]
            _remote_write(server, [one for one in marked if one[1]])
            yield server


def _markers(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    marker = struct.pack("<d", stale_marker())
    return [(ts, value) for ts, value in points if struct.pack("<d", value) == marker]


def _remote_write(
    server: PrometheusServer, series: Sequence[tuple[Labels, Sequence[tuple[int, float]]]]
) -> None:
    if not series:
        return
    message = b"".join(_field(1, _time_series(labels, points)) for labels, points in series)
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    status = server.post("/api/v1/write", _snappy(message), headers)
    assert status in {200, 204}, status


def _time_series(labels: Labels, points: Sequence[tuple[int, float]]) -> bytes:
    pairs = (_field(1, name.encode()) + _field(2, value.encode()) for name, value in labels)
    samples = (b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(ts) for ts, value in points)
    return b"".join([*(_field(1, pair) for pair in pairs), *(_field(2, one) for one in samples)])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _snappy(content: bytes) -> bytes:
    """A snappy block of literals only."""
    parts = [_varint(len(content))]
    for start in range(0, len(content), 60):
        piece = content[start : start + 60]
        parts += [bytes([(len(piece) - 1) << 2]), piece]
    return b"".join(parts)


def asked(server: PrometheusServer, ask: Ask) -> Rows:
    """What the server answers to a range query."""
    parameters = {
        "query": ask.query,
        "start": f"{ask.start_ms / 1000:.3f}",
        "end": f"{ask.end_ms / 1000:.3f}",
        "step": f"{ask.step_ms / 1000:.3f}",
    }
    return rows_of(server.get("/api/v1/query_range", parameters)["result"])


def rows_of(result: Sequence[Mapping[str, Any]]) -> Rows:
    """The API's matrix or vector as rows."""
    return {
        tuple(sorted(row["metric"].items())): {
            round(time * 1000): float(text) for time, text in row.get("values", [row.get("value")])
        }
        for row in result
    }


def answered(engine: PromqlEngine, ask: Ask) -> tuple[Rows, Answer]:
    """What our engine answers to a range query, as rows and whole."""
    answer = engine.range(ask.query, ask.start_ms, ask.end_ms, ask.step_ms)
    return rows_of_answer(answer), answer


def rows_of_answer(answer: Answer) -> Rows:
    """An answer as rows; two rows with equal labels are a defect."""
    times = answer.times_ms.tolist()
    assert len(set(answer.labels)) == len(answer.labels)
    return {
        labels: {
            time: value for time, value, there in zip(times, values, present, strict=True) if there
        }
        for labels, values, present in zip(
            answer.labels, answer.values.tolist(), answer.present.tolist(), strict=True
        )
    }


def differences(
    ours: Rows, theirs: Rows, tolerance: float = 0.0, absolute: float = 0.0
) -> list[str]:
    """Where two answers differ, one line each; empty where they agree.

    Args:
        ours: one answer.
        theirs: the other.
        tolerance: relative; 0 wants equal bits (but one NaN is as good as another).
        absolute: accepted beside it.
    """
    found = [f"only here: {row}" for row in ours.keys() - theirs.keys()]
    found += [f"only there: {row}" for row in theirs.keys() - ours.keys()]
    for labels in ours.keys() & theirs.keys():
        one, other = ours[labels], theirs[labels]
        if one.keys() != other.keys():
            found.append(f"{labels}: at {sorted(one.keys() ^ other.keys())} only one has a value")
        found += [
            f"{labels} at {time}: {one[time]!r}, not {other[time]!r}"
            for time in one.keys() & other.keys()
            if not close(one[time], other[time], tolerance, absolute)
        ]
    return found


def close(one: float, other: float, tolerance: float, absolute: float = 0.0) -> bool:
    """Whether two values are equal within a relative tolerance; all NaN are."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    if one == other:
        return True
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=absolute)


def freeze(answers: Mapping[str, Rows], into: Path = FROZEN) -> None:
    """Keep answers for machines without Prometheus."""
    text = {key: packed(rows) for key, rows in answers.items()}
    into.write_bytes(gzip.compress(json.dumps(text, separators=(",", ":")).encode(), 9, mtime=0))


def packed(rows: Rows) -> list[Any]:
    """Rows as JSON can hold them."""
    return [
        [[list(pair) for pair in labels], [list(point) for point in values.items()]]
        for labels, values in sorted(rows.items())
    ]


def thawed(rows: Sequence[Any]) -> Rows:
    """Rows that `packed` made."""
    return {
        tuple((name, value) for name, value in labels): {int(t): float(v) for t, v in values}
        for labels, values in rows
    }


def frozen(path: Path = FROZEN) -> dict[str, Rows]:
    """Answers that Prometheus 2.42 gave."""
    text = json.loads(gzip.decompress(path.read_bytes()))
    return {key: thawed(rows) for key, rows in text.items()}
