"""Agents of a node that has lost its lease for a moment: they end, and they come back."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from fleet.agents import Placement
from fleet.inventory import AgentPhase
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


def held_processes(clock: ManualClock, zygote: Zygote, log_dir: Path) -> AgentProcesses:
    """Of a node that has no lease yet."""
    return AgentProcesses(
        zygote,  # type: ignore[arg-type]
        AgentDirectory(clock),
        environment={},
        log_dir=log_dir,
        stop_grace_s=5.0,
        steady_now=clock.now,
        on_failed=lambda *_: None,
    )


@pytest.mark.parametrize("ends_late", [False, True])
def test_an_agent_that_ends_after_the_lease_is_back_starts_again(
    tmp_path: Path, *, ends_late: bool
) -> None:
    """Its end was ordered while there was none; nobody would ask for it a second time."""

    async def scenario() -> None:
        clock, zygote = ManualClock(), Zygote()
        processes = held_processes(clock, zygote, tmp_path)
        placed = Placement("a", "net", "w", "n1", "eu", 1, 0, "running", "", clock.now())
        processes.release()
        processes.reconcile([placed], [shell("w", "true")])
        processes.handle({"event": "started", "ref": 1, "pid": 11})
        processes.hold("the lease is lost")
        assert (11, signal.SIGTERM) in zygote.signals
        if ends_late:
            processes.release()
        processes.handle({"event": "exited", "pid": 11, "code": -signal.SIGTERM})
        await asyncio.sleep(0)  # a turn of the loop, in which the end is acted on
        processes.release()
        assert zygote.spawned == 2

    asyncio.run(scenario())


def test_the_end_of_a_stopped_agent_is_reported_under_the_order_to_stop(tmp_path: Path) -> None:
    """Not before its process is reaped, and not under the epoch that it ran under."""

    async def scenario() -> None:
        clock, zygote = ManualClock(), Zygote()
        processes = held_processes(clock, zygote, tmp_path)
        placed = Placement("a", "net", "w", "n1", "eu", 1, 0, "running", "", clock.now())
        other = placed._replace(agent_id="b", epoch=4, desired="stopped", reason="scaled to 1")
        work = [shell("w", "true")]

        def told() -> list[tuple[str, int, AgentPhase]]:
            return [(one.agent_id, one.epoch, one.phase) for one in processes.reports()]

        ended = ("b", 4, AgentPhase.STOPPED)
        processes.release()
        processes.reconcile([placed, other], work)
        processes.handle({"event": "started", "ref": 1, "pid": 11})
        assert told() == [("a", 1, AgentPhase.RUNNING), ended]
        stopped = placed._replace(epoch=2, desired="stopped")
        processes.reconcile([stopped, other], work)
        assert (11, signal.SIGTERM) in zygote.signals
        assert told() == [("a", 1, AgentPhase.RUNNING), ended], "its process may still work"
        processes.handle({"event": "exited", "pid": 11, "code": -signal.SIGTERM})
        assert told() == [("a", 2, AgentPhase.STOPPED), ended]
        await asyncio.sleep(0)  # a turn of the loop, in which the end is acted on
        processes.reconcile([], work)
        assert told() == []

    asyncio.run(scenario())
