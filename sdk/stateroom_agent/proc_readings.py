"""Reads how busy this machine is from Linux's /proc and statvfs.

Source: proc_stat(5), proc_meminfo(5), proc_pid_net(5), proc_pid_statm(5) of the Linux man-pages;
the share of a disk in use is computed as GNU `df` does.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class CpuTimes(NamedTuple):
    """Clock ticks since boot, summed over all processors."""

    busy: int
    total: int


class Memory(NamedTuple):
    """Main memory in bytes."""

    total_bytes: int
    available_bytes: int
    """What could be had without swapping, by the kernel's estimate."""


class NetworkCounters(NamedTuple):
    """Bytes since boot over all interfaces but the loopback."""

    received_bytes: int
    sent_bytes: int


class Disk(NamedTuple):
    """One file system, as an ordinary user sees it."""

    used_percent: float
    free_bytes: int


def read_text(path: str) -> str:
    """A small file of /proc as text.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(descriptor, 16384):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode("ascii", "replace")


def parse_cpu_times(stat: str) -> CpuTimes:
    """Times from the text of /proc/stat.

    `guest` and `guest_nice` are left out, for they are part of `user` and `nice`; waiting for a
    disk counts as idle.

    Raises:
        ValueError: the text does not begin with the line of all processors.
    """
    name, *fields = stat.partition("\n")[0].split()
    if name != "cpu" or len(fields) < 4:
        raise ValueError(f"/proc/stat begins with {stat[:40]!r}")
    ticks = [int(field) for field in fields[:8]]
    total = sum(ticks)
    return CpuTimes(total - sum(ticks[3:5]), total)


def busy_percent(before: CpuTimes, after: CpuTimes) -> float:
    """Share of the processors' time between two readings that was spent working, 0 to 100."""
    total = after.total - before.total
    # Counters of idle and iowait may step back a little (proc_stat(5)), hence the bounds.
    return min(100.0, max(0.0, 100.0 * (after.busy - before.busy) / total)) if total > 0 else 0.0


def parse_memory(meminfo: str) -> Memory:
    """Memory from the text of /proc/meminfo.

    Raises:
        ValueError: MemTotal or MemAvailable (Linux 3.14 and later) is missing.
    """
    found = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name in {"MemTotal", "MemAvailable"}:
            found[name] = int(rest.split()[0]) * 1024
    if len(found) != 2:
        raise ValueError(f"/proc/meminfo holds only {sorted(found)}")
    return Memory(found["MemTotal"], found["MemAvailable"])


def parse_network(net_dev: str) -> NetworkCounters:
    """Counters from the text of /proc/net/dev.

    Raises:
        ValueError: a line has not the fields it should have.
    """
    received_bytes = sent_bytes = 0
    for line in net_dev.splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) < 9:
            raise ValueError(f"/proc/net/dev holds {line!r}")
        if name.strip() != "lo":
            received_bytes += int(fields[0])
            sent_bytes += int(fields[8])
    return NetworkCounters(received_bytes, sent_bytes)


def read_disk(path: str) -> Disk:
    """The file system that holds `path`.

    Raises:
        OSError: `path` cannot be reached.
    """
    status = os.statvfs(path)
    used = status.f_blocks - status.f_bfree
    usable = used + status.f_bavail
    percent = 100.0 * used / usable if usable else 0.0
    return Disk(percent, status.f_bavail * status.f_frsize)


def own_memory_bytes(proc_path: str = "/proc") -> int:
    """Resident memory of this process, pages shared with others included."""
    pages = int(read_text(f"{proc_path}/self/statm").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
