"""The loop: each target at its offset, changes while it runs, cancelled scrapes."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from fleet.metrics.samples import is_stale
from fleet.metrics.scraped_target import ScrapedTarget, ScrapeResult
from fleet.metrics.targets import make_target
from resources.clock import SystemClock
from resources.metrics.scrape import ScrapeLoop, ScrapeSource
from resources.metrics.scraper import Scraper
from tests.resources.metrics.scraping import (
    PATIENT_S,
    LoopRun,
    SteppedClock,
    looped,
    silent,
    target,
    values,
)
from tests.servers.exposition import (
    ExposingServer,
)


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
    late = (f"{server.url}/: no whole answer within 0.1 s",)  # of a quick one, on a busy machine
    assert all(
        result.up
        or not len(result.batch)
        or is_stale(result.batch.values).all()
        or result.problems == late
        for result in taken
    )
