"""Scraping real endpoints, also those that misbehave: each ends in time and harms no other."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fleet.errors import InvalidInputError, PermanentError
from fleet.metrics.labels import METRIC_NAME
from fleet.metrics.samples import is_stale
from fleet.metrics.scraped_target import ScrapedTarget, ScrapeResult
from fleet.metrics.targets import ScrapeTarget, make_target
from fleet.ports.metric_source import SourcePiece
from resources.clock import SystemClock
from resources.metrics import scraper as scraper_module
from resources.metrics.scrape import ScrapeLoop, ScrapeSource
from resources.metrics.scrape_connection import (
    GZIP_MEMBERS_MAX,
    HEAD_MAX_BYTES,
    Answer,
    ScrapeFailedError,
    unpacked,
)
from resources.metrics.scraper import Scraper, allow_open_files
from tests.servers.exposition import (
    OPENMETRICS_TYPE,
    TEXT_TYPE,
    ExposingHandler,
    ExposingServer,
    exposing,
)

PATIENT_S = 60.0
"""Time limit of a scrape that is not meant to run into it."""


def target(url: str, instance: str = "", timeout_s: float = PATIENT_S) -> ScrapeTarget:
    """A target of the job `t`."""
    return make_target(url, job="t", instance=instance, interval_s=PATIENT_S, timeout_s=timeout_s)


def scraped(*targets: ScrapeTarget, body_max_bytes: int = 1 << 20) -> SourcePiece:
    """One round of all targets."""
    with ScrapeSource(targets, SystemClock(), body_max_bytes=body_max_bytes) as source:
        (piece,) = source.read(0, 0)
        return piece


def values(piece: SourcePiece, metric: str) -> dict[str, float | str]:
    """Instance to the value of a metric."""
    batch = piece.batch
    found: dict[str, float | str] = {}
    stale = is_stale(batch.values).tolist()
    for one, value, is_marker in zip(
        batch.series_ids.tolist(), batch.values.tolist(), stale, strict=True
    ):
        labels = dict(batch.series[one].labels)
        if labels[METRIC_NAME] == metric:
            found[labels["instance"]] = "stale" if is_marker else value
    return found


def test_endpoints_are_scraped_together(server: ExposingServer) -> None:
    """Text, OpenMetrics, gzip; each with its own series."""
    server.expose("/text", "a 1\n")
    server.expose("/om", "a 2\n# EOF\n", OPENMETRICS_TYPE)
    server.expose("/gzip", "a 3\n", packed=True)
    server.expose("/untyped", "a 4\n", "")
    names = ["text", "om", "gzip", "untyped"]
    piece = scraped(*(target(f"{server.url}/{name}", name) for name in names))
    assert values(piece, "a") == {"text": 1.0, "om": 2.0, "gzip": 3.0, "untyped": 4.0}
    assert values(piece, "up") == dict.fromkeys(names, 1.0)
    assert piece.problems == ()
    assert server.headers["X-Prometheus-Scrape-Timeout-Seconds"] == "60"
    assert "openmetrics-text" in server.headers["Accept"]


def test_a_unix_socket_is_scraped(tmp_path: Path) -> None:
    """Its path is the instance."""
    path = tmp_path / "a.sock"
    with exposing(path) as server:
        server.expose("/metrics?x=1", "a 1\n")
        piece = scraped(target(f"{server.url}/metrics?x=1"), target(f"unix:{path}x:/", "none"))
    assert values(piece, "a") == {str(path): 1.0}
    assert values(piece, "up") == {str(path): 1.0, "none": 0.0}
    assert "cannot be reached: No such file" in piece.problems[0]


def test_connections_are_kept_from_scrape_to_scrape(server: ExposingServer) -> None:
    """One connection for many requests, and a new one where the endpoint closed it."""
    server.expose("/", "a 1\n")
    closing = False

    def maybe_closing(handler: ExposingHandler) -> None:
        closes = closing
        handler.answer(200, b"a 1\n", {"Content-Type": TEXT_TYPE})
        handler.close_connection = closes  # without saying so

    server.behave("/", maybe_closing)
    with ScrapeSource([target(f"{server.url}/", "x")], SystemClock()) as source:
        for _ in range(5):
            (piece,) = source.read(0, 0)
            assert values(piece, "up") == {"x": 1.0}
        assert server.connections == 1
        closing = True
        for _ in range(3):
            (piece,) = source.read(0, 0)
            assert values(piece, "up") == {"x": 1.0}
    assert server.connections == 3
    assert server.requests == 8


def endless(handler: ExposingHandler) -> None:
    """A body without an end."""
    handler.begin()
    while not handler.owner.ended.is_set():
        handler.wfile.write(b"a 1\n" * 1000)


def trickling(handler: ExposingHandler) -> None:
    """A byte now and then, for ever."""
    handler.begin()
    while not handler.owner.ended.wait(0.05):
        handler.wfile.write(b"a")


def silent(handler: ExposingHandler) -> None:
    """No answer."""
    handler.owner.ended.wait(PATIENT_S)
    handler.close_connection = True


def trickling_head(handler: ExposingHandler) -> None:
    """Not even the head comes to its end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.owner.ended.wait(0.05):
        handler.wfile.write(b"X: y\r\n")
    handler.close_connection = True


