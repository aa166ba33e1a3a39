"""Endpoints that misbehave: each is given up in time, and harms no other."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import threading
import time
import zlib
from typing import Any

import pytest

from fleet.metrics.scraped_target import ScrapedTarget, ScrapeResult
from resources.clock import SystemClock
from resources.metrics import scraper as scraper_module
from resources.metrics.scrape import ScrapeSource
from resources.metrics.scrape_connection import (
    GZIP_MEMBERS_MAX,
    HEAD_MAX_BYTES,
    Answer,
    ScrapeFailedError,
    unpacked,
)
from resources.metrics.scraper import Scraper
from tests.resources.metrics.scraping import (
    PATIENT_S,
    answering,
    looped,
    scraped,
    silent,
    target,
    values,
)
from tests.servers.exposition import (
    OPENMETRICS_TYPE,
    TEXT_TYPE,
    ExposingHandler,
    ExposingServer,
)


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
