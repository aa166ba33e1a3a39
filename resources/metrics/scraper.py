"""Scrapes many targets at once; each has its deadline, and none holds up another.

Bodies are unpacked and parsed in one thread beside the event loop, so that deadlines are kept while
a large body is read; large ones are parsed in another one, so that no small one waits behind them.
A small one that is as the one before but for its numbers, as nearly all are, is read at once: to
hand it to a thread and back takes several times as long.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fleet.errors import PermanentError
from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.scraped_target import ScrapedTarget, ScrapeResult
from fleet.metrics.targets import ScrapeTarget, check_distinct, endpoint_of
from resources.metrics.scrape_connection import (
    BODY_MAX_BYTES,
    Answer,
    ScrapeConnection,
    ScrapeFailedError,
    unpacked,
)

SMALL_BYTES = 64 * 1024
"""Of a body that the event loop looks at: a third of a millisecond, 3 where all lines are short."""
LARGE_BYTES = 4 * 1024 * 1024
"""Unpacked, of a body that others do not wait for: about 40,000 samples, a third of a second."""
FILES_SPARE = 256
"""Open files of the process besides one connection for each target."""


class Scraper:
    """Targets with what is known of each; lives in one event loop, and is closed in it.

    Args:
        body_max_bytes: of one answer, packed and unpacked.
    """

    def __init__(self, body_max_bytes: int = BODY_MAX_BYTES) -> None:
        """Without targets."""
        self._body_max_bytes = body_max_bytes
        self._states: dict[tuple[tuple[str, str], ...], ScrapedTarget] = {}
        self._connections: dict[tuple[tuple[str, str], ...], ScrapeConnection] = {}
        self._parsing = ThreadPoolExecutor(1, "scrape-parsing")
        self._parsing_large = ThreadPoolExecutor(1, "scrape-parsing-large")

    @property
    def targets(self) -> Sequence[ScrapeTarget]:
        """All targets, in the order in which they came."""
        return [state.target for state in self._states.values()]

    def replace(self, targets: Iterable[ScrapeTarget], ts_ms: int) -> list[ScrapeResult]:
        """Have these targets from now on; one whose labels stay is the same target.

        Nodes listen at another port after each start; their series go on.

        Args:
            targets: all of them.
            ts_ms: milliseconds since 1970, when those that are gone ended.

        Returns:
            What ends the series of those that are gone; empty where there are none.

        Raises:
            InvalidInputError: two of them have the same labels; nothing is changed.
            PermanentError: the process may not open as many files.
        """
        wanted = {target.identity: target for target in _distinct(targets)}
        allow_open_files(len(wanted) + FILES_SPARE)
        gone = [identity for identity in self._states if identity not in wanted]
        results = [self._remove(identity, ts_ms) for identity in gone]
        for identity, target in wanted.items():
            state = self._states.get(identity)
            if state is None:
                self._states[identity] = ScrapedTarget(target)
            elif state.target != target:
                state.retarget(target)
                self._connections.pop(identity).close()
            self._connections.setdefault(identity, self._connection(target))
        return results

    async def scrape(self, target: ScrapeTarget, ts_ms: int) -> ScrapeResult:
        """Scrape one target; it never raises for what the target does.

        Args:
            target: one of `targets`; not while it is being scraped.
            ts_ms: the time of its samples, milliseconds since 1970.
        """
        state, connection = self._states[target.identity], self._connections[target.identity]
        started_s = time.monotonic()
        reason, answer = "", None
        try:
            async with asyncio.timeout(target.timeout_ms / 1000):
                answer = await connection.get()
        except TimeoutError:
            connection.close()
            reason = f"no whole answer within {target.timeout_ms / 1000:g} s"
        except ScrapeFailedError as error:
            reason = str(error)
        duration_s = time.monotonic() - started_s
        if answer is None:
            return state.failed(reason, ts_ms, duration_s)
        result = _read_as_before(state, answer, ts_ms, duration_s)
        if result is not None:
            return result
        loop = asyncio.get_running_loop()
        read = loop.create_task(self._read(state, answer, ts_ms, duration_s))
        try:
            return await asyncio.shield(read)
        except asyncio.CancelledError:
            await asyncio.wait([read])  # what is known of the target must not change afterwards
            raise

    async def scrape_all(self, ts_ms: int) -> list[ScrapeResult]:
        """Scrape all targets now, together; results in their order."""
        return list(await asyncio.gather(*(self.scrape(one, ts_ms) for one in self.targets)))

    def close(self) -> None:
        """End all connections; to be called when nothing is being scraped."""
        for connection in self._connections.values():
            connection.close()
        self._parsing.shutdown()
        self._parsing_large.shutdown()

    async def _read(
        self, state: ScrapedTarget, answer: Answer, ts_ms: int, duration_s: float
    ) -> ScrapeResult:
        loop = asyncio.get_running_loop()
        args = state, answer, ts_ms, duration_s
        found = await loop.run_in_executor(self._parsing, self._parsed, *args)
        if isinstance(found, ScrapeResult):
            return found
        large = self._parsing_large
        return await loop.run_in_executor(large, state.answered, *found, ts_ms, duration_s)

    def _parsed(
        self, state: ScrapedTarget, answer: Answer, ts_ms: int, duration_s: float
    ) -> ScrapeResult | tuple[bytes, ExpositionFormat]:
        """What the scrape gave; of a large body the body itself, unpacked."""
        try:
            form = format_of(answer)
            body = unpacked(answer, self._body_max_bytes)
        except ScrapeFailedError as error:
            return state.failed(str(error), ts_ms, duration_s)
        if len(body) > LARGE_BYTES:
            return body, form
        return state.answered(body, form, ts_ms, duration_s)

    def _connection(self, target: ScrapeTarget) -> ScrapeConnection:
        return ScrapeConnection(
            endpoint_of(target.url), target.timeout_ms / 1000, self._body_max_bytes
        )

    def _remove(self, identity: tuple[tuple[str, str], ...], ts_ms: int) -> ScrapeResult:
        self._connections.pop(identity).close()
        return self._states.pop(identity).removed(ts_ms)


def _read_as_before(
    state: ScrapedTarget, answer: Answer, ts_ms: int, duration_s: float
) -> ScrapeResult | None:
    """What a small body gives that is as the one before; None where it has to be read with care."""
    if len(answer.body) > SMALL_BYTES or answer.encoding:
        return None
    try:
        form = format_of(answer)
    except ScrapeFailedError:
        return None
    return state.answered_as_before(answer.body, form, ts_ms, duration_s)


def format_of(answer: Answer) -> ExpositionFormat:
    """The format of a body by its status and content type.

    Raises:
        ScrapeFailedError: it is none that is read here.
    """
    if 300 <= answer.status < 400:
        raise ScrapeFailedError(f"answers {answer.status}; redirects are not followed")
    if answer.status != 200:
        raise ScrapeFailedError(f"answers {answer.status}")
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind == "application/openmetrics-text":
        return ExpositionFormat.OPENMETRICS
    if kind in {"", "text/plain"}:
        return ExpositionFormat.TEXT
    raise ScrapeFailedError(f"answers with {kind}, which is neither text/plain nor OpenMetrics")


def allow_open_files(count: int) -> None:
    """Raise the process' own limit on open files as far as it may, if it is lower than `count`.

    Raises:
        PermanentError: it may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise PermanentError(
            f"scraping needs {count} open files; this process may open {hard}",
            hint="Raise the limit (ulimit -Hn, LimitNOFILE), or scrape fewer targets.",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _distinct(targets: Iterable[ScrapeTarget]) -> list[ScrapeTarget]:
    found = list(targets)
    check_distinct(found)
    return found