def endless_head(handler: ExposingHandler) -> None:
    """Headers without an end, quickly."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    handler.wfile.write(b"x" * (HEAD_MAX_BYTES + 200_000))
    handler.owner.ended.wait(PATIENT_S)
    handler.close_connection = True


def endless_trailers(handler: ExposingHandler) -> None:
    """The content ends, what is said behind it does not."""
    handler.send_response_only(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"4\r\na 1\n\r\n0\r\nX: ")
    while not handler.owner.ended.is_set():
        handler.wfile.write(b"x" * 10_000)


def endless_promises(handler: ExposingHandler) -> None:
    """It says that it will answer, for ever."""
    while not handler.owner.ended.is_set():
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def upgrading(handler: ExposingHandler) -> None:
    """It would rather speak something else."""
    handler.wfile.write(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\na 1\n")
    handler.close_connection = True


def resetting(handler: ExposingHandler) -> None:
    """RST in the middle of the body."""
    handler.begin(1000)
    handler.wfile.write(b"a 1\n")
    handler.wfile.flush()
    handler.reset()


def shortened(handler: ExposingHandler) -> None:
    """Less than was announced."""
    handler.begin(1000)
    handler.wfile.write(b"a 1\n")
    handler.close_connection = True


def babbling(handler: ExposingHandler) -> None:
    """No HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True


