"""Scraped endpoints as a source of samples: one round of all targets, and the loop for a collector.

A round is a source of the present: it has no past to be read again. The loop scrapes each target at
its own offset for as long as it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

import uvloop

from fleet.metrics.scrape_schedule import DueScrape, ScrapeSchedule
from fleet.metrics.scraped_target import ScrapeResult
from fleet.metrics.targets import ScrapeTarget, check_distinct
from fleet.moments import microseconds
from fleet.ports.clock import Clock
from fleet.ports.metric_source import SourcePiece
from resources.metrics.pieces import content_name, merged
from resources.metrics.scrape_connection import BODY_MAX_BYTES
from resources.metrics.scraper import Scraper

ALIGNED_MS = 2
"""A scrape that begins so little after it was due bears the due time: even distances take less
room. Source: Prometheus, scrape.go (`ScrapeTimestampTolerance`)."""
REPLACING_S = 0.01
"""How long the loop waits for targets that are being replaced: scrapes of old ones are ended."""
LOOK_MS = 1000
"""How long the loop sleeps at most, so that new targets and a clock that was set are noticed."""


class ScrapeSource:
    """All targets as a `MetricSource`; keeps connections and what is known of the targets.

    Not for two threads at once, and not inside of a running event loop.

    Args:
        targets: of which no two have the same labels.
        clock: gives the time of the samples.
        body_max_bytes: of one answer.
    """

    def __init__(
        self,
        targets: Iterable[ScrapeTarget],
        clock: Clock,
        *,
        body_max_bytes: int = BODY_MAX_BYTES,
    ) -> None:
        """Nothing is connected before the first read.

        Raises:
            InvalidInputError: two targets have the same labels.
        """
        self._clock = clock
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._scraper = Scraper(body_max_bytes)
        self._ended: list[ScrapeResult] = []
        try:
            self.replace(targets)
        except Exception:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def replace(self, targets: Iterable[ScrapeTarget]) -> None:
        """Have these targets from now on; the next piece ends the series of those that are gone.

        Raises:
            InvalidInputError: two targets have the same labels; nothing is changed.
        """
        self._ended += self._scraper.replace(targets, now_ms(self._clock))

    def read(self, start_ms: int, end_ms: int, resume: str = "") -> Iterator[SourcePiece]:
        """Scrape all targets once, now; see `MetricSource.read`.

        The range is not looked at: samples are of the present, or of the times that targets tell.
        A target that does not answer is a problem of the piece, and its `up` is 0. Behind the
        piece (`resume`) there is nothing.
        """
        del start_ms, end_ms
        if resume:
            return
        ts_ms = now_ms(self._clock)
        results, self._ended = self._ended, []
        self._runner.run(self._scrape_into(results, ts_ms))
        yield piece_of(results, ts_ms)

    async def _scrape_into(self, results: list[ScrapeResult], ts_ms: int) -> None:
        """Not returned: a runner may write out what its task returns, which takes time."""
        results += await self._scraper.scrape_all(ts_ms)

    def close(self) -> None:
        """End all connections."""
        self._runner.run(_called(self._scraper.close))
        self._runner.close()


class ScrapeLoop:
    """Scrapes each target at its own offset until it is told to end.

    Args:
        clock: whose time decides what is due.
        take: is given each result as it comes, in the event loop; must be quick.
        sleep: waits for seconds; tests give one that moves their clock.
        body_max_bytes: of one answer.
    """

    def __init__(
        self,
        clock: Clock,
        take: Callable[[ScrapeResult], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        body_max_bytes: int = BODY_MAX_BYTES,
    ) -> None:
        """Without targets."""
        self._clock = clock
        self._take = take
        self._sleep = sleep
        self._scraper = Scraper(body_max_bytes)
        self._schedule = ScrapeSchedule()
        self._running: dict[ScrapeTarget, asyncio.Task[None]] = {}
        self._failure: BaseException | None = None
        self._replacing = False
        self.missed = 0
        """Scrapes left out because the one before of the same target had not ended."""

    @property
    def targets(self) -> int:
        """How many are scraped."""
        return len(self._scraper.targets)

    async def replace(self, targets: Iterable[ScrapeTarget]) -> None:
        """Have these targets from now on; takes what ends the series of those that are gone.

        Raises:
            InvalidInputError: two targets have the same labels; nothing is changed.
            PermanentError: the process may not open as many files; nothing is changed.
        """
        wanted = list(targets)
        check_distinct(wanted)
        self._replacing = True
        try:
            for target in set(self._schedule.targets) - set(wanted):
                await self._end(target)
            results = self._scraper.replace(wanted, now_ms(self._clock))
            self._schedule.replace(wanted, now_ms(self._clock))
        finally:
            self._replacing = False
        for result in results:
            self._take(result)

    async def run(self, ending: asyncio.Event) -> None:
        """Scrape what is due until `ending` is set; then end what runs, and all connections.

        An error of `take` ends it and is raised here.
        """
        try:
            while not ending.is_set():
                await self._sleep(self.step())
                if self._failure is not None:
                    raise self._failure
        finally:
            for target in list(self._running):
                await self._end(target)
            self._scraper.close()

    def step(self) -> float:
        """Begin what is due; seconds until to look again."""
        if self._replacing:
            return REPLACING_S
        moment_ms = now_ms(self._clock)
        for due in self._schedule.take_due(moment_ms):
            if due.target in self._running:
                self.missed += 1
                continue
            task = asyncio.get_running_loop().create_task(self._scrape(due, moment_ms))
            self._running[due.target] = task
            task.add_done_callback(partial(self._ended, due.target))
        next_ms = self._schedule.next_due_ms()
        wait_ms = LOOK_MS if next_ms is None else min(LOOK_MS, next_ms - moment_ms)
        return max(0, wait_ms) / 1000

    async def _scrape(self, due: DueScrape, moment_ms: int) -> None:
        tolerated_ms = min(ALIGNED_MS, due.target.interval_ms // 100)
        ts_ms = due.due_ms if moment_ms - due.due_ms <= tolerated_ms else moment_ms
        self._take(await self._scraper.scrape(due.target, ts_ms))

    def _ended(self, target: ScrapeTarget, task: asyncio.Task[None]) -> None:
        self._running.pop(target, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error

    async def _end(self, target: ScrapeTarget) -> None:
        task = self._running.pop(target, None)
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def piece_of(results: Sequence[ScrapeResult], ts_ms: int) -> SourcePiece:
    """What several scrapes gave, as one piece; its name comes from its content."""
    batch = merged([result.batch for result in results])
    problems = tuple(problem for result in results for problem in result.problems)
    return SourcePiece(batch, content_name(f"scrape-{ts_ms}", batch), str(ts_ms), problems)


def now_ms(clock: Clock) -> int:
    """The clock's time in whole milliseconds since 1970."""
    return microseconds(clock.now()) // 1000


async def _called(work: Callable[[], None]) -> None:
    work()
