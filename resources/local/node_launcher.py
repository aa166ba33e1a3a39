"""Starts and ends the supervisors of this machine; knows which of them live.

Each supervisor is started in a session of its own, so it leads the process group that is the node.
No signal is sent before pid and start time were found to be those of the run file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fleet.errors import NodeUnavailableError
from fleet.inventory import NodePhase
from fleet.leases import node_lease_name
from fleet.ports.control_store import ControlStore
from resources.local.agent_logs import last_line
from resources.local.linux_processes import (
    ProcessIdentity,
    descendants,
    group_members,
    is_alive,
    read_stat,
    send_signal,
    signal_group,
)
from resources.local.node_client import is_ready
from resources.local.node_spec import NodeRun, NodeSpec, read_run, run_path, spec_path, write_spec

POLL_S = 0.02
"""Between two looks at processes that are waited for."""

KILL_WAIT_S = 5.0
"""How long killed processes may take to vanish before this counts as an error."""


class NodeLauncher:
    """Processes of the nodes below one state folder."""

    def __init__(self, state_dir: Path, store: ControlStore) -> None:
        """Work on the run files below `state_dir`; `store` holds the leases."""
        self._state_dir = state_dir
        self._store = store
        self._children: dict[ProcessIdentity, subprocess.Popen[bytes]] = {}

    def run(self, node_id: str) -> NodeRun | None:
        """The run file of a node, None when it has never run."""
        self.reap()
        return read_run(run_path(self._state_dir, node_id))

    def reap(self) -> None:
        """Take over the exit codes of our own children that have ended."""
        ended = [own for own, child in self._children.items() if child.poll() is not None]
        for own in ended:
            del self._children[own]

    @staticmethod
    def environment() -> dict[str, str]:
        """Ours, with the import path of this process, without our settings and their secrets."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("STATEROOM_")}
        return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def launch(self, spec: NodeSpec) -> ProcessIdentity:
        """Start a node's supervisor without waiting for it; returns its process.

        A lease that an earlier boot left behind is released first, when that boot is proven gone:
        otherwise the node would wait for its own ghost until the ttl is over.
        """
        self.release_lease_of_dead(spec.node.node_id)
        path = spec_path(self._state_dir, spec.node.node_id)
        write_spec(path, spec)
        log = self.log_path(spec.node.node_id)
        log.parent.mkdir(parents=True, exist_ok=True)
        module = "resources.local.supervisor"
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", module, "--spec", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
                start_new_session=True,
            )
        stat = read_stat(child.pid)
        assert stat is not None, "a child that was not reaped is in the process table"
        process = ProcessIdentity(child.pid, stat.start_ticks)
        self._children[process] = child
        return process

    def wait_ready(self, launched: dict[str, ProcessIdentity], timeout_s: float) -> None:
        """Wait until launched nodes may run agents.

        Args:
            launched: node_id -> process as `launch` gave it.
            timeout_s: for all of them together.

        Raises:
            NodeUnavailableError: one has ended or is not ready in time; the message holds the
                last line of its log.
        """
        waiting, deadline_s = dict(launched), time.monotonic() + timeout_s
        while waiting:
            for node_id, process in list(waiting.items()):
                run = self.run(node_id)
                if run is not None and run.process == process and is_ready(run):
                    del waiting[node_id]
                elif process not in self._children:
                    raise self._not_up(node_id, "ended while starting")
                elif time.monotonic() > deadline_s:
                    raise self._not_up(node_id, f"is not ready after {timeout_s:g} s")
            time.sleep(POLL_S if waiting else 0.0)

    def stop(self, node_ids: Sequence[str], timeout_s: float) -> list[str]:
        """End nodes in order, all at once; kill those that take longer than `timeout_s`.

        Returns:
            The nodes that had to be killed.
        """
        runs = [run for node_id in node_ids if (run := self.run(node_id)) is not None]
        late = self.end([run.process for run in runs], timeout_s)
        return [run.node_id for run in runs if run.process in late]

    def end(self, leaders: Sequence[ProcessIdentity], timeout_s: float) -> list[ProcessIdentity]:
        """End nodes by their processes, also before they have written a run file.

        Returns:
            The processes that had to be killed, with their groups.
        """
        for leader in leaders:
            if send_signal(leader, signal.SIGTERM):
                signal_group(leader, signal.SIGCONT)
        late = self._wait_gone(leaders, timeout_s)
        for leader in late:
            self.kill(leader)
        return late

    def kill(self, leader: ProcessIdentity) -> int:
        """End a node at a stroke; returns how many processes were killed.

        The group dies with one signal. Descendants that have left it (a `setsid` somewhere in a
        command agent) are listed before and killed one by one.

        Raises:
            NodeUnavailableError: something survives even that.
        """
        victims = [leader, *descendants(leader.pid)] if is_alive(leader) else []
        signal_group(leader, signal.SIGKILL)
        for victim in victims:
            send_signal(victim, signal.SIGKILL)
        surviving = self._wait_gone(victims, KILL_WAIT_S)
        if surviving:
            raise NodeUnavailableError(
                f"pids {[victim.pid for victim in surviving]} survive SIGKILL",
                hint="They hang in the kernel (state D); look at the disk they wait for.",
            )
        return len(victims)

    def release_lease_of_dead(self, node_id: str) -> bool:
        """Release the lease of a boot whose processes are all gone; False when there is none."""
        run = self.run(node_id)
        if run is None or is_alive(run.process):
            return False
        # Its zygote kills the agents as soon as it misses its supervisor: a matter of milliseconds.
        deadline_s = time.monotonic() + KILL_WAIT_S
        while group_members(run.process.pid):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(POLL_S)
        lease = self._store.lease(node_lease_name(node_id))
        if lease is None or lease.holder != run.boot_id:
            return False
        self._store.release_lease(lease)
        return True

    def phase(self, node_id: str) -> NodePhase:
        """What the process table says of a node; PENDING when it has never run here."""
        run = self.run(node_id)
        if run is None:
            return NodePhase.PENDING
        if run.phase != NodePhase.RUNNING:
            return run.phase
        return NodePhase.RUNNING if is_alive(run.process) else NodePhase.TERMINATED

    def log_path(self, node_id: str) -> Path:
        """The supervisor's log."""
        return self._state_dir / "logs" / "nodes" / f"{node_id}.log"

    def _wait_gone(
        self, processes: Sequence[ProcessIdentity], timeout_s: float
    ) -> list[ProcessIdentity]:
        """Wait for processes to end; returns those that have not."""
        deadline_s = time.monotonic() + timeout_s
        left = list(processes)
        while True:
            self.reap()
            # A process whose main thread has ended looks like a zombie while its other threads
            # are still ending; our own children can be waited for exactly.
            left = [p for p in left if is_alive(p) or p in self._children]
            if not left or time.monotonic() > deadline_s:
                return left
            time.sleep(POLL_S)

    def _not_up(self, node_id: str, what: str) -> NodeUnavailableError:
        path = self.log_path(node_id)
        return NodeUnavailableError(
            f"node {node_id} {what}: {last_line(path) or 'its log is empty'}",
            hint=f"Read {path}.",
        )
