"""What this machine's process table says of its nodes: the infrastructure of the local adapter.

TERMINATED is definite, so it is said only when nothing of the node is left: its supervisor has
vanished *and* its process group is empty. A supervisor that was killed while its zygote is frozen
leaves agents that still run; such a node is UNKNOWN, and its lease decides.
"""

from __future__ import annotations

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
    read_stat,
)
from resources.local.node_spec import NodeRun, read_run, run_path


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

    def verdicts(self, node_ids: Sequence[str] | None = None) -> list[InfrastructureVerdict]:
        """What the process table says of these nodes, ordered by node_id."""
        named = [path.stem for path in self._folder.glob("[!.]*.json")]
        wanted = named if node_ids is None else node_ids
        return [self._verdict(node_id) for node_id in sorted(set(wanted))]

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