def hanging_up(handler: ExposingHandler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True


def answering(
    status: int = 200, body: bytes = b"a 1\n", **headers: str
) -> Callable[[ExposingHandler], None]:
    """An answer that is complete and no good."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(handler: ExposingHandler) -> None:
        handler.answer(status, body, {"Content-Type": TEXT_TYPE} | named)

    return answer


PACKED = gzip.compress(b"a 1\n" * 10)
FAULTS = {
    "endless": (endless, "more than 1048576 bytes"),
    "endless_head": (endless_head, "no HTTP|bytes of headers"),
    "endless_trailers": (endless_trailers, "bytes of headers"),
    "endless_promises": (endless_promises, "bytes of headers"),
    "upgrading": (upgrading, "answers 101"),
    "resetting": (resetting, "breaks off in the middle"),
    "shortened": (shortened, "breaks off in the middle"),
    "babbling": (babbling, "no HTTP"),
    "hanging_up": (hanging_up, "without an answer"),
    "redirect": (answering(302, Location="/good"), "answers 302; redirects are not followed"),
    "failing": (answering(500), "answers 500"),
    "missing": (answering(404), "answers 404"),
    "html": (answering(Content_Type="text/html"), "answers with text/html"),
    "protobuf": (answering(Content_Type="application/vnd.google.protobuf"), "neither"),
    "brotli": (answering(Content_Encoding="br"), "encoding 'br'"),
    "no_gzip": (answering(Content_Encoding="gzip"), "broken gzip"),
    "cut_gzip": (answering(body=PACKED[:-9], Content_Encoding="gzip"), "gzip that breaks off"),
    "bomb": (
        answering(body=gzip.compress(b"#" * 5_000_000), Content_Encoding="gzip"),
        "more than 1048576 bytes, unpacked",
    ),
    "many_gzips": (
        answering(body=gzip.compress(b"") * (GZIP_MEMBERS_MAX + 1), Content_Encoding="gzip"),
        f"more than {GZIP_MEMBERS_MAX} members",
    ),
    "wrong_line": (answering(body=b"a 1\nb\n"), "line 2: 'b'"),
    "cut_openmetrics": (answering(Content_Type=OPENMETRICS_TYPE), "line 1.*# EOF"),
    "huge_label": (answering(body=b'a{b="' + b"c" * 50_000 + b'"} 1\n'), "line 1.*16384 bytes"),
    "huge_line": (
        answering(body=b"a 1\n# HELP a " + b"c" * 100_000 + b"\n"),
        "line 2.*65536 bytes",
    ),
    "many_lines": (answering(body=b"#\n" * 500_000), "answers 500000 lines; at most 410000"),
}
SLOW = {"trickling": trickling, "trickling_head": trickling_head, "silent": silent}


def test_every_fault_is_the_fault_of_its_target_alone(server: ExposingServer) -> None:
    """Each has its reason; good targets beside them are scraped."""
    server.expose("/good", "a 1\n")
    for name, (behaviour, _) in FAULTS.items():
        server.behave(f"/{name}", behaviour)
    for name, slow in SLOW.items():
        server.behave(f"/{name}", slow)
    faulty = [target(f"{server.url}/{name}", name) for name in FAULTS]
    late = [target(f"{server.url}/{name}", name, timeout_s=1.0) for name in SLOW]
    good = [target(f"{server.url}/good", f"good-{number}") for number in range(20)]
    piece = scraped(*faulty, *good, *late)
    up = values(piece, "up")
    assert {name for name, value in up.items() if value} == {one.instance for one in good}
    assert len(values(piece, "a")) == 20
    problems = dict(problem.split(": ", 1) for problem in piece.problems)
    for name, (_, reason) in FAULTS.items():
        assert re.search(reason, problems[f"{server.url}/{name}"]), name
    for name in SLOW:
        assert problems[f"{server.url}/{name}"] == "no whole answer within 1 s"
    assert len(problems) == len(FAULTS) + len(SLOW)


def test_a_body_that_ends_with_its_connection_is_whole(server: ExposingServer) -> None:
    """HTTP 1.0, and chunks."""

    def old(handler: ExposingHandler) -> None:
        handler.begin()
        handler.wfile.write(b"a 1\n")

    def chunked(handler: ExposingHandler) -> None:
        handler.send_response_only(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"2\r\na \r\n2\r\n2\n\r\n0\r\n\r\n")

    def promising(handler: ExposingHandler) -> None:
        for status in (100, 103):
            handler.wfile.write(b"HTTP/1.1 %d x\r\nContent-Encoding: br\r\n\r\n" % status)
        handler.answer(200, b"a 3\n", {"Content-Type": TEXT_TYPE})

    server.behave("/promising", promising)
    server.behave("/old", old)
    server.behave("/chunked", chunked)
    piece = scraped(
        *(target(f"{server.url}/{one}", one[0]) for one in ("old", "chunked", "promising"))
    )
    assert values(piece, "a") == {"o": 1.0, "c": 2.0, "p": 3.0}


def test_gzip_in_several_members_is_read_whole(server: ExposingServer) -> None:
    """As `cat a.gz b.gz` makes it; the limit holds for them together."""
    packed = gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n")
    server.behave("/", answering(body=packed, Content_Encoding="gzip"))
    assert values(scraped(target(f"{server.url}/", "x")), "b") == {"x": 2.0}
    too_much = scraped(target(f"{server.url}/", "x"), body_max_bytes=60)
    assert values(too_much, "up") == {"x": 1.0}
    server.behave(
        "/",
        answering(body=b"".join([zlib.compress(b"#" * 40, wbits=31)] * 2), Content_Encoding="gzip"),
    )
    too_much = scraped(target(f"{server.url}/", "x"), body_max_bytes=70)
    assert values(too_much, "up") == {"x": 0.0}


@pytest.mark.parametrize("many", [1, 3, GZIP_MEMBERS_MAX])
def test_gzip_is_unpacked_whatever_way_it_is_divided(many: int) -> None:
    """Members shorter and longer than what is unpacked at a time; a cut one is told of."""
    texts = [random.Random(number).randbytes(1 << 18) for number in range(4)]
    texts += [b"", b"a 1\n"] * ((many - 4) // 2)
    packed = b"".join(map(gzip.compress, texts))
    answer = Answer(200, TEXT_TYPE, "gzip", packed)
    assert unpacked(answer) == b"".join(texts)
    assert unpacked(answer, len(b"".join(texts))) == b"".join(texts)
    with pytest.raises(ScrapeFailedError, match="unpacked"):
        unpacked(answer, len(b"".join(texts)) - 1)
    with pytest.raises(ScrapeFailedError, match="breaks off"):
        unpacked(answer._replace(body=packed[:-1]))


def test_a_target_that_is_not_there_is_down() -> None:
    """The reason is that of the system."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        piece = scraped(target(f"http://127.0.0.1:{port}/m", "x"))
    assert values(piece, "up") == {"x": 0.0}
    assert "cannot be reached: Connection refused" in piece.problems[0]


def test_series_end_when_targets_go_down_or_are_removed(server: ExposingServer) -> None:
    """Between two rounds of one source."""
    server.expose("/a", "m 1\n")
    server.expose("/b", "m 2\n")
    both = [target(f"{server.url}/a", "a"), target(f"{server.url}/b", "b")]
    with ScrapeSource(both, SystemClock()) as source:
        (piece,) = source.read(0, 0)
        assert values(piece, "m") == {"a": 1.0, "b": 2.0}
        assert list(source.read(0, 0, piece.resume)) == []
        server.behave("/a", answering(503))
        source.replace(both[:1])
        (piece,) = source.read(0, 0)
        assert values(piece, "m") == {"a": "stale", "b": "stale"}
        assert values(piece, "up") == {"a": 0.0, "b": "stale"}
        with pytest.raises(InvalidInputError):
            source.replace([both[0], both[0]._replace(url="http://other/")])
        (again,) = source.read(0, 0)
        assert values(again, "m") == {}
        assert again.batch_id != piece.batch_id


def test_two_targets_with_the_same_labels_are_refused_before_anything_is_asked() -> None:
    """Nothing stays open."""
    with pytest.raises(InvalidInputError):
        ScrapeSource([target("http://a/", "x"), target("http://b/", "x")], SystemClock())


def test_a_thousand_targets_are_scraped_at_once(server: ExposingServer) -> None:
    """More than the usual limit on open files would allow; a silent one costs only itself."""
    allow_open_files(4096)  # the endpoints are in this process too
    server.expose("/", "".join(f"m{number} {number}\n" for number in range(20)))
    server.behave("/silent", silent)
    targets = [target(f"{server.url}/", str(number)) for number in range(1000)]
    piece = scraped(*targets, target(f"{server.url}/silent", "silent", timeout_s=3.0))
    assert sum(float(value) for value in values(piece, "up").values()) == 1000
    assert len(piece.batch) == 1000 * 25 + 5


def test_more_targets_than_files_may_be_open_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says how many there may be."""
    monkeypatch.setattr(scraper_module.resource, "getrlimit", lambda _: (64, 300))
    with pytest.raises(PermanentError, match="301 open files; this process may open 300") as caught:
        allow_open_files(301)
    assert "LimitNOFILE" in caught.value.hint


class SteppedClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        """Begin at a fixed moment."""
        self.at = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        """The time."""
        return self.at

    def monotonic_s(self) -> float:
        """Seconds since 1970."""
        return self.at.timestamp()


class LoopRun:
    """A loop that is run over a time of its own."""

    def __init__(self, seconds: float) -> None:
        """Run for so long, on its clock."""
        self.clock = SteppedClock()
        self.ends = self.clock.at + timedelta(seconds=seconds)
        self.ending = asyncio.Event()
        self.taken: list[ScrapeResult] = []
        self.loop = ScrapeLoop(self.clock, self.taken.append, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)
        if self.clock.at >= self.ends:
            self.ending.set()
        await asyncio.gather(*self.loop._running.values(), return_exceptions=True)  # take no time

    async def run(self, targets: list[ScrapeTarget]) -> None:
        """Scrape these targets until the end."""
        await self.loop.replace(targets)
        await self.loop.run(self.ending)


def looped(work: Callable[[], object]) -> None:
    """Run a coroutine function in a loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())  # type: ignore[arg-type]


