"""Scraping real endpoints: together, over kept connections; what their samples become."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fleet.errors import InvalidInputError, PermanentError
from resources.clock import SystemClock
from resources.metrics import scraper as scraper_module
from resources.metrics.scrape import ScrapeSource
from resources.metrics.scrape_connection import Answer
from resources.metrics.scraper import allow_open_files
from tests.resources.metrics.scraping import (
    answering,
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
    exposing,
)


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


def test_only_what_is_new_in_a_body_is_read_beside_the_loop(
    server: ExposingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small body that is as the one before but for its numbers is read at once, and the same."""
    handed: list[bytes] = []
    read = scraper_module.Scraper._parsed

    def seen(self: scraper_module.Scraper, state: object, answer: Answer, *rest: object) -> object:
        handed.append(answer.body)
        return read(self, state, answer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(scraper_module.Scraper, "_parsed", seen)
    long = "".join(f'b{{n="{number:05d}"}} 1\n' for number in range(5_000))
    bodies = ["a 1\n", "a 2\n", "a 3\nb 1\n", "a 4\nb 2\n", "a x\n", "a 5\n", long, long]
    found = []
    with ScrapeSource([target(f"{server.url}/")], SystemClock()) as source:
        for body in bodies:
            server.expose("/", body)
            (piece,) = source.read(0, 0)
            (up,) = values(piece, "up").values()
            found.append((up, *values(piece, "a").values()))
    assert found == [
        (1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0), (0.0, "stale"), (1.0, 5.0), (1.0, "stale"),
        (1.0,),
    ]  # fmt: skip
    assert handed == [bodies[at].encode() for at in (0, 2, 4, 5, 6, 7)]


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
