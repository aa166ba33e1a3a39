"""A node: one process that runs the agents placed on it, reports them, and keeps their fence.

`python -m resources.local.supervisor --spec FILE` (see `node_spec`). One event loop on the main
thread does everything that must not wait; the store is spoken to from threads. Invariants: agents
run only while the node holds its lease; nothing that the node started outlives it; what the run
file says is true or the process it names is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from fleet.errors import (
    StateroomError,
    TransientError,
)
from fleet.inventory import NodePhase
from fleet.ports.control_store import ControlStore
from fleet.reports import NodeReport
from fleet.vectors.declaration_json import declaration_document
from resources.circuit_breakers import CircuitBreakers
from resources.clock import SteadyClock, SystemClock
from resources.local.agent_api import AgentMemory, build_agent_app
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_processes import AgentProcesses
from resources.local.agent_store import AgentStore
from resources.local.endpoint_registrar import EndpointRegistrar
from resources.local.event_log import EventLog
from resources.local.heartbeat import Heartbeat
from resources.local.linux_processes import (
    become_subreaper,
    end_children,
    identify,
    set_process_name,
)
from resources.local.node_http import build_node_app
from resources.local.node_lease import NodeLease
from resources.local.node_lock import lock_node
from resources.local.node_readings import read_machine
from resources.local.node_servers import NodeServers
from resources.local.node_spec import NodeRun, NodeSpec, read_spec, write_run
from resources.local.prober import Prober
from resources.local.process_watch import Watch
from resources.local.running_node import RunningNode
from resources.local.search_reader import SearchReader
from resources.local.upkeep import Upkeep
from resources.local.write_batcher import WriteBatcher
from resources.local.zygote_client import ZygoteClient
from resources.service_registry.opening import open_registry

STORE_RETRY_S = 0.5
"""Between two attempts to open the control store when the node starts."""
ZYGOTE_LOSSES_MAX = 5
"""Ends of the zygote after which the node ends too: its environment is broken."""

_log = logging.getLogger(__name__)


class Supervisor:
    """One node's life, from `run` to its end."""

    def __init__(self, spec: NodeSpec) -> None:
        """Prepare; nothing is started, opened or written yet."""
        self.spec, self.boot_id = spec, uuid.uuid4().hex
        self._token = secrets.token_urlsafe(24)
        self._clock, self._steady = SystemClock(), SteadyClock()
        self._started_at = self._clock.now()
        self._events = EventLog(Path(spec.state_dir) / "run" / "events.jsonl")
        self._stopping = asyncio.Event()
        self._address = ""
        self._servers = NodeServers()
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: int | None = None
        self._leases_won = 0
        self._directory = AgentDirectory(self._clock)
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
        self._searcher: SearchReader | None = None
        if spec.vectors is not None:
            self._searcher = SearchReader({"vectors": declaration_document(spec.vectors)})
        self._registrar: EndpointRegistrar | None = None
        self._upkeep = Upkeep(spec, self._processes.log_paths, self._clock)
        self._node = RunningNode(spec, self._lease, self._processes, self._zygote, self._record)

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
        watch = self._watch_owner()
        try:
            host, port, node_id = self.spec.http_host, self.spec.http_port, self.spec.node.node_id
            app = build_node_app(
                self._node, node_id=node_id, boot_id=self.boot_id, token=self._token
            )
            self._address = await self._servers.serve_node(app, host, port)
            self._write_run(NodePhase.RUNNING, "")
            self._node.store = await self._open_store()
            if self._node.store is not None:
                await self._work(self._node.store)
        finally:
            await self._wind_up()
            if watch is not None:
                watch.close()
            os.close(self._lock)

    def stop(self, reason: str) -> None:
        """Begin the orderly end; `run` returns when it is done."""
        if not self._stopping.is_set():
            _log.info("stopping: %s", reason)
            self._node.stop_reason = reason
            self._stopping.set()

    async def _work(self, store: ControlStore) -> None:
        """Serve agents and beat until the order to stop, or until a task ends that never should."""
        agent_store = AgentStore(store, self._directory, self._clock)
        self._node.batcher = WriteBatcher(agent_store, self._clock)
        app = build_agent_app(
            self._directory,
            self._node.batcher,
            agent_store,
            self._clock,
            memory=AgentMemory(self._searcher, self.spec.vectors),
        )
        await self._servers.serve_agents(app, Path(self.spec.socket_path))
        self._node.heartbeat = heartbeat = Heartbeat(
            store,
            self._lease,
            self._report,
            self._clock,
            interval_s=self.spec.heartbeat_interval_s,
            fault_path=self.spec.fault_path,
        )
        self._node.prober = prober = Prober(
            store,
            self._clock,
            self.spec.probing,
            node_id=self.spec.node.node_id,
            boot_id=self.boot_id,
        )
        # Its breaker is this process's own: a node that cannot reach Consul stops asking for a
        # while, and reports nothing; the controller's breaker is the one that people are told of.
        registry = open_registry(self.spec.registry, store, CircuitBreakers(self._clock))
        self._registrar = registrar = EndpointRegistrar(
            registry,
            self._processes.answering,
            lambda: self._lease.held and not self._stopping.is_set(),
            node_id=self.spec.node.node_id,
            region=self.spec.node.region,
            address=self._address,
            interval_s=self.spec.heartbeat_interval_s,
            renew_interval_s=self.spec.renew_endpoints_s,
        )
        for loop in (
            heartbeat.run(),
            registrar.run(),
            self._node.follow_placements(),
            self._upkeep.run(),
            prober.run(),
        ):
            self._tasks.append(asyncio.create_task(loop))
        stop = asyncio.create_task(self._stopping.wait())
        tasks = [stop, *self._tasks, *self._servers.tasks]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in done:
            if task is not stop:
                task.result()  # raises what ended it

    async def _wind_up(self) -> None:
        """Agents first (they checkpoint), then writes, lease, servers, zygote, run file."""
        failure = sys.exception()
        reason = self._node.stop_reason or (f"failed: {failure}" if failure else "stopped")
        await self._processes.stop_all(f"the node is stopping: {reason}")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._registrar is not None:
            await self._registrar.close()
        if self._node.prober is not None:
            await self._node.prober.close()
        if self._node.batcher is not None:
            await asyncio.to_thread(self._node.batcher.close)
        if self._node.store is not None:
            await self._last_report(self._node.store)
        await self._servers.stop()
        if self._searcher is not None:
            await self._searcher.close()
        await self._zygote.stop()
        self._lease.close()
        await self._upkeep.close()
        if self._node.store is not None:
            self._node.store.close()
        self._write_run(NodePhase.STOPPED, reason)
        self._record("node_stopped", self.spec.node.node_id, reason)

    async def _last_report(self, store: ControlStore) -> None:
        try:
            if self._lease.held:
                await self._lease.beat(store, self._report())
            await self._lease.give_up(store)
        except StateroomError as error:
            _log.warning("the last report was not stored: %s", error)

    def _watch_owner(self) -> Watch | None:
        if (owner := self.spec.owner) is None:
            return None
        return Watch(owner, lambda: self.stop(f"the owner, pid {owner.pid}, has ended"))

    async def _open_store(self) -> ControlStore | None:
        """Open the store, as often as it takes; None when the node is stopped meanwhile."""
        from resources.control_store.opening import open_control_store

        while not self._stopping.is_set():
            try:
                return await asyncio.to_thread(
                    open_control_store, self.spec.store_url, clock=self._clock
                )
            except TransientError as error:
                _log.warning("control store: %s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), STORE_RETRY_S)
        return None

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
            gpus=self._upkeep.gpus,
        )

    # -- events ---------------------------------------------------------------------------------

    def _on_zygote_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "lost" and not self._stopping.is_set():
            self._node.zygote_losses += 1
            _log.error("the zygote ended with code %s", event["code"])
            end_children()  # what agents had started themselves has come to us
            if self._node.zygote_losses > ZYGOTE_LOSSES_MAX:
                self.stop("the zygote ended again and again")
            else:
                self._zygote.start()
                self._lease.rearm()
        if event["event"] == "fenced":  # agents did not crash: they are held until a new lease
            self._lease.expire()
        self._processes.handle(event)
        if self._registrar is not None:
            self._registrar.ask()

    def _on_lease_held(self) -> None:
        kind = "lease_regained" if self._leases_won else "node_started"
        self._leases_won += 1
        detail = f"boot {self.boot_id}, term {self._lease.term}"
        self._record(kind, self.spec.node.node_id, detail)
        if not self._stopping.is_set():
            self._node.begin_lease()

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
