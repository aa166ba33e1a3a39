"""A node: one process that runs the agents placed on it, reports them, and keeps their fence.

`python -m resources.local.supervisor --spec FILE` (see `node_spec`). One event loop on the main
thread does everything that must not wait; the store is spoken to from threads. Invariants: agents
run only while the node holds its lease; nothing that the node started outlives it; what the run
file says is true or the process it names is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
import uuid
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from fleet.errors import (
    AlreadyRunningError,
    LeaseLostError,
    StateroomError,
    StoreUnavailableError,
    TransientError,
)
from fleet.inventory import Gpu, NodePhase
from fleet.ports import ControlStore
from fleet.reports import NodeReport
from resources.clock import SteadyClock, SystemClock
from resources.local.agent_api import build_agent_app
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_logs import cut_logs
from resources.local.agent_processes import AgentProcesses
from resources.local.agent_server import agent_server_config
from resources.local.event_log import EventLog
from resources.local.linux_processes import (
    become_subreaper,
    end_children,
    identify,
    open_pidfd,
    set_process_name,
)
from resources.local.node_health import CheckResult, check_lake, check_store, run_check
from resources.local.node_http import Readiness, build_node_app
from resources.local.node_lease import NodeLease
from resources.local.node_metrics import NodeCollector, NodeFigures
from resources.local.node_readings import (
    load_gpu_probe,
    own_cpu_s,
    read_fault,
    read_gpus,
    read_machine,
)
from resources.local.node_spec import NodeRun, NodeSpec, read_run, read_spec, write_run
from resources.local.write_batcher import WriteBatcher
from resources.local.zygote_client import ZygoteClient

STORE_RETRY_S = 0.5
"""Between two attempts to open the control store when the node starts."""
ZYGOTE_LOSSES_MAX = 5
"""Ends of the zygote after which the node ends too: its environment is broken."""
LOG_LOOK_INTERVAL_S = 5.0
"""Between two looks at the sizes of the agents' logs."""
GPU_INTERVAL_S = 5.0
"""Between two readings of the GPUs."""

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the supervisor ends it."""

    def capture_signals(self) -> Any:
        return nullcontext()


class Supervisor:
    """One node's life, from `run` to its end."""

    def __init__(self, spec: NodeSpec) -> None:
        """Prepare; nothing is started, opened or written yet."""
        self.spec = spec
        self.boot_id = uuid.uuid4().hex
        self._token = secrets.token_urlsafe(24)
        self._clock, self._steady = SystemClock(), SteadyClock()
        self._started_at = self._clock.now()
        self._events = EventLog(Path(spec.state_dir) / "run" / "events.jsonl")
        self._stopping = asyncio.Event()
        self._stop_reason = ""
        self._store: ControlStore | None = None
        self._batcher: WriteBatcher | None = None
        self._reconcile_lock = asyncio.Lock()
        self._reconcile_asked = asyncio.Event()
        self._address = ""
        self._gpu_probe, self._gpu_absent_reason = load_gpu_probe(spec.gpu_probe)
        self._gpus: tuple[Gpu, ...] = ()
        self._beats = dict.fromkeys(("stored", "late", "failed", "zygote_losses"), 0)
        self._beat_duration_s = 0.0
        self._servers: list[_Server] = []
        self._server_tasks: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: int | None = None
        self._leases_won = 0
        self._directory = AgentDirectory(self._clock)
        self._collector = NodeCollector(spec.node.node_id, spec.node.region)
        self._zygote = ZygoteClient(self._on_zygote_event)
        self._lease = NodeLease(
            self._zygote,
            node_id=spec.node.node_id,
            boot_id=self.boot_id,
            ttl_s=spec.lease_ttl_s,
            on_held=self._on_lease_held,
            on_lost=self._on_lease_lost,
        )
        self._processes = AgentProcesses(
            self._zygote,
            self._directory,
            environment={"STATEROOM_SOCKET": spec.socket_path},
            log_dir=spec.agent_log_dir,
            stop_grace_s=spec.stop_grace_s,
            steady_now=self._steady.now,
            on_failed=self._on_agent_failed,
        )

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or the owner's end; returns when everything is settled.

        Raises:
            AlreadyRunningError: another supervisor of this node runs on this state folder.
        """
        self._lock = lock_node(self.spec)
        become_subreaper()
        self.spec.agent_log_dir.mkdir(parents=True, exist_ok=True)
        Path(self.spec.socket_path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._zygote.start()  # first of all: no thread exists yet
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, f"{number.name} received")
        owner_pidfd = self._watch_owner()
        try:
            await self._start_node_server()
            self._write_run(NodePhase.RUNNING, "")
            if await self._open_store():
                await self._start_agent_server()
                self._tasks.append(asyncio.create_task(self._heartbeat_loop()))
                self._tasks.append(asyncio.create_task(self._reconcile_loop()))
                self._tasks.append(asyncio.create_task(self._upkeep_loop()))
                await self._wait_for_end()
        finally:
            await self._wind_up()
            if owner_pidfd is not None:
                loop.remove_reader(owner_pidfd)
                os.close(owner_pidfd)
            os.close(self._lock)

    def stop(self, reason: str) -> None:
        """Begin the orderly end; `run` returns when it is done."""
        if not self._stopping.is_set():
            _log.info("stopping: %s", reason)
            self._stop_reason = reason
            self._stopping.set()

    async def _wait_for_end(self) -> None:
        """Wait for the order to stop, or for a task that should never end and did."""
        stop = asyncio.create_task(self._stopping.wait())
        tasks = [stop, *self._tasks, *self._server_tasks]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in done:
            if task is not stop:
                task.result()  # raises what ended it

    async def _wind_up(self) -> None:
        """Agents first (they checkpoint), then writes, lease, servers, zygote, run file."""
        failure = sys.exception()
        reason = self._stop_reason or (f"failed: {failure}" if failure else "stopped")
        await self._processes.stop_all(f"the node is stopping: {reason}")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)
        if self._store is not None:
            await self._last_report(self._store)
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._server_tasks, return_exceptions=True)
        await self._zygote.stop()
        self._lease.close()
        if self._store is not None:
            self._store.close()
        self._write_run(NodePhase.STOPPED, reason)
        self._record("node_stopped", self.spec.node.node_id, reason)

    async def _last_report(self, store: ControlStore) -> None:
        try:
            if self._lease.held:
                await self._lease.beat(store, self._report())
            await self._lease.give_up(store)
        except StateroomError as error:
            _log.warning("the last report was not stored: %s", error)

    def _watch_owner(self) -> int | None:
        owner = self.spec.owner
        if owner is None:
            return None
        pidfd = open_pidfd(owner)
        gone = f"the owner, pid {owner.pid}, has ended"
        if pidfd is None:
            self.stop(gone)
            return None
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.remove_reader(pidfd)
            self.stop(gone)

        loop.add_reader(pidfd, end)
        return pidfd

    # -- servers --------------------------------------------------------------------------------

    async def _start_node_server(self) -> None:
        listener = socket.create_server((self.spec.http_host, self.spec.http_port))
        host, port = listener.getsockname()[:2]
        self._address = f"{host}:{port}"
        app = build_node_app(
            self, node_id=self.spec.node.node_id, boot_id=self.boot_id, token=self._token
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="none",
            timeout_graceful_shutdown=1,
        )
        await self._serve(_Server(config), [listener])

    async def _start_agent_server(self) -> None:
        assert self._store is not None, "opened before"
        self._batcher = WriteBatcher(self._store, self._clock)
        app = build_agent_app(self._directory, self._batcher, self._store, self._clock)
        config = agent_server_config(app, Path(self.spec.socket_path))
        await self._serve(_Server(config), None)

    async def _serve(self, server: _Server, listeners: list[socket.socket] | None) -> None:
        """Start a server; returns once it listens."""
        self._servers.append(server)
        task = asyncio.create_task(server.serve(sockets=listeners))
        self._server_tasks.append(task)
        while not server.started and not task.done():
            await asyncio.sleep(0.005)

    async def _open_store(self) -> bool:
        """Open the store, as often as it takes; False when the node is stopped meanwhile."""
        from resources.control_store.opening import open_control_store

        while not self._stopping.is_set():
            try:
                self._store = await asyncio.to_thread(
                    open_control_store, self.spec.store_url, clock=self._clock
                )
            except TransientError as error:
                _log.warning("control store: %s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), STORE_RETRY_S)
            else:
                return True
        return False

    # -- loops ----------------------------------------------------------------------------------

    async def _heartbeat_loop(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = self.spec.heartbeat_interval_s
        due_s = loop.time()
        while True:
            fault = read_fault(self.spec.fault_path, self._clock.now())
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            await self._beat()
            self._beat_duration_s = loop.time() - due_s
            if self._beat_duration_s > interval_s:
                self._beats["late"] += 1
            # A missed beat is not made up for: the next one is due on the same even grid.
            due_s += interval_s * max(1, int((loop.time() - due_s) / interval_s) + 1)
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def _beat(self) -> None:
        assert self._store is not None, "opened before"
        try:
            await self._lease.beat(self._store, self._report())
        except (LeaseLostError, TransientError) as error:
            self._beats["failed"] += 1
            _log.warning("heartbeat: %s", error)
        else:
            self._beats["stored"] += 1

    def _report(self) -> NodeReport:
        reading = read_machine(Path(self.spec.state_dir))
        return NodeReport(
            node_id=self.spec.node.node_id,
            boot_id=self.boot_id,
            pid=os.getpid(),
            address=self._address,
            started_at=self._started_at,
            reported_at=self._clock.now(),
            cpu_percent=reading.cpu_percent,
            memory_used_bytes=reading.memory_used_bytes,
            disk_free_bytes=reading.disk_free_bytes,
            agents=self._processes.reports(),
            gpus=self._gpus,
        )

    async def _reconcile_loop(self) -> None:
        while True:
            try:
                await self.reconcile_now()
            except TransientError as error:
                _log.warning("placements: %s", error)
            self._reconcile_asked.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reconcile_asked.wait(), self.spec.reconcile_interval_s)

    async def _upkeep_loop(self) -> None:
        """Cut logs and read GPUs: slow things, in a thread, beside the heartbeat."""
        loop = asyncio.get_running_loop()
        node, gpus_due_s = self.spec.node, 0.0
        while True:
            if loop.time() >= gpus_due_s:
                gpus_due_s = loop.time() + GPU_INTERVAL_S
                now = self._clock.now()
                self._gpus = await asyncio.to_thread(
                    read_gpus, self._gpu_probe, node.node_id, node.region, now
                )
            await asyncio.to_thread(cut_logs, self._processes.log_paths())
            await asyncio.sleep(LOG_LOOK_INTERVAL_S)

    # -- events ---------------------------------------------------------------------------------

    def _on_zygote_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "lost" and not self._stopping.is_set():
            self._beats["zygote_losses"] += 1
            _log.error("the zygote ended with code %s", event["code"])
            end_children()  # what agents had started themselves has come to us
            if self._beats["zygote_losses"] > ZYGOTE_LOSSES_MAX:
                self.stop("the zygote ended again and again")
            else:
                self._zygote.start()
                self._lease.rearm()
        self._processes.handle(event)

    def _on_lease_held(self) -> None:
        kind = "lease_regained" if self._leases_won else "node_started"
        self._leases_won += 1
        detail = f"boot {self.boot_id}, term {self._lease.term}"
        self._record(kind, self.spec.node.node_id, detail)
        if not self._stopping.is_set():
            self._processes.release()
            self._reconcile_asked.set()

    def _on_lease_lost(self, reason: str) -> None:
        if self._stopping.is_set():
            return
        _log.error("lease lost: %s; agents are stopped", reason)
        self._record("lease_lost", self.spec.node.node_id, reason)
        self._processes.hold(f"the node has lost its lease: {reason}")

    def _on_agent_failed(self, agent_id: str, reason: str) -> None:
        _log.error("agent %s failed: %s", agent_id, reason)
        self._record("agent_failed", agent_id, reason)

    def _record(self, kind: str, subject: str, detail: str) -> None:
        try:
            self._events.append(kind, subject, detail, self._clock.now())
        except OSError:
            _log.exception("event %s of %s was not recorded", kind, subject)

    def _write_run(self, phase: NodePhase, reason: str) -> None:
        own = identify(os.getpid())
        assert own is not None, "a process that asks is alive"
        run = NodeRun(
            node_id=self.spec.node.node_id,
            region=self.spec.node.region,
            boot_id=self.boot_id,
            phase=phase,
            process=own,
            address=self._address,
            socket_path=self.spec.socket_path,
            token=self._token,
            started_at=self._started_at,
            ended_at=None if phase == NodePhase.RUNNING else self._clock.now(),
            reason=reason,
        )
        write_run(self.spec.run_path, run)

    # -- what the endpoints ask (node_http.NodeService) -----------------------------------------

    def readiness(self) -> Readiness:
        """Whether agents may run."""
        if self._stopping.is_set():
            return Readiness(ready=False, reason=f"stopping: {self._stop_reason}")
        return Readiness(self._lease.held, self._lease.reason)

    async def check_deep(self) -> list[CheckResult]:
        """Try store, lake and lease, at the same time."""
        remaining_s = self._lease.remaining_s()
        detail = f"{remaining_s:.1f} s left, term {self._lease.term}"
        lease = CheckResult("lease", self._lease.held, 0.0, self._lease.reason or detail)
        store, lake = await asyncio.gather(
            run_check("store", lambda: check_store(self._store)),
            run_check("lake", lambda: check_lake(Path(self.spec.lake_path))),
        )
        return [store, lake, lease]

    def metrics(self) -> bytes:
        """Prometheus exposition text of this moment."""
        stats = None if self._batcher is None else self._batcher.stats()
        outcomes = ("writes", "refused", "given_up", "retries")
        return self._collector.render(
            NodeFigures(
                ready=self.readiness().ready,
                lease_remaining_s=self._lease.remaining_s(),
                lease_term=self._lease.term,
                heartbeats=self._beats["stored"],
                heartbeats_late=self._beats["late"],
                heartbeats_failed=self._beats["failed"],
                heartbeat_duration_s=self._beat_duration_s,
                agents=self._processes.counts(),
                agent_restarts=self._processes.restarts_total,
                agent_memory_bytes=self._processes.memory_bytes(),
                writes={} if stats is None else {name: getattr(stats, name) for name in outcomes},
                writes_queued=0 if stats is None else stats.queued,
                zygote_losses=self._beats["zygote_losses"],
                supervisor_cpu_s=own_cpu_s([os.getpid(), self._zygote.pid or 0]),
            )
        )

    async def reconcile_now(self) -> int:
        """Read this node's placements and act on them; returns the number of actions.

        Raises:
            StoreUnavailableError: the placements cannot be read now; what runs goes on.
        """
        store = self._store
        if store is None:
            raise StoreUnavailableError("the control store has not been reached yet")
        async with self._reconcile_lock:
            node_id = self.spec.node.node_id
            placements = await asyncio.to_thread(store.placements, node_id)
            workloads = await asyncio.to_thread(store.workloads)
            return len(self._processes.reconcile(placements, workloads))

    async def evict(self, agent_id: str, epoch: int, grace_s: float) -> str:
        """Stop an agent; returns when it is gone, with the reason."""
        reason = await self._processes.evict(agent_id, epoch, grace_s)
        self._record("agent_evicted", agent_id, f"epoch {epoch} on {self.spec.node.node_id}")
        return reason


def lock_node(spec: NodeSpec) -> int:
    """Claim the node on this state folder for this process, until it ends in whichever way.

    Raises:
        AlreadyRunningError: another process has it.
    """
    path = spec.run_path.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        before = read_run(spec.run_path)
        who = "" if before is None else f": pid {before.process.pid}, boot {before.boot_id}"
        raise AlreadyRunningError(
            f"node {spec.node.node_id} runs already{who}", hint="Stop it first: stateroom down."
        ) from error
    return lock


def main(arguments: list[str] | None = None) -> int:
    """Run the node of a spec file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="supervisor", description="Run one node.")
    parser.add_argument("--spec", type=Path, required=True, help="file written by write_spec")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        spec = read_spec(options.spec)
        set_process_name(spec.node.node_id)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(spec))
    except StateroomError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 1
    return 0


async def _run(spec: NodeSpec) -> None:
    await Supervisor(spec).run()


if __name__ == "__main__":
    sys.exit(main())
