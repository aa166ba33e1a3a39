"""Raw samples out of a real Prometheus: all, exactly, in pieces that fit, whatever breaks."""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from fleet.errors import (
    InvalidInputError,
    NotFoundError,
    PermanentError,
    SourceUnavailableError,
    StateroomError,
    TooLargeError,
)
from fleet.metrics.labels import Matcher, MatchKind, labels_text
from fleet.metrics.samples import MetricType
from fleet.ports.metric_source import SourcePiece
from resources.metrics.prometheus_api import PrometheusApi
from resources.metrics.prometheus_asking import ReadProtocol
from resources.metrics.prometheus_server import PrometheusSource
from tests.fakes.fault_proxy import fault_proxy
from tests.fleet.metrics.plain_histograms import one_by_one
from tests.fleet.metrics.test_native_histograms import observe
from tests.servers.exposition import ExposingHandler, ExposingServer
from tests.servers.prometheus import PrometheusServer, prometheus_programs, running_prometheus
from tests.servers.remote_write import (
    STALE,
    Series,
    _field,
    _varint,
    histogram_message,
    write,
)

__all__ = ["prometheus_programs"]

START = (time.time_ns() // 1_000_000 - 10 * 3_600_000) // 3_600_000 * 3_600_000
HOUR = 3_600_000
END = START + 3 * HOUR

NORMAL_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]

Rows = dict[str, dict[int, bytes]]
"""Series -> milliseconds -> bits of the value."""


def made() -> list[Series]:
    """Counters with zeros and resets, gauges, special values, gaps, stale markers, odd times."""
    series: list[Series] = []
    for number in range(12):
        name = f"c{number % 4}_total"
        labels = {"__name__": name, "instance": f"i{number}", "job": "t"}
        times = range(START - HOUR, END + HOUR, 15_000 + number)
        series.append((labels, [(ts, float((n * 3) % 400)) for n, ts in enumerate(times)]))
    values = [0.0, 1.5, float("inf"), float("-inf"), 1e-300, -7.0, STALE, NORMAL_NAN]
    times = range(START + 1, END, 60_000)
    special = [(ts, values[n % len(values)]) for n, ts in enumerate(times)]
    series.append(({"__name__": "special", "text": 'ü"\\\n{}'}, special))
    series.append(({"__name__": "zeros"}, [(ts, 0.0) for ts in times]))
    series.append(({"__name__": "edges"}, [(START, 1.0), (START + 1, 2.0), (END, 3.0)]))
    series.append(({"__name__": "edges", "x": "y"}, [(END + 1, 4.0)]))
    series.append(({"__name__": "ended"}, [(START + HOUR, 1.0), (START + HOUR + 1, STALE)]))
    return series


def expected(start_ms: int, end_ms: int, *, stale: bool = True) -> Rows:
    """What of it lies in (start, end]."""
    found: Rows = {}
    for labels, samples in made():
        others = sorted((n, v) for n, v in labels.items())
        kept = {
            ts: struct.pack("<d", value)
            for ts, value in samples
            if start_ms < ts <= end_ms and (stale or struct.pack("<d", value) != BITS)
        }
        if kept:
            found[labels_text(tuple(others))] = kept
    return found


BITS = struct.pack("<d", STALE)


@pytest.fixture(scope="module")
def prometheus(
    prometheus_programs: None,
) -> Iterator[PrometheusServer]:
    """A server with these samples."""
    with running_prometheus() as server:
        write(server, made())
        yield server


def rows(pieces: list[SourcePiece]) -> Rows:
    """All samples; none may come twice."""
    found: Rows = {}
    for piece in pieces:
        batch = piece.batch
        for one, ts_ms, value in zip(
            batch.series_ids.tolist(), batch.ts_ms.tolist(), batch.values, strict=True
        ):
            times = found.setdefault(labels_text(batch.series[one].labels), {})
            assert ts_ms not in times
            times[ts_ms] = value.tobytes()
    return found


def source(url: str, **more: object) -> PrometheusSource:
    """Everything of a server."""
    return PrometheusSource(PrometheusApi(url, timeout_s=60.0), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["remote_read", "query"])
