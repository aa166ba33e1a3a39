"""Ends boots of this machine's nodes by SIGKILL, and proves that nothing of them is left.

Works without the control store, from run files and the process table alone: it is needed most when
the store takes no writes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from pathlib import Path

from fleet.errors import InvalidInputError
from fleet.inventory import NodePhase
from fleet.ports.clock import Clock
from fleet.ports.infrastructure import InfrastructureVerdict
from resources.local.linux_processes import (
    ProcessIdentity,
    descendants,
    ending_threads,
    group_members,
    identify,
    is_alive,
    read_stat,
    send_signal,
    signal_group,
)
from resources.local.local_infrastructure import LocalInfrastructure
from resources.local.node_spec import NodeRun, read_run, run_path

KILL_WAIT_S = 5.0
"""How long killed processes may take to vanish before the verdict is UNKNOWN."""

_POLL_S = 0.02


class LocalFencer:
    """`fleet.ports.NodeFencer` over the run files below one state folder."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        """Look at nothing yet; `clock` dates the verdicts."""
        self._state_dir = state_dir
        self._clock = clock

    def fence(self, boots: Mapping[str, str]) -> list[InfrastructureVerdict]:
        """End these boots; see `fleet.ports.infrastructure.NodeFencer`."""
        return [self._fence(node_id, boot_id) for node_id, boot_id in sorted(boots.items())]

    def _fence(self, node_id: str, boot_id: str) -> InfrastructureVerdict:
        try:
            run = read_run(run_path(self._state_dir, node_id))
        except InvalidInputError as error:
            return _unknown(node_id, boot_id, f"nothing was ended: {error}")
        if run is None or run.boot_id != boot_id:
            there = "none ever ran on this machine" if run is None else f"now runs {run.boot_id}"
            return _unknown(node_id, boot_id, f"nothing was ended: {there}")
        killed = _kill(run.process)
        left = _wait_gone(run.process, killed)
        if left:
            pids = ", ".join(map(str, left[:5]))
            return _unknown(node_id, boot_id, f"processes {pids} survive SIGKILL")
        return self._verdict(run, len(killed))

    def _verdict(self, run: NodeRun, killed: int) -> InfrastructureVerdict:
        """What a fresh look says, which must not remember an earlier one."""
        (seen,) = LocalInfrastructure(self._state_dir, self._clock).verdicts([run.node_id])
        if seen.boot_id != run.boot_id:  # it was started again in this moment
            detail = f"process {run.process.pid} and its whole group have vanished"
            at = self._clock.now()
            seen = InfrastructureVerdict(run.node_id, NodePhase.TERMINATED, run.boot_id, at, detail)
        return seen._replace(detail=f"{killed} processes killed; {seen.detail}") if killed else seen


def _unknown(node_id: str, boot_id: str, detail: str) -> InfrastructureVerdict:
    return InfrastructureVerdict(node_id, NodePhase.UNKNOWN, boot_id, None, detail)


def _kill(leader: ProcessIdentity) -> list[ProcessIdentity]:
    """Kill a node's group at a stroke, and what has left the group but hangs below it.

    Of a group whose leader is gone each member is identified first: the number of the group may
    have been given out again since.
    """
    if is_alive(leader):
        victims = {leader, *descendants(leader.pid)}
        signal_group(leader, signal.SIGKILL)
    else:
        victims = {one for pid in _left_of(leader) if (one := identify(pid)) is not None}
    for one in victims:
        send_signal(one, signal.SIGKILL)
    return sorted(victims)


def _left_of(leader: ProcessIdentity) -> list[int]:
    """Members of its group; none when the number belongs to a stranger, who led a group since."""
    stat = read_stat(leader.pid)
    if stat is not None and stat.start_ticks != leader.start_ticks:
        return []
    return group_members(leader.pid)


def _wait_gone(leader: ProcessIdentity, victims: list[ProcessIdentity]) -> list[int]:
    """Wait until neither the victims nor anybody of the group is left; returns who is."""
    deadline_s = time.monotonic() + KILL_WAIT_S
    while True:
        left = {one.pid for one in victims if is_alive(one) or ending_threads(one)}
        left |= set(_left_of(leader))
        if not left or time.monotonic() > deadline_s:
            return sorted(left)
        time.sleep(_POLL_S)