def test_the_loop_scrapes_each_target_once_an_interval_at_its_offset(
    server: ExposingServer,
) -> None:
    """In a minute six times, ten seconds apart, no two targets at the same moment."""
    server.expose("/", "a 1\n")
    targets = [
        make_target(f"{server.url}/", job="t", instance=str(number), interval_s=10)
        for number in range(5)
    ]
    times: dict[str, list[int]] = {}

    async def work() -> None:
        run = LoopRun(60)
        await run.run(targets)
        for result in run.taken:
            batch = result.batch
            labels = dict(batch.series[int(batch.series_ids[0])].labels)
            times.setdefault(labels["instance"], []).append(int(batch.ts_ms[0]))

    looped(work)
    assert len(times) == 5
    for moments in times.values():
        assert len(moments) == 6
        assert {later - earlier for earlier, later in pairwise(moments)} == {10_000}
    assert len({moments[0] for moments in times.values()}) == 5


def test_the_loop_ends_the_series_of_targets_that_are_removed(server: ExposingServer) -> None:
    """And takes what ends them."""
    server.expose("/", "a 1\n")
    one = make_target(f"{server.url}/", job="t", interval_s=10)
    kinds: list[bool] = []

    async def work() -> None:
        run = LoopRun(11)
        await run.loop.replace([one])
        first = asyncio.ensure_future(run.loop.run(run.ending))
        await first
        await run.loop.replace([])
        kinds.extend(bool(is_stale(result.batch.values).any()) for result in run.taken)

    looped(work)
    assert len(kinds) in {2, 3}
    assert kinds == [False] * (len(kinds) - 1) + [True]


