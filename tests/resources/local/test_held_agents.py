"""Agents of a node that has lost its lease for a moment: they end, and they come back."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from fleet.agents import Placement
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_processes import AgentProcesses
from resources.local.zygote_client import AgentProgram
from tests.fakes.clock import ManualClock
from tests.resources.local.fleets import shell


class Zygote:
    """Answers orders when the test says so."""

    def __init__(self) -> None:
        """Nothing was ordered."""
        self.spawned = 0
        self.signals: list[tuple[int, int]] = []

    def spawn(self, program: AgentProgram) -> int:
        """One more process; its reference is its number."""
        del program
        self.spawned += 1
        return self.spawned

    def send_signal(self, pid: int, number: int) -> None:
        """Write it down."""
        self.signals.append((pid, number))


@pytest.mark.parametrize("ends_late", [False, True])
def test_an_agent_that_ends_after_the_lease_is_back_starts_again(
    tmp_path: Path, *, ends_late: bool
) -> None:
    """Its end was ordered while there was none; nobody would ask for it a second time."""

    async def scenario() -> None:
        clock, zygote = ManualClock(), Zygote()
        processes = AgentProcesses(
            zygote,  # type: ignore[arg-type]
            AgentDirectory(clock),
            environment={},
            log_dir=tmp_path,
            stop_grace_s=5.0,
            steady_now=clock.now,
            on_failed=lambda *_: None,
        )
        placed = Placement("a", "net", "w", "n1", "eu", 1, 0, "running", "", clock.now())
        processes.release()
        processes.reconcile([placed], [shell("w", "true")])
        await asyncio.sleep(0.05)
        processes.handle({"event": "started", "ref": 1, "pid": 11})
        processes.hold("the lease is lost")
        assert (11, signal.SIGTERM) in zygote.signals
        if ends_late:
            processes.release()
        processes.handle({"event": "exited", "pid": 11, "code": -signal.SIGTERM})
        await asyncio.sleep(0.05)
        processes.release()
        await asyncio.sleep(0.05)
        assert zygote.spawned == 2

    asyncio.run(scenario())
