"""The series that rules leave behind: seen at once by the next rule, kept once a tick.

A tick writes little, but a commit of the metric store is an object: so samples are laid over the
store in memory while rules run, and appended together afterwards.
"""

from collections.abc import Callable

from fleet.errors import TooLargeError
from fleet.metrics.memory_series import MemorySeries, OverlaidReader
from fleet.metrics.samples import SampleBatch
from fleet.metrics.vectors import InstantVector
from fleet.ports.metric_store import MetricReader, MetricStore

WAITING_MAX = 5_000_000
"""Samples that wait while the store cannot be written: some 25 ticks of 100,000 alerts."""


class RuleSamples:
    """A `SampleSink` over a metric store; one thread.

    Committed by `MetricStore.append` in `flush`: killed before it, the samples of the tick are lost
    (alerts are not: their states are kept apart); killed behind it, nothing is written twice, since
    each append has an id of its own.
    """

    def __init__(
        self,
        store: MetricStore,
        writer: str,
        reader: MetricReader | None = None,
        kept: Callable[[SampleBatch], None] = lambda _: None,
    ) -> None:
        """Nothing waits.

        Args:
            store: keeps the samples.
            writer: names this process in the ids of its appends; no two that live have the same.
            reader: asked in place of the store, for example because it holds the newest in memory.
            kept: is given what was appended, so that such a reader holds it, too.
        """
        self._store = store
        self._writer = writer
        self._kept = kept
        self._waiting = MemorySeries()
        self._last_ms = 0
        self.reader: MetricReader = OverlaidReader(
            store if reader is None else reader, self._waiting
        )
        """The store, with what was not kept yet: what rules ask."""

    def write(self, samples: InstantVector) -> None:
        """See the port.

        Raises:
            TooLargeError: too much waits because the store could not be written.
        """
        if len(self._waiting) + len(samples) > WAITING_MAX:
            raise TooLargeError(
                f"{len(self._waiting)} samples of rules wait for the metric store",
                hint="Look why it cannot be written; alerts themselves go on.",
            )
        self._last_ms = max(self._last_ms, samples.at_ms)
        self._waiting.write(samples)

    def flush(self) -> None:
        """Keep what waits.

        Raises:
            LakeUnavailableError: nothing was kept; the next flush takes it along.
        """
        if len(self._waiting) == 0:
            return
        batch = self._waiting.batch()
        self._store.append(batch, f"rules-{self._writer}-{self._last_ms}-{len(batch)}")
        self._waiting.clear()
        self._kept(batch)