@pytest.mark.parametrize("piece_samples", [300, 5000, 10**9])
def test_all_samples_of_a_range_come_exactly_once(
    prometheus: PrometheusServer, protocol: str, piece_samples: int
) -> None:
    """Bits and times as stored, (start, end]; remote read also has the ends of series."""
    reader = source(prometheus.url, protocol=ReadProtocol(protocol), piece_samples=piece_samples)
    pieces = list(reader.read(START, END))
    assert rows(pieces) == expected(START, END, stale=protocol == "remote_read")
    assert all(len(piece.batch) <= 2 * piece_samples for piece in pieces)
    assert len({piece.batch_id for piece in pieces}) == len(pieces)
    assert len(pieces) == 3 if piece_samples > 300 else len(pieces) > 30


@pytest.mark.parametrize("protocol", ["remote_read", "query"])
def test_reading_goes_on_behind_any_piece(prometheus: PrometheusServer, protocol: str) -> None:
    """The rest is what the uninterrupted reading has behind it, piece by piece, by name."""

    def reader() -> PrometheusSource:
        return source(prometheus.url, protocol=ReadProtocol(protocol), piece_samples=1000)

    pieces = list(reader().read(START, END))
    whole = rows(pieces)
    for number in range(0, len(pieces), 3):
        rest = list(reader().read(START, END, pieces[number].resume))
        together = rows([*pieces[: number + 1], *rest])
        assert together == whole
    assert list(reader().read(START, END, pieces[-1].resume)) == []


def test_a_selection_is_read_alone(prometheus: PrometheusServer) -> None:
    """Matchers of all kinds, by both protocols."""
    matchers = [
        Matcher("instance", MatchKind.REGEX, "i[0-3]"),
        Matcher("instance", MatchKind.NOT_EQUAL, "i2"),
        Matcher("job", MatchKind.EQUAL, "t"),
        Matcher("__name__", MatchKind.NOT_REGEX, "c0.*"),
    ]
    wanted = {
        name: samples
        for name, samples in expected(START, END).items()
        if 'instance="i1"' in name or 'instance="i3"' in name
    }
    assert len(wanted) == 2
    for protocol in (ReadProtocol.REMOTE_READ, ReadProtocol.QUERY):
        pieces = list(source(prometheus.url, matchers=matchers, protocol=protocol).read(START, END))
        assert rows(pieces) == wanted


def test_a_server_without_remote_read_is_asked_by_query(prometheus: PrometheusServer) -> None:
    """Unless remote read is demanded: then it is an error."""
    with fault_proxy(prometheus.url) as proxy:
        reader = source(proxy.url)
        list(reader.read(START, START + 1000))
        assert reader.protocol is ReadProtocol.REMOTE_READ
        proxy.set_plan(lambda request: "missing" if request.path == "/api/v1/read" else None)
        reader = source(proxy.url)
        assert rows(list(reader.read(START, END))) == expected(START, END, stale=False)
        assert reader.protocol is ReadProtocol.QUERY
        with pytest.raises(NotFoundError):
            list(source(proxy.url, protocol=ReadProtocol.REMOTE_READ).read(START, END))


def read_until_error(reader: PrometheusSource, pieces: list[SourcePiece]) -> StateroomError | None:
    """Go on behind the pieces, and add to them; the error that it breaks off with."""
    try:
        for piece in reader.read(START, END, pieces[-1].resume if pieces else ""):
            pieces.append(piece)  # noqa: PERF402 - those before the error count
    except StateroomError as error:
        return error
    return None


FAULTS = ["reset_before", "short_body", "internal", "slow_down", "throttled", "reset_after"]


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_that_broke_off_goes_on_where_it_was(
    prometheus: PrometheusServer, fault: str
) -> None:
    """Every fault is a source that is not available; in the end all samples are there once."""
    with fault_proxy(prometheus.url) as proxy:
        chance = random.Random(fault)
        proxy.set_plan(lambda _: fault if chance.random() < 0.2 else None)
        pieces: list[SourcePiece] = []
        broke = 0
        while broke < 200:
            reader = source(proxy.url, piece_samples=500)
            error = read_until_error(reader, pieces)
            if error is None:
                break
            assert isinstance(error, SourceUnavailableError)
            assert proxy.url in str(error)
            broke += 1
        assert broke > 0
    assert rows(pieces) == expected(START, END)


