"""The agents of one node as processes: what is wanted against what runs.

Owns the slots, one per agent, and turns the actions of `fleet.reconcile.plan_reconcile` into
orders for the zygote. Lives on the event loop's thread only. Invariants: at most one process per
agent; a process is asked for only under a live lease and only under the epoch of its placement;
a slot's `alive` ends only with the zygote's word that the process has been reaped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.agents import Placement, Workload, decide_restart
from fleet.errors import InvalidInputError, NotFoundError, StaleEpochError
from fleet.inventory import AgentPhase
from fleet.reconcile import (
    ActionKind,
    AgentSlot,
    ReconcileAction,
    WantedAgent,
    next_due,
    plan_reconcile,
)
from fleet.reports import AgentReport
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_logs import last_line
from resources.local.linux_processes import read_stat
from resources.local.zygote_client import AgentProgram, ZygoteClient

EXIT_REFUSED = 71
"""Exit code that stands for an agent whose process could not be made (EX_OSERR of sysexits.h)."""

SAMPLES_PER_REPORT = 256
"""Agents whose CPU and memory are read for one report, in turn: bounds its cost to some 5 ms."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """One agent of this node, changing with its process."""

    placement: Placement
    workload: Workload
    revision: str
    phase: AgentPhase = AgentPhase.PENDING
    alive: bool = False
    pid: int | None = None
    ref: int | None = None
    started_at: datetime | None = None
    kill_at: datetime | None = None
    restart_at: datetime | None = None
    recent_restarts: list[datetime] = field(default_factory=list)
    restarts: int = 0
    evicted: bool = False
    reason: str = ""
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    sampled: tuple[float, float] | None = None
    """(loop time in s, CPU time in s) of the last reading."""
    ended: asyncio.Event | None = None
    """Set when the process has ended, where somebody waits for it."""

    def view(self) -> AgentSlot:
        placed = self.placement
        return AgentSlot(
            placed.agent_id,
            placed.epoch,
            self.revision,
            self.phase,
            self.alive,
            self.kill_at,
            self.restart_at,
        )


class AgentProcesses:
    """Reconciles processes with placements; see `reconcile`, `stop_all` and `handle`."""

    def __init__(
        self,
        zygote: ZygoteClient,
        directory: AgentDirectory,
        *,
        environment: dict[str, str],
        log_dir: Path,
        stop_grace_s: float,
        steady_now: Callable[[], datetime],
        on_failed: Callable[[str, str], None],
    ) -> None:
        """Start without agents and held: nothing starts before the first `release`.

        Args:
            zygote: starts and signals processes.
            directory: told of each agent before its process starts.
            environment: given to every agent beside its own variables.
            log_dir: folder of the agents' logs.
            stop_grace_s: time between SIGTERM and SIGKILL.
            steady_now: wall clock that does not jump (see `supervisor.SteadyClock`).
            on_failed: told agent_id and reason when an agent is given up.
        """
        self._zygote = zygote
        self._directory = directory
        self._environment = environment
        self._log_dir = log_dir
        self._stop_grace = timedelta(seconds=stop_grace_s)
        self._now = steady_now
        self._on_failed = on_failed
        self._wanted: dict[str, tuple[Placement, Workload, str]] = {}
        self._slots: dict[str, _Slot] = {}
        self._by_pid: dict[int, _Slot] = {}
        self._by_ref: dict[int, _Slot] = {}
        self._held = "the node has no lease yet"
        self._tick_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_sample = 0
        self.restarts_total: dict[str, int] = {}
        """Restarts by workload since this supervisor started."""

    # -- orders ---------------------------------------------------------------------------------

    def reconcile(
        self, placements: Sequence[Placement], workloads: Sequence[Workload]
    ) -> list[ReconcileAction]:
        """Take over what is wanted now, and do the next step of each agent towards it."""
        known = {workload.workload: workload for workload in workloads}
        revisions = {name: _revision(workload) for name, workload in known.items()}
        wanted = {}
        for placed in placements:
            if placed.desired != "running":
                continue
            if placed.workload not in known:
                _log.error("agent %s: workload %s is unknown", placed.agent_id, placed.workload)
                continue
            entry = (placed, known[placed.workload], revisions[placed.workload])
            wanted[placed.agent_id] = entry
        self._wanted = wanted
        return self.tick()

    def tick(self) -> list[ReconcileAction]:
        """Do what is due now, and come back by itself when the next thing is."""
        self._tick_handle = None
        slots = [slot.view() for slot in self._slots.values()]
        wanted = [
            WantedAgent(agent_id, placed.epoch, revision)
            for agent_id, (placed, _, revision) in self._wanted.items()
        ]
        actions = plan_reconcile([] if self._held else wanted, slots, self._now())
        if self._held:  # what a slot remembers (failed, evicted) must outlive the hold
            actions = [action for action in actions if action.kind != ActionKind.FORGET]
        for action in actions:
            _log.debug("%s %s: %s", action.kind, action.agent_id, action.reason)
            self._carry_out(action)
        self._schedule()
        return actions

    def hold(self, reason: str) -> None:
        """Start nothing and stop every agent, with grace; `reason` says why (lease, shutdown)."""
        self._held = reason
        self.tick()

    def release(self) -> None:
        """Start agents again; what was stopped by `hold` starts at the next tick."""
        self._held = ""
        self.soon()

    async def evict(self, agent_id: str, epoch: int, grace_s: float) -> str:
        """Stop one agent; it stays down until it is placed anew. Returns once it is gone.

        Raises:
            NotFoundError: the agent is not on this node.
            StaleEpochError: it runs here under another epoch.
        """
        slot = self._slots.get(agent_id)
        if slot is None:
            raise NotFoundError(f"agent {agent_id} is not on this node")
        if slot.placement.epoch != epoch:
            raise StaleEpochError(
                f"agent {agent_id}: epoch {epoch} is not {slot.placement.epoch}, which runs here",
                hint="Read the placement again.",
            )
        slot.evicted = True
        if not slot.alive:
            slot.phase, slot.restart_at, slot.reason = AgentPhase.STOPPED, None, "evicted"
            return "was not running"
        slot.ended = slot.ended or asyncio.Event()
        self._stop(slot, "evicted", timedelta(seconds=grace_s))
        self._schedule()
        await slot.ended.wait()
        return slot.reason

    async def stop_all(self, reason: str) -> None:
        """Stop every agent with grace and wait until all are reaped."""
        self.hold(reason)
        ends = []
        for slot in self._slots.values():
            if slot.alive:
                slot.ended = slot.ended or asyncio.Event()
                ends.append(slot.ended)
        for ended in ends:
            await ended.wait()

    def soon(self) -> None:
        """Tick once the events at hand are handled: a storm of exits costs one plan."""
        if self._tick_handle is None:
            self._tick_handle = asyncio.get_running_loop().call_soon(self.tick)

    # -- events ---------------------------------------------------------------------------------

    def handle(self, event: dict[str, Any]) -> None:
        """Take over an event of the zygote."""
        match event["event"]:
            case "started":
                slot = self._by_ref.pop(event["ref"])
                slot.pid = event["pid"]
                self._by_pid[event["pid"]] = slot
                if slot.kill_at is not None:  # its stop was ordered before its pid was known
                    self._zygote.send_signal(event["pid"], signal.SIGTERM)
                else:
                    slot.phase, slot.reason = AgentPhase.RUNNING, "its process runs"
            case "exited":
                slot = self._by_pid.pop(event["pid"])
                self._end(slot, event["code"], "")
            case "refused":
                slot = self._by_ref.pop(event["ref"])
                self._end(slot, EXIT_REFUSED, event["reason"])
            case "fenced":
                _log.error("the zygote killed %d agents: the lease ran out", event["killed"])
            case "lost":
                self._by_pid.clear()
                self._by_ref.clear()
                for slot in self._slots.values():
                    if slot.alive:
                        self._end(slot, -signal.SIGKILL, "the zygote ended")
        self.soon()

    def reports(self) -> tuple[AgentReport, ...]:
        """All slots for the node report, ordered by agent_id."""
        self._sample()
        return tuple(self._report(self._slots[agent_id]) for agent_id in sorted(self._slots))

    def counts(self) -> dict[tuple[str, str], int]:
        """Agents by (workload, phase)."""
        counts: dict[tuple[str, str], int] = {}
        for slot in self._slots.values():
            key = (slot.workload.workload, slot.phase.value)
            counts[key] = counts.get(key, 0) + 1
        return counts

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory by workload, as last read; shared pages count for each agent."""
        total: dict[str, int] = {}
        for slot in self._slots.values():
            name = slot.workload.workload
            total[name] = total.get(name, 0) + (slot.rss_bytes or 0)
        return total

    def log_paths(self) -> list[Path]:
        """Log files of the agents that this node has."""
        return [self._log_path(agent_id) for agent_id in self._slots]

    # -- one agent ------------------------------------------------------------------------------

    def _carry_out(self, action: ReconcileAction) -> None:
        slot = self._slots.get(action.agent_id)
        if action.kind == ActionKind.START:
            self._start(action)
            return
        assert slot is not None, "only an agent with a slot is stopped, killed or forgotten"
        match action.kind:
            case ActionKind.STOP:
                self._stop(slot, self._held or action.reason, self._stop_grace)
            case ActionKind.KILL:
                slot.reason = f"{slot.reason}; {action.reason}"
                slot.kill_at = self._now() + self._stop_grace
                if slot.pid is not None:
                    self._zygote.send_signal(slot.pid, signal.SIGKILL)
            case ActionKind.FORGET:
                del self._slots[action.agent_id]
                self._directory.forget(action.agent_id)

    def _start(self, action: ReconcileAction) -> None:
        placed, workload, revision = self._wanted[action.agent_id]
        slot = self._slots.get(action.agent_id)
        fresh = slot is None or (slot.placement.epoch, slot.revision) != (placed.epoch, revision)
        if slot is None or fresh:
            slot = self._slots[action.agent_id] = _Slot(placed, workload, revision)
        elif slot.phase == AgentPhase.BACKING_OFF:
            slot.recent_restarts.append(self._now())
            slot.restarts += 1
            self.restarts_total[placed.workload] = self.restarts_total.get(placed.workload, 0) + 1
        slot.restart_at, slot.kill_at, slot.sampled = None, None, None
        slot.phase, slot.reason = AgentPhase.PENDING, action.reason
        slot.started_at = self._now()
        try:
            self._directory.admit(placed.agent_id, placed.network_id, workload, placed.epoch)
            slot.ref = self._zygote.spawn(self._program(placed, workload))
        except (InvalidInputError, StaleEpochError) as error:
            slot.phase, slot.reason = AgentPhase.FAILED, str(error)
            self._on_failed(placed.agent_id, slot.reason)
            return
        slot.alive = True
        self._by_ref[slot.ref] = slot

    def _program(self, placed: Placement, workload: Workload) -> AgentProgram:
        environment = self._environment | {
            "AGENT_ID": placed.agent_id,
            "NETWORK_ID": placed.network_id,
            "EPOCH": str(placed.epoch),
            "AGENT_ARGUMENTS": json.dumps(workload.arguments),
        }
        return AgentProgram(
            agent_id=placed.agent_id,
            function=workload.function,
            command=workload.command,
            environment=environment,
            log_path=str(self._log_path(placed.agent_id)),
        )

    def _log_path(self, agent_id: str) -> Path:
        return self._log_dir / f"{agent_id}.log"

    def _stop(self, slot: _Slot, reason: str, grace: timedelta) -> None:
        self._directory.dismiss(slot.placement.agent_id, reason)
        slot.kill_at = self._now() + grace
        slot.reason = reason
        if slot.pid is not None:
            self._zygote.send_signal(slot.pid, signal.SIGTERM)

    def _end(self, slot: _Slot, code: int, cause: str) -> None:
        """Record the end of a process and decide what follows."""
        stopping = slot.kill_at is not None
        slot.alive, slot.pid, slot.ref, slot.kill_at = False, None, None, None
        slot.cpu_percent = slot.rss_bytes = None
        if slot.ended is not None:
            slot.ended.set()
            slot.ended = None
        now = self._now()
        if stopping or self._held:
            slot.phase = AgentPhase.STOPPED
            slot.restart_at = now if self._held and not slot.evicted else None
            slot.reason = slot.reason if stopping else f"{self._held}; {cause or 'killed'}"
            return
        policy = slot.workload.restart
        since = now - timedelta(seconds=policy.window_s)
        slot.recent_restarts = [at for at in slot.recent_restarts if at > since]
        verdict = decide_restart(policy, code, slot.recent_restarts, now)
        said = cause or (last_line(self._log_path(slot.placement.agent_id)) if code else "")
        slot.reason = f"{verdict.reason}; {said}" if said else verdict.reason
        if verdict.action == "restart":
            slot.phase = AgentPhase.BACKING_OFF
            slot.restart_at = now + timedelta(seconds=verdict.delay_s)
        elif verdict.action == "complete":
            slot.phase = AgentPhase.COMPLETED
        else:
            slot.phase = AgentPhase.FAILED
            self._on_failed(slot.placement.agent_id, slot.reason)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        views = [slot.view() for slot in self._slots.values()]
        if self._held:  # restarts wait for the release
            views = [view._replace(restart_at=None) for view in views]
        due = next_due(views)
        if due is not None:
            delay_s = max(0.0, (due - self._now()).total_seconds())
            self._timer = asyncio.get_running_loop().call_later(delay_s + 0.001, self.tick)

    # -- readings -------------------------------------------------------------------------------

    def _sample(self) -> None:
        pids = sorted(self._by_pid)
        if not pids:
            return
        at_s = asyncio.get_running_loop().time()
        for offset in range(min(SAMPLES_PER_REPORT, len(pids))):
            slot = self._by_pid[pids[(self._next_sample + offset) % len(pids)]]
            stat = read_stat(slot.pid or 0)
            if stat is None:
                continue
            slot.rss_bytes = stat.rss_bytes
            if slot.sampled is not None and at_s > slot.sampled[0]:
                used_s = stat.cpu_s - slot.sampled[1]
                slot.cpu_percent = round(100.0 * used_s / (at_s - slot.sampled[0]), 2)
            slot.sampled = (at_s, stat.cpu_s)
        self._next_sample = (self._next_sample + SAMPLES_PER_REPORT) % len(pids)

    def _report(self, slot: _Slot) -> AgentReport:
        entry = self._directory.entry(slot.placement.agent_id)
        return AgentReport(
            agent_id=slot.placement.agent_id,
            epoch=slot.placement.epoch,
            phase=slot.phase,
            pid=slot.pid,
            started_at=slot.started_at,
            heartbeat_at=None if entry is None else entry.heartbeat_at,
            restarts=slot.restarts,
            cpu_percent=slot.cpu_percent,
            rss_bytes=slot.rss_bytes,
            reason=slot.reason,
        )


def _revision(workload: Workload) -> str:
    """A digest of what the process is made from; other fields may change while it runs."""
    made_from = [workload.function, workload.command, sorted(workload.arguments.items())]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
