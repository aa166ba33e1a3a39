"""A running node as others see it: ready or not, its checks and figures, its placements obeyed.

Implements `node_http.NodeService` for the supervisor, which hands over each part as soon as it
exists; until then the answers say what is missing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fleet.errors import NodeUnavailableError, StoreUnavailableError, TransientError
from fleet.ports.control_store import ControlStore
from resources.local.agent_processes import AgentProcesses
from resources.local.heartbeat import BeatCounts, Heartbeat
from resources.local.node_health import CheckResult, check_lake, check_store, run_check
from resources.local.node_http import Readiness
from resources.local.node_lease import NodeLease
from resources.local.node_metrics import NodeCollector, NodeFigures
from resources.local.node_readings import own_cpu_s
from resources.local.node_spec import NodeSpec
from resources.local.prober import ProbeCounts, Prober
from resources.local.write_batcher import WriteBatcher
from resources.local.zygote_client import ZygoteClient
from resources.probe_client import Sight

_log = logging.getLogger(__name__)


class RunningNode:
    """What the endpoints ask, and the loop that follows the placements."""

    def __init__(
        self,
        spec: NodeSpec,
        lease: NodeLease,
        processes: AgentProcesses,
        zygote: ZygoteClient,
        record: Callable[[str, str, str], None],
    ) -> None:
        """A node that has not reached its store yet.

        Args:
            spec: of the node.
            lease: without it no agent may run.
            processes: the agents.
            zygote: counted into the node's own costs.
            record: takes kind, subject and detail of an event.
        """
        self._spec = spec
        self._lease = lease
        self._processes = processes
        self._zygote = zygote
        self._record = record
        self._collector = NodeCollector(spec.node.node_id, spec.node.region)
        self._reconcile_lock = asyncio.Lock()
        self._reconcile_asked = asyncio.Event()
        self._leases_begun = self._leases_served = 0
        self.store: ControlStore | None = None
        """None until it was reached."""
        self.heartbeat: Heartbeat | None = None
        """None until the node beats."""
        self.prober: Prober | None = None
        """None until the node probes others."""
        self.batcher: WriteBatcher | None = None
        """None until agents are served."""
        self.stop_reason: str | None = None
        """Why the node is stopping; None while it is not."""
        self.zygote_losses = 0

    def readiness(self) -> Readiness:
        """Whether agents may run."""
        if self.stop_reason is not None:
            return Readiness(ready=False, reason=f"stopping: {self.stop_reason}")
        return Readiness(self._lease.held, self._lease.reason)

    async def check_deep(self) -> list[CheckResult]:
        """Try store, lake and lease, at the same time."""
        remaining_s = self._lease.remaining_s()
        detail = f"{remaining_s:.1f} s left, term {self._lease.term}"
        lease = CheckResult("lease", self._lease.held, 0.0, self._lease.reason or detail)
        store, lake = await asyncio.gather(
            run_check("store", lambda: check_store(self.store)),
            run_check("lake", lambda: check_lake(Path(self._spec.lake_path))),
        )
        return [store, lake, lease]

    def metrics(self) -> bytes:
        """Prometheus exposition text of this moment."""
        beats = BeatCounts() if self.heartbeat is None else self.heartbeat.counts
        probes = ProbeCounts() if self.prober is None else self.prober.counts
        stats = None if self.batcher is None else self.batcher.stats()
        outcomes = ("writes", "refused", "given_up", "retries")
        return self._collector.render(
            NodeFigures(
                ready=self.readiness().ready,
                lease_remaining_s=self._lease.remaining_s(),
                lease_term=self._lease.term,
                heartbeats=beats.stored,
                heartbeats_late=beats.late,
                heartbeats_failed=beats.failed,
                heartbeat_duration_s=beats.duration_s,
                agents=self._processes.counts(),
                agent_restarts=self._processes.restarts_total,
                agent_memory_bytes=self._processes.memory_bytes(),
                writes={} if stats is None else {name: getattr(stats, name) for name in outcomes},
                writes_queued=0 if stats is None else stats.queued,
                probes=probes.outcomes,
                probe_reports_refused=probes.refused,
                zygote_losses=self.zygote_losses,
                supervisor_cpu_s=own_cpu_s([os.getpid(), self._zygote.pid or 0]),
            )
        )

    def agent_metrics(self) -> bytes:
        """Prometheus exposition text of this node's agents."""
        node = self._spec.node
        return self._processes.page(node.node_id, node.region)

    async def reconcile_now(self) -> int:
        """Read this node's placements and act on them; returns the number of actions.

        Raises:
            StoreUnavailableError: the placements cannot be read now; what runs goes on.
        """
        store = self.store
        if store is None:
            raise StoreUnavailableError("the control store has not been reached yet")
        async with self._reconcile_lock:
            node_id, begun = self._spec.node.node_id, self._leases_begun
            placements = await asyncio.to_thread(store.placements, node_id)
            workloads = await asyncio.to_thread(store.workloads)
            actions = self._processes.reconcile(placements, workloads)
            is_current = begun == self._leases_begun and self._lease.held
            if is_current and self._leases_served < begun and self.stop_reason is None:
                self._leases_served = begun
                actions += self._processes.release()
            return len(actions)

    def begin_lease(self) -> None:
        """A lease is held (again): start agents, as soon as their placements were read under it.

        What was read before may be over: agents that were stopped or moved while this node was
        silent would start once more.
        """
        self._leases_begun += 1
        self._reconcile_asked.set()

    async def follow_placements(self) -> None:
        """Reconcile for ever: at each interval, and when asked to."""
        while True:
            self._reconcile_asked.clear()  # who asks while the answer is under way is answered next
            try:
                await self.reconcile_now()
            except TransientError as error:
                _log.warning("placements: %s", error)
            with suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it can lose a cancellation that comes together
                # with the event, and a node that is told to stop as it starts would never end.
                async with asyncio.timeout(self._spec.reconcile_interval_s):
                    await self._reconcile_asked.wait()

    async def look_for(self, node_id: str) -> Sight:
        """Look at another node for an observer that cannot reach it.

        Raises:
            NodeUnavailableError: not now; ask another node.
            NotFoundError: there is no such node.
        """
        if self.prober is None:
            raise NodeUnavailableError("the control store has not been reached yet")
        return await self.prober.look_for(node_id)

    async def evict(self, agent_id: str, epoch: int, grace_s: float) -> str:
        """Stop an agent; returns when it is gone, with the reason."""
        reason = await self._processes.evict(agent_id, epoch, grace_s)
        self._record("agent_evicted", agent_id, f"epoch {epoch} on {self._spec.node.node_id}")
        return reason