@pytest.mark.parametrize("protocol", ["remote_read", "query"])
def test_a_bit_that_was_flipped_on_the_way_is_found_or_changes_a_value_only(
    prometheus: PrometheusServer, protocol: str
) -> None:
    """Never another error than that of a broken answer."""
    with fault_proxy(prometheus.url) as proxy:
        proxy.set_plan(lambda request: "bit_flip" if request.number > 1 else None)
        reader = source(proxy.url, protocol=ReadProtocol(protocol))
        error = read_until_error(reader, [])
        assert error is None or proxy.url in str(error)


@pytest.mark.parametrize("fault", ["timeout_before", "slow"])
def test_a_server_that_takes_too_long_is_given_up(prometheus: PrometheusServer, fault: str) -> None:
    """Also one that sends a little all the time."""
    with fault_proxy(prometheus.url) as proxy:
        proxy.bytes_per_s = 100
        proxy.set_plan(lambda request: fault if "read" in request.path else None)
        reader = PrometheusSource(PrometheusApi(proxy.url, timeout_s=1.0))
        with pytest.raises(SourceUnavailableError, match=r"no whole answer within 1 s"):
            list(reader.read(START, END))


def test_a_server_that_refuses_is_not_asked_again(prometheus: PrometheusServer) -> None:
    """Wrong credentials, a wrong address, a selection that it does not understand."""
    with fault_proxy(prometheus.url) as proxy:
        proxy.set_plan(lambda _: "denied")
        with pytest.raises(PermanentError, match="answers 403"):
            list(source(proxy.url).read(START, END))
    broken = [Matcher("job", MatchKind.REGEX, "(")]
    with pytest.raises(PermanentError, match="answers 400"):
        list(source(prometheus.url, matchers=broken).read(START, END))
    gone = PrometheusApi("http://127.0.0.1:9/nothing")
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:9"):
        list(PrometheusSource(gone).read(START, END))
    for url in ("127.0.0.1:9090", "ftp://x", "http://u:p@x", "http://x:y"):
        with pytest.raises(InvalidInputError):
            PrometheusApi(url)


@pytest.mark.parametrize(
    "resume", ["x", "[1,2]", '["a",2,"b",3]', "[1,2,3,4]", "7", '[true,"",1,2]']
)
def test_a_resume_that_is_none_is_refused(resume: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidInputError, match="resume"):
        list(source("http://127.0.0.1:9").read(START, END, resume))


@pytest.mark.parametrize("protocol", ["remote_read", "query"])
def test_a_server_with_limits_is_asked_for_less(
    prometheus_programs: None,
    protocol: str,
) -> None:
    """Its refusals divide the question; what fits nowhere is an error that names the metric."""
    flags = ["--query.max-samples=400", "--storage.remote.read-sample-limit=400"]
    with running_prometheus(flags=flags) as limited:
        write(limited, made())
        reader = source(limited.url, protocol=ReadProtocol(protocol))
        end_ms = START + HOUR
        found = rows(list(reader.read(START, end_ms)))
        assert found == expected(START, end_ms, stale=protocol == "remote_read")
        many = [({"__name__": "many", "n": str(n)}, [(END + 2 * HOUR, 1.0)]) for n in range(500)]
        write(limited, many)
        with pytest.raises(TooLargeError, match="many"):
            list(reader.read(END + 2 * HOUR - 1000, END + 2 * HOUR))


def test_an_answer_over_the_limit_is_asked_for_in_parts(prometheus: PrometheusServer) -> None:
    """By size too, whatever the server allows."""
    api = PrometheusApi(prometheus.url, answer_max_bytes=20_000)
    pieces = list(PrometheusSource(api).read(START, END))
    assert rows(pieces) == expected(START, END)
    assert max(len(piece.batch) for piece in pieces) < 5000


