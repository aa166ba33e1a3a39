"""The isolated node of a drill: real agents of a restored store, watched until they work.

It is a node like every other (`resources.local`): a supervisor that owns its process group, a
zygote, agents. It ends with the process of the drill, however that ends, and nothing of it touches
the live fleet: its store, sockets and logs lie in the drill's workspace.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fleet.agents import Workload
from fleet.errors import NodeUnavailableError
from fleet.inventory import Agent, AgentPhase
from fleet.ports.clock import Clock
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.local.agent_logs import last_line
from resources.local.linux_processes import (
    descendants,
    group_members,
    is_alive,
    send_signal,
    signal_group,
)
from resources.local.local_cluster import LocalCluster
from resources.local.node_spec import NodeRun, NodeSpec, read_run
from resources.vault.drills.fresh_store import FreshStore

DRILL_REGION = "drill"
DRILL_NODE = "drill-node"
DRILL_ARGUMENT = "drill"
"""Added to the arguments of every workload: an agent that acts on the world must look at it."""
_HEARTBEAT_S = 0.25
"""Four looks a second at the agents: what is measured is theirs, not the interval's."""
_POLL_S = 0.05
_END_S = 5.0
"""How long what was killed may take to vanish."""
_PAGE = 10_000
_NAMED = 5


class Progress(NamedTuple):
    """How far the agents of a drill have come; moments by the clock's monotonic seconds."""

    first_step_s: float | None
    """When the first restored state had advanced."""
    all_running_s: float | None
    """When every started agent ran."""
    running: int
    stepped: int
    """Agents whose state has advanced by then."""
    problems: tuple[str, ...]


class DrillFleet:
    """One node with the agents of a restored store."""

    def __init__(
        self, fresh: FreshStore, started: Sequence[AgentDeclaration], clock: Clock
    ) -> None:
        """Start nothing yet; `started` are declared, placed on `DRILL_NODE` and restored."""
        self._fresh, self._clock = fresh, clock
        self._cursor = 0
        self._started = {one.agent_id for one in started}
        self._spec = NodeSpec(
            node=_NODE,
            store_url=fresh.url,
            lake_path=str(fresh.folder / "lake"),
            state_dir=str(fresh.folder),
            socket_path=str(fresh.folder / "n.sock"),
            heartbeat_interval_s=_HEARTBEAT_S,
        )
        self._cluster = LocalCluster(fresh.store, fresh.folder, clock, [self._spec])

    def start(self, workloads: Sequence[Workload], timeout_s: float) -> None:
        """Declare node and workloads, start the supervisor, wait until it may run agents.

        Raises:
            InvalidInputError: the workspace's path is too long for a socket.
            NodeUnavailableError: it does not come up; it was stopped again.
        """
        self._spec.validate()
        self._changed()  # the restore's own writes are no steps
        self._fresh.store.declare_nodes([_NODE])
        self._fresh.store.declare_workloads([as_drill(one) for one in workloads])
        self._cluster.start_nodes(timeout_s)

    def watch(self, timeout_s: float) -> Progress:
        """Wait until every agent runs and one has made a step, or until that cannot be any more.

        A step is a new durable version of a restored state, written by the agent through the
        node's API: it has loaded its state, worked, and could save.
        """
        give_up_s = self._clock.monotonic_s() + timeout_s
        first_step_s = all_running_s = None
        stepped: set[str] = set()
        while True:
            stepped |= self._changed() & self._started
            now_s = self._clock.monotonic_s()
            if stepped and first_step_s is None:
                first_step_s = now_s
            agents = self._fresh.store.agents(DRILL_REGION)
            running = sum(one.phase in _WORKING for one in agents)
            if running == len(self._started) and all_running_s is None:
                all_running_s = now_s
            problems = self._problems(agents)
            reached = first_step_s is not None and all_running_s is not None
            if not problems and not reached and now_s > give_up_s:
                problems = (f"gave up after {timeout_s:g} s", *_waiting(agents))
            if problems or reached:
                return Progress(first_step_s, all_running_s, running, len(stepped), problems)
            time.sleep(_POLL_S)

    def stop(self) -> tuple[str, ...]:
        """End the node in order, then prove that no process of it is left.

        Returns:
            What did not end in order, in words; it was killed.
        """
        runs = self._cluster.runs()
        killed = self._cluster.stop_nodes()
        problems = [f"node {one} did not stop in time and was killed" for one in killed]
        for run in runs:
            left = _end_group(run)
            if left:
                problems.append(f"pids {left} of the drill outlived it and were killed")
        return tuple(problems)

    def _changed(self) -> set[str]:
        """Agents of which a state was stored since the last look."""
        found: set[str] = set()
        while changes := self._fresh.store.state_changes(self._cursor, _PAGE):
            found.update(one.agent_id for one in changes)
            self._cursor = changes[-1].change_id
        return found

    def _problems(self, agents: Sequence[Agent]) -> tuple[str, ...]:
        """What waiting longer cannot mend."""
        ended = [run for run in self._cluster.runs() if not is_alive(run.process)]
        if ended:
            log = self._fresh.folder / "logs" / "nodes" / f"{DRILL_NODE}.log"
            return (f"the drill's node has ended: {last_line(log) or 'its log is empty'}",)
        failed = [one for one in agents if one.phase == AgentPhase.FAILED]
        return tuple(f"agent {one.agent_id} failed: {one.reason}" for one in failed[:_NAMED])


_NODE = NodeDeclaration(DRILL_NODE, DRILL_REGION, DRILL_REGION, 1_000_000, 2**50)
_WORKING = frozenset({AgentPhase.RUNNING, AgentPhase.COMPLETED})


def as_drill(workload: Workload) -> Workload:
    """A workload as declared, with the argument that tells its agents that this is a drill."""
    return replace(workload, arguments={**workload.arguments, DRILL_ARGUMENT: "true"})


def end_left_nodes(workspace: Path) -> None:
    """Kill what a killed drill has left running, before its workspace is removed.

    Nodes end by themselves with their owner; this is for one that hangs.

    Raises:
        NodeUnavailableError: something survives even that.
    """
    for path in workspace.glob("*/run/nodes/[!.]*.json"):
        run = read_run(path)
        if run is not None and _end_group(run) and group_members(run.process.pid):
            raise NodeUnavailableError(
                f"processes of an earlier drill in {workspace} survive SIGKILL",
                hint="They hang in the kernel (state D); look at the disk they wait for.",
            )


def _end_group(run: NodeRun) -> list[int]:
    """Wait for a node's processes to vanish; kill those that stay, and name them."""
    leader = run.process
    if is_alive(leader):
        below = descendants(leader.pid)
        signal_group(leader, signal.SIGKILL)
        for one in below:
            send_signal(one, signal.SIGKILL)
        _wait_empty(leader.pid)
        return [leader.pid]
    left = _wait_empty(leader.pid)
    if left:
        # A group keeps its number as long as it has members, so it is still the drill's.
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        _wait_empty(leader.pid)
    return left


def _wait_empty(process_group: int) -> list[int]:
    """Members that a group still has after a while."""
    give_up_s = time.monotonic() + _END_S
    while (left := group_members(process_group)) and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)
    return left


def _waiting(agents: Sequence[Agent]) -> list[str]:
    behind = [one for one in agents if one.phase not in _WORKING]
    return [f"agent {one.agent_id} is {one.phase}: {one.reason}" for one in behind[:_NAMED]]
