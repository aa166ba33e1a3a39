"""The agents of one node as processes: what is wanted against what runs.

Owns the slots, one per agent, and turns the actions of `fleet.reconcile.plan_reconcile` into
orders for the zygote. Lives on the event loop's thread only. Invariants: at most one process per
agent; a process is asked for only under a live lease and only under the epoch of its placement;
a slot's `alive` ends only with the zygote's word that the process has been reaped.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.agents import Placement, Workload, decide_restart, revision_of
from fleet.errors import InvalidInputError, NotFoundError, StaleEpochError
from fleet.inventory import AgentPhase
from fleet.reconcile import (
    ActionKind,
    ReconcileAction,
    WantedAgent,
    plan_reconcile,
)
from fleet.reports import AgentReport
from resources.local.agent_alarms import AgentAlarms
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_logs import last_line
from resources.local.agent_page import AgentFigures, render_agents
from resources.local.agent_slot import Slot, ended_report, sample_some
from resources.local.endpoint_registrar import Answering
from resources.local.start_pacer import StartPacer
from resources.local.zygote_client import ZygoteClient

EXIT_REFUSED = 71
"""Exit code that stands for an agent whose process could not be made (EX_OSERR of sysexits.h)."""

SAMPLES_PER_REPORT = 256
"""Agents whose CPU and memory are read for one report, in turn: bounds its cost to some 5 ms."""

_log = logging.getLogger(__name__)


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
        self._stopped: dict[str, Placement] = {}
        """Placed here and told to stop: their end is reported under the epoch of that order."""
        self._slots: dict[str, Slot] = {}
        self._by_pid: dict[int, Slot] = {}
        self._by_ref: dict[int, Slot] = {}
        self._held = "the node has no lease yet"
        self._alarms = AgentAlarms(steady_now, self._act)
        self._pacer = StartPacer(self._spawn, self._is_up)
        self._next_sample = 0
        self.restarts_total: dict[str, int] = {}
        """Restarts by workload since this supervisor started."""

    # -- orders ---------------------------------------------------------------------------------

    def reconcile(
        self, placements: Sequence[Placement], workloads: Sequence[Workload]
    ) -> list[ReconcileAction]:
        """Take over what is wanted now, and do the next step of each agent towards it."""
        known = {workload.workload: workload for workload in workloads}
        revisions = {name: revision_of(workload) for name, workload in known.items()}
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
        self._stopped = {one.agent_id: one for one in placements if one.desired == "stopped"}
        return self.tick()

    def tick(self) -> list[ReconcileAction]:
        """Plan and act for every agent of this node."""
        self._alarms.forget_soon()
        return self._act([*self._wanted, *(self._slots.keys() - self._wanted.keys())])

    def _act(self, agent_ids: Iterable[str]) -> list[ReconcileAction]:
        """The next step of each of these agents; agents are planned independently."""
        wanted, slots = [], []
        for agent_id in agent_ids:
            if agent_id in self._slots:
                slots.append(self._slots[agent_id].view())
            if agent_id in self._wanted and not self._held:
                placed, _, revision = self._wanted[agent_id]
                wanted.append(WantedAgent(agent_id, placed.epoch, revision))
        actions = plan_reconcile(wanted, slots, self._now())
        if self._held:  # what a slot remembers (failed, evicted) must outlive the hold
            actions = [action for action in actions if action.kind != ActionKind.FORGET]
        for action in actions:
            _log.debug("%s %s: %s", action.kind, action.agent_id, action.reason)
            self._carry_out(action)
        return actions

    def hold(self, reason: str) -> None:
        """Start nothing and stop every agent, with grace; `reason` says why (lease, shutdown)."""
        self._held = reason
        self.tick()

    def release(self) -> list[ReconcileAction]:
        """Start agents again, also those that `hold` stopped; nothing when nothing is held."""
        if not self._held:
            return []
        self._held = ""
        return self.tick()

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
                    if slot.alive and not self._pacer.is_waiting(slot.agent_id):
                        self._end(slot, -signal.SIGKILL, "the zygote ended")

    def reports(self) -> tuple[AgentReport, ...]:
        """All slots for the node report, and who was stopped and has ended, by agent_id."""
        living = list(self._by_pid.values())
        at_s = asyncio.get_running_loop().time()
        self._next_sample = sample_some(living, self._next_sample, SAMPLES_PER_REPORT, at_s)
        beats = {entry.agent_id: entry.heartbeat_at for entry in self._directory.entries()}
        ended = {
            agent_id: ended_report(placed)
            for agent_id, placed in self._stopped.items()
            if not (slot := self._slots.get(agent_id)) or not slot.alive
        }
        told = {
            agent_id: slot.report(beats.get(agent_id)) for agent_id, slot in self._slots.items()
        } | ended
        return tuple(told[agent_id] for agent_id in sorted(told))

    def answering(self) -> list[Answering]:
        """The agents that run and were not told to stop, as discovery is to have them."""
        return [
            Answering(slot.agent_id, slot.workload.workload, slot.placement.epoch)
            for slot in self._slots.values()
            if slot.phase == AgentPhase.RUNNING and slot.alive and slot.kill_at is None
        ]

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

    def page(self, node_id: str, region: str) -> bytes:
        """What the agents whose processes run have done, for a scraper."""
        found: list[AgentFigures] = [
            slot.figures(entry)
            for entry in self._directory.entries()
            if (slot := self._slots.get(entry.agent_id)) is not None and slot.pid is not None
        ]
        return render_agents(node_id, region, found, self._directory.totals)

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
                slot.held = bool(self._held)
                self._stop(slot, self._held or action.reason, self._stop_grace)
            case ActionKind.KILL:
                slot.reason = f"{slot.reason}; {action.reason}"
                self._kill_after(slot, self._stop_grace)
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
            slot = self._slots[action.agent_id] = Slot(placed, workload, revision)
        elif slot.phase == AgentPhase.BACKING_OFF:
            slot.recent_restarts.append(self._now())
            slot.restarts += 1
            self.restarts_total[placed.workload] = self.restarts_total.get(placed.workload, 0) + 1
        slot.restart_at, slot.kill_at, slot.sampled, slot.held = None, None, None, False
        slot.phase, slot.reason = AgentPhase.PENDING, action.reason
        slot.started_at = self._now()
        slot.alive = True
        self._pacer.add(placed.agent_id)

    def _spawn(self, agent_id: str) -> None:
        """Order the process of a slot; a start that cannot even be ordered fails for good."""
        slot = self._slots[agent_id]
        placed = slot.placement
        try:
            self._directory.admit(agent_id, placed.network_id, slot.workload, placed.epoch)
            program = slot.program(self._environment, self._log_path(agent_id))
            slot.ref = self._zygote.spawn(program)
        except (InvalidInputError, StaleEpochError) as error:
            slot.alive, slot.phase, slot.reason = False, AgentPhase.FAILED, str(error)
            self._on_failed(agent_id, slot.reason)
            return
        self._by_ref[slot.ref] = slot

    def _is_up(self, agent_id: str) -> bool:
        """Whether an agent's start is over: registered, or for commands executed; or ended."""
        slot, entry = self._slots.get(agent_id), self._directory.entry(agent_id)
        if slot is None or not slot.alive or entry is None:
            return True
        if slot.workload.function is None:
            return slot.pid is not None
        return entry.registered_at is not None

    def _log_path(self, agent_id: str) -> Path:
        return self._log_dir / f"{agent_id}.log"

    def _stop(self, slot: Slot, reason: str, grace: timedelta) -> None:
        self._directory.dismiss(slot.agent_id, reason)
        self._kill_after(slot, grace)
        slot.reason = reason
        if slot.pid is not None:
            self._zygote.send_signal(slot.pid, signal.SIGTERM)
        elif self._pacer.drop(slot.agent_id):
            self._end(slot, 0, "")

    def _kill_after(self, slot: Slot, grace: timedelta) -> None:
        slot.kill_at = self._now() + grace
        self._alarms.at(slot.kill_at, slot.agent_id)

    def _end(self, slot: Slot, code: int, cause: str) -> None:
        """Record the end of a process and decide what follows."""
        stopping = slot.kill_at is not None
        slot.alive, slot.pid, slot.ref, slot.kill_at = False, None, None, None
        slot.cpu_percent = slot.rss_bytes = None
        if slot.ended is not None:
            slot.ended.set()
            slot.ended = None
        agent_id, now = slot.agent_id, self._now()
        self._alarms.soon(agent_id)
        if stopping or self._held:
            slot.phase = AgentPhase.STOPPED
            held = self._held or slot.held
            slot.restart_at = now if held and not slot.evicted else None
            slot.reason = slot.reason if stopping else f"{self._held}; {cause or 'killed'}"
            return
        policy = slot.workload.restart
        since = now - timedelta(seconds=policy.window_s)
        slot.recent_restarts = [at for at in slot.recent_restarts if at > since]
        verdict = decide_restart(policy, code, slot.recent_restarts, now)
        said = cause or (last_line(self._log_path(agent_id)) if code else "")
        slot.reason = f"{verdict.reason}; {said}" if said else verdict.reason
        if verdict.action == "restart":
            slot.phase = AgentPhase.BACKING_OFF
            slot.restart_at = now + timedelta(seconds=verdict.delay_s)
            self._alarms.at(slot.restart_at, agent_id)
        elif verdict.action == "complete":
            slot.phase = AgentPhase.COMPLETED
        else:
            slot.phase = AgentPhase.FAILED
            self._on_failed(agent_id, slot.reason)