def test_types_and_help_come_from_the_servers_metadata(server: ExposingServer) -> None:
    """By family, as the endpoints told it."""
    document = (
        b'{"status":"success","data":{"a":[{"type":"counter","help":"x","unit":""}],'
        b'"h":[{"type":"histogram","help":"y","unit":"s"}]}}'
    )
    names = b'{"status":"success","data":["a_total","h_bucket","z"],"warnings":["half is missing"]}'
    nothing = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
    matrix = (
        b'{"status":"success","infos":["think again"],"data":{"resultType":"matrix","result":['
        b'{"metric":{"__name__":"a_total"},"values":[[1.001,"5"],[0.5,"1"]]},'
        b'{"metric":{"__name__":"h_bucket","le":"1"},"values":[[1.5,"NaN"]]},'
        b'{"metric":{"__name__":"z"},"histograms":[[1.5,{"count":"1",'
        b'"sum":"2","buckets":[[0,"1","3","1"]]}]]},'
        b'{"metric":{"__name__":"a.b"},"values":[[1.5,"1"]]}]}}'
    )

    def answer(handler: ExposingHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        asked = handler.rfile.read(length)
        body = document if "metadata" in handler.path else names
        if handler.command == "POST":
            body = nothing if b"last_over_time" in asked else matrix
        handler.answer(200, body, {"Content-Type": "application/json"})

    server.fallback = answer
    (piece,) = source(server.url, protocol=ReadProtocol.QUERY).read(500, 2000)
    kinds = {
        labels_text(info.labels): (info.type, info.help, info.unit)
        for info in piece.batch.series.values()
    }
    assert kinds == {
        "a_total": (MetricType.COUNTER, "x", ""),
        'h_bucket{le="1"}': (MetricType.HISTOGRAM, "y", "s"),
    }
    assert sorted(piece.batch.ts_ms.tolist()) == [1001, 1500]
    assert len(piece.problems) == 4
    text = " ".join(piece.problems)
    for part in ("a.b", "1 native histograms with custom", "half is missing", "think again"):
        assert part in text


def test_histograms_come_with_remote_read_of_newer_servers(server: ExposingServer) -> None:
    """Beside numbers, by their series, in order of time; those with custom bounds are told of."""
    several = [(1500, observe([1.0, -2.0], 3)), (1000, observe([1.0], 3))]
    sound = b"".join(_field(4, histogram_message(*point)) for point in several)
    custom = _field(4, histogram_message(1200, observe([1.0], 0)._replace(schema=-53)))

    def series(name: bytes, body: bytes) -> bytes:
        return _field(1, _field(1, _field(1, b"__name__") + _field(2, name)) + body)

    number = _field(2, b"\x09" + struct.pack("<d", 7.0) + b"\x10" + _varint(1100))
    answers = _field(1, series(b"h", sound + custom) + series(b"n", number))
    block = pa.compress(answers, codec="snappy", asbytes=True)

    def answer(handler: ExposingHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if "/read" in handler.path:
            handler.answer(200, block, {"Content-Type": "application/x-protobuf"})
            return
        data = b'["h","n"]' if "label" in handler.path else b"{}"
        data = b'{"resultType":"vector","result":[]}' if handler.command == "POST" else data
        body = b'{"status":"success","data":' + data + b"}"
        handler.answer(200, body, {"Content-Type": "application/json"})

    server.fallback = answer
    (piece,) = source(server.url).read(500, 2000)
    found = piece.batch.histograms
    assert found is not None
    assert found.ts_ms.tolist() == [1000, 1500]
    assert one_by_one(found.histograms) == [one for _, one in reversed(several)]
    assert {labels_text(piece.batch.series[one].labels) for one in found.series_ids.tolist()} == {
        "h"
    }
    assert piece.batch.values.tolist() == [7.0]
    assert piece.problems == ("1 native histograms with custom bounds left out",)


def vector(*rows: dict[str, object]) -> dict[str, object]:
    """A successful answer with these rows."""
    return {"status": "success", "data": {"resultType": "matrix", "result": list(rows)}}


BROKEN = {
    "metadata": ({"status": "success", "data": []}, "metadata"),
    "metadata of nothing": ({"status": "success", "data": {"a": [7]}}, "metadata"),
    "no values": (vector({"metric": {"__name__": "a"}, "values": [[1]]}), "/query"),
    "names": ({"status": "success", "data": {}}, "/values"),
    "status": ({"status": "error"}, "/values"),
    "list": ([], "/values"),
    "no result": ({"status": "success", "data": []}, "/query"),
    "no series": (vector({"values": []}), "/query"),
    "no time": (vector({"metric": {"__name__": "a"}, "values": [[float("nan"), "1"]]}), "/query"),
    "no number": (vector({"metric": {"__name__": "a"}, "values": [[1, "one"]]}), "/query"),
    "no pair": (vector({"metric": {"__name__": "a"}, "values": [[None, "1"]]}), "/query"),
}


@pytest.mark.parametrize("where", ["metadata", "/values", "/query"])
@pytest.mark.parametrize(
    "text", [b"[" * 200_000, b'{"status":"success","data":{"a":["\\ud800"]}}', b'{"a":"\xff"}']
)
def test_json_that_cannot_be_taken_is_broken(
    server: ExposingServer, text: bytes, where: str
) -> None:
    """Nested without end, with half a character, not UTF-8."""

    def answer(handler: ExposingHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        document = {"status": "success", "data": ["a"] if "/values" in handler.path else {}}
        body = text if where in handler.path else json.dumps(document).encode()
        handler.answer(200, body, {"Content-Type": "application/json"})

    server.fallback = answer
    with pytest.raises(SourceUnavailableError, match="no JSON"):
        list(source(server.url, protocol=ReadProtocol.QUERY).read(0, 2000))


def test_characters_that_json_writes_in_two_halves_are_read(server: ExposingServer) -> None:
    """As other servers than Prometheus escape them."""
    row = {"metric": {"__name__": "a", "b": "\U0001f600"}, "values": [[1, "1"]]}

    def answer(handler: ExposingHandler) -> None:
        asked = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        names = {"status": "success", "data": ["a"] if "/values" in handler.path else {}}
        found = vector() if b"last_over_time" in asked else vector(row)
        body = json.dumps(found if handler.command == "POST" else names).encode()
        handler.answer(200, body, {"Content-Type": "application/json"})

    server.fallback = answer
    (piece,) = source(server.url, protocol=ReadProtocol.QUERY).read(0, 2000)
    (info,) = piece.batch.series.values()
    assert dict(info.labels)["b"] == "\U0001f600"


@pytest.mark.parametrize("kind", BROKEN)
def test_an_answer_of_another_shape_is_broken(server: ExposingServer, kind: str) -> None:
    """Valid JSON that says something else."""
    wrong, where = BROKEN[kind]
    good = {
        "metadata": {"status": "success", "data": {}},
        "/values": {"status": "success", "data": ["a"]},
    }

    def answer(handler: ExposingHandler) -> None:
        asked = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        document: object = vector()
        for part, found in good.items():
            document = found if part in handler.path else document
        if where in handler.path and b"last_over_time" not in asked:
            document = wrong
        body = json.dumps(document).encode()
        handler.answer(200, body, {"Content-Type": "application/json"})

    server.fallback = answer
    with pytest.raises(SourceUnavailableError, match="answers what cannot be read"):
        list(source(server.url, protocol=ReadProtocol.QUERY).read(0, 2000))


def test_a_server_without_metadata_and_with_many_odd_series_is_read(
    server: ExposingServer,
) -> None:
    """Types are not known; what is left out is counted, the first are named."""
    names = {"status": "success", "data": ["a", "b.c"]}
    odd = [
        {"metric": {"__name__": "b.c", "n": str(number)}, "values": [[1, "1"]]}
        for number in range(25)
    ]
    good = {"metric": {"__name__": "a"}, "values": [[1, "1"]]}

    def answer(handler: ExposingHandler) -> None:
        asked = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if "metadata" in handler.path:
            handler.answer(404, b"", {})
            return
        found = vector() if b"last_over_time" in asked else vector(good, *odd)
        body = json.dumps(found if handler.command == "POST" else names).encode()
        handler.answer(200, body, {"Content-Type": "application/json"})

    server.fallback = answer
    (piece,) = source(server.url, protocol=ReadProtocol.QUERY).read(0, 2000)
    assert [info.type for info in piece.batch.series.values()] == [MetricType.UNKNOWN]
    assert len(piece.problems) == 21
    assert piece.problems[-1] == "... and 5 more series left out"


def test_sizes_and_matchers_are_checked_at_once() -> None:
    """Before anything is asked."""
    for wrong in ({"matchers": ()}, {"window_ms": 0}, {"piece_samples": 0}):
        with pytest.raises(InvalidInputError):
            source("http://127.0.0.1:9", **wrong)
