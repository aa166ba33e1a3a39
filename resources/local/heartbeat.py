"""The even beat of a node: a report and a renewal of the lease, on a grid in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import LeaseLostError, TransientError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.reports import NodeReport
from resources.local.node_lease import NodeLease
from resources.local.node_readings import read_fault

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class BeatCounts:
    """Counters since the node started."""

    stored: int = 0
    late: int = 0
    """Stored (or refused) more than one interval after they were due."""
    failed: int = 0
    duration_s: float = 0.0
    """Of the last one, from its due time until it was stored or refused."""


class Heartbeat:
    """Beats for ever; a beat that fails is told and counted, and the next one is tried."""

    def __init__(
        self,
        store: ControlStore,
        lease: NodeLease,
        report: Callable[[], NodeReport],
        clock: Clock,
        *,
        interval_s: float,
        fault_path: Path,
    ) -> None:
        """Beat nothing yet.

        Args:
            store: takes the reports.
            lease: renewed by each beat.
            report: makes one, on the event loop.
            clock: tells whether an ordered delay is in force.
            interval_s: from one due time to the next, seconds.
            fault_path: the node's fault file, read with each beat.
        """
        self._store = store
        self._lease = lease
        self._report = report
        self._clock = clock
        self._interval_s = interval_s
        self._fault_path = fault_path
        self.counts = BeatCounts()

    async def run(self) -> None:
        """Beat until cancelled.

        Raises:
            PermanentError: the store refuses this node for good (it is not declared any more).
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            fault = read_fault(self._fault_path, self._clock.now())
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            await self._beat()
            self.counts.duration_s = loop.time() - due_s
            if self.counts.duration_s > self._interval_s:
                self.counts.late += 1
            # A missed beat is not made up for: the next one is due on the same even grid.
            due_s += self._interval_s * max(1, int((loop.time() - due_s) / self._interval_s) + 1)
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def _beat(self) -> None:
        try:
            await self._lease.beat(self._store, self._report())
        except (LeaseLostError, TransientError) as error:
            self.counts.failed += 1
            _log.warning("heartbeat: %s", error)
        else:
            self.counts.stored += 1