def test_an_error_of_whoever_takes_results_ends_the_loop(server: ExposingServer) -> None:
    """It is not lost in a task."""
    server.expose("/", "a 1\n")

    async def work() -> None:
        run = LoopRun(100)

        def refuse(_: ScrapeResult) -> None:
            raise RuntimeError("disk full")

        run.loop._take = refuse
        await run.run([make_target(f"{server.url}/", job="t", interval_s=10)])

    with pytest.raises(RuntimeError, match="disk full"):
        looped(work)


def test_a_scrape_that_is_cancelled_leaves_no_connection(server: ExposingServer) -> None:
    """The endpoint sees it closed; the next scrape works."""
    server.behave("/", silent)
    one = target(f"{server.url}/", "x")

    async def work() -> None:
        scraper = Scraper()
        scraper.replace([one], 0)
        task = asyncio.ensure_future(scraper.scrape(one, 1))
        while not server.requests:  # noqa: ASYNC110 - counted by another thread
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.expose("/", "a 1\n")
        assert (await scraper.scrape(one, 2)).up
        scraper.close()

    looped(work)
    assert server.connections == 2


def test_a_target_that_changes_its_interval_or_url_is_the_same_target(
    server: ExposingServer,
) -> None:
    """Its series go on: no marker says that they ended."""
    server.expose("/a", "m 1\n")
    server.expose("/b", "m 2\n")
    one = make_target(f"{server.url}/a", job="t", instance="x")
    with ScrapeSource([one], SystemClock()) as source:
        list(source.read(0, 0))
        source.replace([one._replace(interval_ms=60_000)])
        (piece,) = source.read(0, 0)
        assert values(piece, "m") == {"x": 1.0}
        assert {info.interval_ms for info in piece.batch.series.values()} == {60_000}
        source.replace([one._replace(url=f"{server.url}/b")])
        (piece,) = source.read(0, 0)
        assert values(piece, "m") == {"x": 2.0}
        assert values(piece, "scrape_series_added") == {"x": 0.0}
        assert not is_stale(piece.batch.values).any()


def test_the_loop_can_be_told_to_end_or_forget_a_target_while_it_is_scraped(
    server: ExposingServer,
) -> None:
    """What runs is ended at once, and a target still being scraped is not scraped twice."""
    server.behave("/", silent)
    one = make_target(f"{server.url}/", job="t", instance="x", interval_s=60, timeout_s=60)
    other = make_target(f"{server.url}/", job="t", instance="y", interval_s=60, timeout_s=60)
    taken: list[ScrapeResult] = []

    async def work() -> None:
        clock = SteppedClock()
        loop = ScrapeLoop(clock, taken.append)
        await loop.replace([one, other])
        clock.at += timedelta(seconds=60)
        assert loop.step() > 0
        clock.at += timedelta(seconds=60)
        loop.step()
        assert loop.missed == 2
        while server.requests < 2:  # noqa: ASYNC110 - counted by another thread
            await asyncio.sleep(0.01)
        await loop.replace([one])
        ending = asyncio.Event()
        running = asyncio.ensure_future(loop.run(ending))
        ending.set()
        await running
        assert not loop._running

    looped(work)
    assert [len(result.batch) for result in taken] == [0]


