"""Progress bars on a terminal, with bytes and time left; silence where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet.agents import AgentState
from fleet.moments import microseconds
from fleet.ports.control_store import ControlStore
from fleet.ports.progress import Progress
from fleet.state_cuts import ChangeCursor, StateListing
from resources.silent_progress import SilentProgress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn


class TerminalBars:
    """A bar for each piece of work."""

    def __init__(self, bars: Bars) -> None:
        """Draw on these bars."""
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def advance(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """Move the bar of this work; an estimate that was too low grows with what is done."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total_bytes)
        total = max(total_bytes, done_bytes)
        self._bars.update(self._tasks[what], completed=done_bytes, total=total)

    def finish(self, what: str, seconds: float) -> None:
        """Steps are printed by the command that asked for them."""


@contextmanager
def watched() -> Iterator[Progress]:
    """Bars on standard error while the block runs, when that is a terminal."""
    if not sys.stderr.isatty():
        yield SilentProgress()
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*bar_columns(), console=Console(stderr=True), transient=True) as bars:
        yield TerminalBars(bars)


def bar_columns() -> tuple[ProgressColumn, ...]:
    """What a bar shows: the work, how far it is, bytes, bytes a second, time left."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )


class ReportedStates:
    """A control store that reports how much of its agents' states has been read.

    The estimate of all is what was stored since the newest snapshot: a backup reads just that. It
    grows with each network whose turn comes.

    Args:
        store: the control store; everything else is handed on to it.
        progress: who watches.
        since: network -> moment of its newest snapshot; networks that are backed up, None for
            those without one.
    """

    def __init__(
        self, store: ControlStore, progress: Progress, since: dict[str, datetime | None]
    ) -> None:
        """Nothing is read yet."""
        self._store = store
        self._progress = progress
        self._since = since
        self._total = self._done = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """See `fleet.ports.AgentStateStore.cut_states`."""
        listing = self._store.cut_states(network_id, since, whole=whole)
        at = self._since.get(network_id)
        after_us = microseconds(at) if at is not None else -1
        states = listing.states
        self._total += sum(
            size_bytes
            for size_bytes, updated_us in zip(states.sizes, states.updated_us, strict=True)
            if updated_us > after_us
        )
        self._progress.advance("agent states", self._done, self._total)
        return listing

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """See `fleet.ports.AgentStateStore.states`."""
        found = self._store.states(agent_ids)
        self._done += sum(len(one.body) for one in found)
        self._progress.advance("agent states", self._done, self._total)
        return found
