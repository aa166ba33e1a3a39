"""What this machine's process table says of its nodes: the infrastructure of the local adapter.

TERMINATED is definite, so it is said only when nothing of the node is left: its supervisor has
vanished *and* its process group is empty. A supervisor that was killed while its zygote is frozen
leaves agents that still run; such a node is UNKNOWN, and its lease decides.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fleet.errors import InvalidInputError
from fleet.inventory import NodePhase
from fleet.ports.clock import Clock
from fleet.ports.infrastructure import InfrastructureVerdict
from resources.local.linux_processes import (
    ProcessIdentity,
    group_members,
    is_alive,
    open_pidfd,
    read_stat,
)
from resources.local.node_spec import NodeRun, read_run, run_path

RESCAN_S = 0.5
"""How often a wait looks for nodes that have started meanwhile."""
HALF_GONE_S = 0.02
"""How often it looks while a node is half gone: its zygote needs some milliseconds."""


class LocalInfrastructure:
    """`fleet.ports.InfrastructureReader` over the run files below one state folder.

    It reads only: run files and /proc. Marking a run file as terminated, and the event that tells
    of it, are `LocalCluster.watch`'s.
    """

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        """Look at nothing yet; `clock` dates what is found."""
        self._folder = run_path(state_dir, "any").parent
        self._state_dir = state_dir
        self._clock = clock
        self._gone: dict[tuple[str, str], datetime] = {}
        """(node_id, boot_id) -> when it was first found gone."""
        self._half_gone: set[str] = set()
        """Nodes of which something was left when they were last looked at."""

    def verdicts(self, node_ids: Sequence[str] | None = None) -> list[InfrastructureVerdict]:
        """What the process table says of these nodes, ordered by node_id."""
        named = [path.stem for path in self._folder.glob("[!.]*.json")]
        wanted = named if node_ids is None else node_ids
        found = [self._verdict(node_id) for node_id in sorted(set(wanted))]
        for one in found:
            if _is_half_gone(one):
                self._half_gone.add(one.node_id)
            else:
                self._half_gone.discard(one.node_id)
        return found

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of a supervisor, by the kernel's word; True when one has ended.

        Also True when one was half gone when it was last looked at, and is gone wholly.
        """
        deadline_s = time.monotonic() + timeout_s
        half_gone = set(self._half_gone)
        half_gone.update(one.node_id for one in self.verdicts() if _is_half_gone(one))
        while True:
            if any(not _is_half_gone(one) for one in self.verdicts(sorted(half_gone))):
                return True
            left_s = deadline_s - time.monotonic()
            slice_s = HALF_GONE_S if half_gone else RESCAN_S
            if self._one_ends(min(slice_s, max(0.0, left_s))):
                return True
            if left_s <= 0:
                return False

    def _one_ends(self, timeout_s: float) -> bool:
        pidfds = []
        poll = select.poll()
        try:
            for verdict in self.verdicts():
                run = self._run(verdict.node_id) if verdict.phase == NodePhase.RUNNING else None
                if run is None:
                    continue
                pidfd = open_pidfd(run.process)
                if pidfd is None:
                    return True
                pidfds.append(pidfd)
                poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(1000.0 * timeout_s))
        finally:
            for pidfd in pidfds:
                os.close(pidfd)

    def _run(self, node_id: str) -> NodeRun | None:
        return read_run(run_path(self._state_dir, node_id))

    def _verdict(self, node_id: str) -> InfrastructureVerdict:
        try:
            run = self._run(node_id)
        except InvalidInputError as error:
            return InfrastructureVerdict(node_id, NodePhase.UNKNOWN, "", None, str(error))
        if run is None:
            return InfrastructureVerdict(
                node_id, NodePhase.UNKNOWN, "", None, "it has never run on this machine"
            )
        pid = run.process.pid
        if run.phase == NodePhase.STOPPED:  # its own word, written when nothing was left
            reason = run.reason or "ended in order"
            return InfrastructureVerdict(node_id, run.phase, run.boot_id, run.ended_at, reason)
        if run.phase == NodePhase.RUNNING and is_alive(run.process):
            return InfrastructureVerdict(
                node_id, NodePhase.RUNNING, run.boot_id, None, f"process {pid} exists"
            )
        boot = (node_id, run.boot_id)
        left = [] if boot in self._gone else _left_of(run.process)
        if left:
            detail = f"process {pid} has vanished, {len(left)} of its group are still there"
            return InfrastructureVerdict(node_id, NodePhase.UNKNOWN, run.boot_id, None, detail)
        at = self._gone.setdefault(boot, run.ended_at or self._clock.now())
        detail = f"process {pid} and its whole group have vanished"
        return InfrastructureVerdict(node_id, NodePhase.TERMINATED, run.boot_id, at, detail)


def _left_of(leader: ProcessIdentity) -> list[int]:
    """Members of a group whose leader is gone; a number that was given out again is a stranger's.

    The kernel gives a pid out again only when no group of that number is left.
    """
    stat = read_stat(leader.pid)
    again = stat is not None and stat.start_ticks != leader.start_ticks
    return [] if again else group_members(leader.pid)


def _is_half_gone(verdict: InfrastructureVerdict) -> bool:
    return verdict.phase == NodePhase.UNKNOWN and bool(verdict.boot_id)