def test_a_body_that_is_being_read_when_its_scrape_is_cancelled_is_read_to_its_end(
    server: ExposingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing changes behind the back of who cancelled."""
    server.expose("/", "a 1\n")
    one = target(f"{server.url}/", "x")
    began, may_end = threading.Event(), threading.Event()
    done: list[bool] = []
    answered = ScrapedTarget.answered

    def slowly(*args: Any) -> ScrapeResult:
        began.set()
        may_end.wait(PATIENT_S)
        result = answered(*args)
        done.append(True)
        return result

    monkeypatch.setattr(ScrapedTarget, "answered", slowly)

    async def work() -> None:
        scraper = Scraper()
        scraper.replace([one], 0)
        task = asyncio.ensure_future(scraper.scrape(one, 1))
        while not began.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, may_end.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]
        scraper.close()

    looped(work)


def test_no_target_waits_until_the_large_body_of_another_is_read(
    server: ExposingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read beside the others, and counts as they do."""
    monkeypatch.setattr(scraper_module, "LARGE_BYTES", 100)
    server.expose("/large", "".join(f"a{number} 1\n" for number in range(100)))
    server.expose("/small", "a 1\n")
    small_read = threading.Event()
    answered = ScrapedTarget.answered
    waited: list[bool] = []

    def watched(state: ScrapedTarget, body: bytes, *args: Any) -> ScrapeResult:
        if len(body) > 100:
            waited.append(small_read.wait(5.0))
            return answered(state, body, *args)
        waited.append(True)
        result = answered(state, body, *args)
        small_read.set()
        return result

    monkeypatch.setattr(ScrapedTarget, "answered", watched)
    large, small = target(f"{server.url}/large", "large"), target(f"{server.url}/small", "small")

    async def work() -> None:
        scraper = Scraper()
        scraper.replace([large, small], 0)
        first = asyncio.ensure_future(scraper.scrape(large, 1))
        while not server.requests:  # noqa: ASYNC110 - counted by another thread
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert (await scraper.scrape(small, 1)).up
        assert len((await first).batch) == 105
        scraper.close()

    looped(work)
    assert waited == [True, True]


def test_targets_can_be_replaced_while_the_loop_runs(server: ExposingServer) -> None:
    """Again and again, with scrapes that hang; no new one is lost, no old one is taken."""
    server.behave("/silent", silent)
    server.expose("/", "a 1\n")
    hanging = [target(f"{server.url}/silent", f"s{n}") for n in range(20)]
    quick = [
        make_target(f"{server.url}/", job="t", instance=f"q{n}", interval_s=0.1) for n in range(20)
    ]
    taken: list[ScrapeResult] = []

    async def work() -> None:
        loop, ending = ScrapeLoop(SystemClock(), taken.append), asyncio.Event()
        running = asyncio.ensure_future(loop.run(ending))
        for number in range(30):
            await loop.replace([*hanging[number % 5 :], *quick[: number % 20 + 1]])
            await asyncio.sleep(0.01)
        await loop.replace(quick)
        while sum(result.up for result in taken[-40:]) < 40:  # noqa: ASYNC110 - by the loop
            await asyncio.sleep(0.01)
        ending.set()
        await running

    looped(work)
    assert all(
        result.up or not len(result.batch) or is_stale(result.batch.values).all()
        for result in taken
    )


def test_an_endpoint_that_closes_a_kept_connection_when_asked_is_asked_again(
    server: ExposingServer,
) -> None:
    """Over a new connection: a restart between two scrapes is no failure."""
    asked: set[int] = set()

    def answer_once(handler: ExposingHandler) -> None:
        if id(handler) in asked:
            handler.close_connection = True
            return
        asked.add(id(handler))
        handlers.append(handler)
        handler.answer(200, b"a 1\n", {"Content-Type": TEXT_TYPE})

    handlers: list[ExposingHandler] = []
    server.behave("/", answer_once)
    with ScrapeSource([target(f"{server.url}/", "x")], SystemClock()) as source:
        for _ in range(3):
            (piece,) = source.read(0, 0)
            assert values(piece, "up") == {"x": 1.0}
    assert (server.connections, server.requests) == (3, 5)


def test_what_an_endpoint_says_unasked_is_never_taken_for_an_answer(
    server: ExposingServer,
) -> None:
    """A second answer to one request ends the connection."""

    def twice(handler: ExposingHandler) -> None:
        handler.answer(200, b"a 1\n", {"Content-Type": TEXT_TYPE})
        handler.wfile.flush()
        time.sleep(0.05)
        handler.answer(200, b"a 666\n", {"Content-Type": TEXT_TYPE})

    server.behave("/", twice)
    one = target(f"{server.url}/", "x")

    async def work() -> None:
        scraper = Scraper()
        scraper.replace([one], 0)
        for number in range(3):
            result = await scraper.scrape(one, number + 1)
            assert 666.0 not in result.batch.values.tolist()
            await asyncio.sleep(0.2)
        scraper.close()

    looped(work)
