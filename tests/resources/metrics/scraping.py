"""What tests of scraping share: targets, a round of them, a running loop, endpoints that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import uvloop

from fleet.metrics.labels import METRIC_NAME
from fleet.metrics.samples import is_stale
from fleet.metrics.scraped_target import ScrapeResult
from fleet.metrics.targets import ScrapeTarget, make_target
from fleet.ports.metric_source import SourcePiece
from resources.clock import SystemClock
from resources.metrics.scrape import ScrapeLoop, ScrapeSource
from tests.servers.exposition import TEXT_TYPE, ExposingHandler

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


def silent(handler: ExposingHandler) -> None:
    """No answer."""
    handler.owner.ended.wait(PATIENT_S)
    handler.close_connection = True


def answering(
    status: int = 200, body: bytes = b"a 1\n", **headers: str
) -> Callable[[ExposingHandler], None]:
    """An answer that is complete and no good."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(handler: ExposingHandler) -> None:
        handler.answer(status, body, {"Content-Type": TEXT_TYPE} | named)

    return answer


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
