"""Deliberate damage to nodes of this machine: `fleet.ports.FaultInjector` with real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from fleet.errors import InvalidInputError, NodeUnavailableError, NotFoundError
from fleet.inventory import NodePhase
from fleet.ports.clock import Clock
from resources.local.linux_processes import is_alive, read_stat, signal_group
from resources.local.node_launcher import NodeLauncher
from resources.local.node_spec import NodeRun, NodeSpec, read_spec, spec_path, write_private

FAULT_MAX_S = 86_400.0
"""Longest pause or slowness; a drill is over within a day."""

START_TIMEOUT_S = 30.0
"""How long a node may take to become ready."""


class LocalFaults:
    """Kills, freezes, slows and starts nodes."""

    def __init__(self, state_dir: Path, launcher: NodeLauncher, clock: Clock) -> None:
        """Work on the nodes below `state_dir`."""
        self._state_dir = state_dir
        self._launcher = launcher
        self._clock = clock

    def kill_node(self, node_id: str) -> str:
        """Kill a node's whole process group; returns when all its processes are gone.

        Raises:
            NotFoundError: the node does not run.
        """
        run = self._living(node_id)
        killed = self._launcher.kill(run.process)
        return f"killed node {node_id}: {killed} processes of group {run.process.pid}"

    def pause_node(self, node_id: str, duration_s: float) -> str:
        """Freeze a node for a time; it goes on also when this process has ended.

        Raises:
            NotFoundError: the node does not run.
            NodeUnavailableError: it ended just now.
        """
        _check_duration("duration_s", duration_s)
        run = self._living(node_id)
        pid, start_ticks = map(str, run.process)
        ended = subprocess.run(
            [sys.executable, "-m", "resources.local.pause", pid, start_ticks, str(duration_s)],
            stdin=subprocess.DEVNULL,
            env=self._launcher.environment(),
            start_new_session=True,
            check=False,
        )
        if ended.returncode != 0:
            raise NodeUnavailableError(f"node {node_id} could not be paused: it has ended")
        return f"paused node {node_id}, group {pid}, for {duration_s:g} s"

    def slow_node(self, node_id: str, delay_s: float, duration_s: float) -> str:
        """Delay each of a node's heartbeats; the node reads this with its next one.

        Raises:
            NotFoundError: the node does not run.
        """
        _check_duration("delay_s", delay_s)
        _check_duration("duration_s", duration_s)
        self._living(node_id)
        until = self._clock.now() + timedelta(seconds=duration_s)
        fault = {"delay_s": delay_s, "until": until.isoformat()}
        write_private(self._spec(node_id).fault_path, fault)
        return f"heartbeats of node {node_id} are delayed by {delay_s:g} s for {duration_s:g} s"

    def start_node(self, node_id: str) -> str:
        """Start a node that is down, wake one that is frozen; returns when it is ready.

        Raises:
            NotFoundError: the node was never started here.
            NodeUnavailableError: its owner (`stateroom up`) has ended, or it does not come up.
        """
        run = self._launcher.run(node_id)
        if run is not None and is_alive(run.process):
            stat = read_stat(run.process.pid)
            signal_group(run.process, signal.SIGCONT)
            woken = stat is not None and stat.state == "T"
            return f"node {node_id} was frozen; woken" if woken else f"node {node_id} runs already"
        spec = self._spec(node_id)
        if spec.owner is not None and not is_alive(spec.owner):
            raise NodeUnavailableError(
                f"node {node_id} belongs to pid {spec.owner.pid}, which has ended",
                hint="Start the fleet: stateroom up.",
            )
        spec.fault_path.unlink(missing_ok=True)
        process = self._launcher.launch(spec)
        self._launcher.wait_ready({node_id: process}, START_TIMEOUT_S)
        return f"started node {node_id}, pid {process.pid}"

    def _living(self, node_id: str) -> NodeRun:
        run = self._launcher.run(node_id)
        if run is None or run.phase != NodePhase.RUNNING or not is_alive(run.process):
            raise NotFoundError(
                f"node {node_id} does not run", hint="`stateroom status` lists the nodes."
            )
        return run

    def _spec(self, node_id: str) -> NodeSpec:
        return read_spec(spec_path(self._state_dir, node_id))


def _check_duration(field: str, value: float) -> None:
    if not 0.0 < value <= FAULT_MAX_S:
        raise InvalidInputError(field, value, f"seconds above 0, at most {FAULT_MAX_S:g}")
