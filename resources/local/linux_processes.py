"""Linux process facts: identity by start time, children, subreaper, death signal.

A pid alone names nothing: the kernel uses it again. `ProcessIdentity` adds the start time, and no
signal leaves this package before both have been compared. Standard library only, because the
zygote imports it and every agent inherits its memory.

Source: proc(5) for `/proc/<pid>/stat` (state is field 3, process group 5, session 6, start time
22, in clock ticks since boot), prctl(2) for the constants.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_GONE_STATES = frozenset("ZXx")

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


class ProcessIdentity(NamedTuple):
    """One process for all time: the pid together with its start, in clock ticks since boot."""

    pid: int
    start_ticks: int


class ProcessStat(NamedTuple):
    """The few facts of `/proc/<pid>/stat` that this package uses."""

    state: str
    """One letter: `R` running, `S` sleeping, `T` stopped, `Z` dead but not reaped, ..."""
    parent_pid: int
    process_group: int
    cpu_s: float
    start_ticks: int
    rss_bytes: int


def boottime_s() -> float:
    """Seconds since boot, counted also while the machine sleeps; the same in every process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_stat(pid: int) -> ProcessStat | None:
    """Read the state of a process; None when there is none with this pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - hot, and without pathlib
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, field 2, may itself hold blanks and parentheses: count from its last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(
        state=fields[0].decode(),
        parent_pid=int(fields[1]),
        process_group=int(fields[2]),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has this pid now; None when it is gone or a zombie."""
    stat = read_stat(pid)
    if stat is None or stat.state in _GONE_STATES:
        return None
    return ProcessIdentity(pid, stat.start_ticks)


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether this very process still exists; a zombie does not, a stopped one does."""
    return identify(identity.pid) == identity


def ending_threads(identity: ProcessIdentity) -> bool:
    """Tell whether a process that looks dead still has threads, and with them files and locks."""
    stat = read_stat(identity.pid)
    if stat is None or stat.start_ticks != identity.start_ticks or stat.state not in _GONE_STATES:
        return False
    with suppress(FileNotFoundError, ProcessLookupError):
        return len(os.listdir(f"/proc/{identity.pid}/task")) > 1  # noqa: PTH208 - without pathlib
    return False


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """A descriptor that becomes readable when this very process ends; None when it has ended."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Compared after opening: from here on the descriptor cannot name another process.
    if not is_alive(identity):
        os.close(pidfd)
        return None
    return pidfd


def send_signal(identity: ProcessIdentity, number: int) -> bool:
    """Signal this very process and no other; False when it is gone."""
    pidfd = open_pidfd(identity)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def signal_group(leader: ProcessIdentity, number: int) -> bool:
    """Signal the whole process group that this very process leads; False when it is gone.

    A process group keeps its number reserved while it has members, so between the comparison and
    the signal the number cannot pass to another group unless all members end in between.
    """
    stat = read_stat(leader.pid)
    if stat is None or stat.start_ticks != leader.start_ticks or stat.process_group != leader.pid:
        return False
    try:
        os.killpg(leader.pid, number)
    except ProcessLookupError:
        return False
    return True


def child_pids(pid: int) -> list[int]:
    """Pids of the direct children, zombies included; empty when the process is gone."""
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib costs agents memory
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/task/{task}/children", "rb") as file,  # noqa: PTH123
            ):
                children += map(int, file.read().split())
    return children


def descendants(pid: int) -> list[ProcessIdentity]:
    """Identities of all living processes below `pid`, parents before children."""
    found: list[ProcessIdentity] = []
    below = child_pids(pid)
    while below:
        child = below.pop(0)
        identity = identify(child)
        if identity is not None:
            found.append(identity)
        below += child_pids(child)
    return found


def group_members(process_group: int) -> list[int]:
    """Pids of the living members of a process group; reads all of /proc (some 10 us a process)."""
    members = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - without pathlib
        if name.isdigit():
            stat = read_stat(int(name))
            if stat and stat.process_group == process_group and stat.state not in _GONE_STATES:
                members.append(int(name))
    return members


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, so that none of them escapes it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent_pid: int, number: int) -> bool:
    """Ask the kernel for a signal when the parent ends; False when it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    return os.getppid() == parent_pid


def set_process_name(name: str) -> None:
    """Name this process for `ps` and `top`; the kernel keeps the first 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def end_children(spare: frozenset[int] = frozenset()) -> int:
    """Kill and reap every child except the spared ones, and with a subreaper their orphans too.

    Returns:
        How many were reaped.
    """
    own_pid, ended = os.getpid(), 0
    while targets := [pid for pid in child_pids(own_pid) if pid not in spare]:
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in targets:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
                ended += 1
    return ended
