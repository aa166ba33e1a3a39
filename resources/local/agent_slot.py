"""One agent of a node, changing with its process; `agent_processes` decides, this remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fleet.agents import Placement, Workload
from fleet.inventory import AgentPhase
from fleet.reconcile import AgentSlot
from fleet.reports import AgentReport
from resources.local.agent_directory import AgentEntry
from resources.local.agent_page import AgentFigures
from resources.local.linux_processes import read_stat
from resources.local.zygote_client import AgentProgram


@dataclass(slots=True)
class Slot:
    """What a node has of one agent; fields change, identity stays."""

    placement: Placement
    workload: Workload
    revision: str
    phase: AgentPhase = AgentPhase.PENDING
    alive: bool = False
    """A process exists, has been asked for, or waits for its turn to be."""
    pid: int | None = None
    ref: int | None = None
    """Of the order to the zygote, until it answers."""
    started_at: datetime | None = None
    kill_at: datetime | None = None
    restart_at: datetime | None = None
    recent_restarts: list[datetime] = field(default_factory=list)
    restarts: int = 0
    evicted: bool = False
    held: bool = False
    """Its process was told to stop because the node was held; it may end after that is over."""
    reason: str = ""
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    sampled: tuple[float, float] | None = None
    """(loop time in s, CPU time in s) of the last reading."""
    ended: asyncio.Event | None = None
    """Set when the process has ended, where somebody waits for it."""

    @property
    def agent_id(self) -> str:
        """Whose slot it is."""
        return self.placement.agent_id

    def view(self) -> AgentSlot:
        """What the plan needs to know."""
        return AgentSlot(
            self.placement.agent_id,
            self.placement.epoch,
            self.revision,
            self.phase,
            self.alive,
            self.kill_at,
            self.restart_at,
        )

    def report(self, heartbeat_at: datetime | None) -> AgentReport:
        """What the node report says."""
        return AgentReport(
            agent_id=self.placement.agent_id,
            epoch=self.placement.epoch,
            phase=self.phase,
            pid=self.pid,
            started_at=self.started_at,
            heartbeat_at=heartbeat_at,
            restarts=self.restarts,
            cpu_percent=self.cpu_percent,
            rss_bytes=self.rss_bytes,
            reason=self.reason,
        )

    def figures(self, entry: AgentEntry) -> AgentFigures:
        """What its page of metrics says; `entry` is what it reported."""
        return AgentFigures(
            agent_id=self.agent_id,
            network_id=entry.network_id,
            workload=self.workload.workload,
            cpu_s=None if self.sampled is None else self.sampled[1],
            cpu_percent=self.cpu_percent,
            rss_bytes=self.rss_bytes,
            restarts=self.restarts,
            meters=entry.meters,
            reported=entry.metrics,
        )

    def program(self, environment: dict[str, str], log_path: Path) -> AgentProgram:
        """What the zygote needs to start it."""
        own = {
            "AGENT_ID": self.placement.agent_id,
            "NETWORK_ID": self.placement.network_id,
            "EPOCH": str(self.placement.epoch),
            "AGENT_ARGUMENTS": json.dumps(self.workload.arguments),
        }
        return AgentProgram(
            agent_id=self.placement.agent_id,
            function=self.workload.function,
            command=self.workload.command,
            environment=environment | own,
            log_path=str(log_path),
        )

    def sample(self, at_s: float) -> None:
        """Read CPU and memory of its process; `at_s` is the loop's time."""
        stat = None if self.pid is None else read_stat(self.pid)
        if stat is None:
            return
        self.rss_bytes = stat.rss_bytes
        if self.sampled is not None and at_s > self.sampled[0]:
            used_s = stat.cpu_s - self.sampled[1]
            self.cpu_percent = round(100.0 * used_s / (at_s - self.sampled[0]), 2)
        self.sampled = (at_s, stat.cpu_s)


def ended_report(placed: Placement) -> AgentReport:
    """What the node says of an agent that it was told to stop, once no process of it is left.

    It bears the epoch of that order: under it, and any older one, nothing of the agent will start
    here again (`fleet.placement.ending`).
    """
    return AgentReport(
        agent_id=placed.agent_id,
        epoch=placed.epoch,
        phase=AgentPhase.STOPPED,
        pid=None,
        started_at=None,
        heartbeat_at=None,
        restarts=0,
        cpu_percent=None,
        rss_bytes=None,
        reason=placed.reason,
    )


def sample_some(slots: Sequence[Slot], first: int, count: int, at_s: float) -> int:
    """Sample `count` slots from the `first` on, in turn; returns where to go on next time."""
    if not slots:
        return 0
    for offset in range(min(count, len(slots))):
        slots[(first + offset) % len(slots)].sample(at_s)
    return (first + count) % len(slots)
