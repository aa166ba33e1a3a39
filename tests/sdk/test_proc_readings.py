"""Readings of /proc: recorded texts give known numbers, this machine's give sensible ones."""

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateroom_agent.proc_readings import (
    CpuTimes,
    Memory,
    NetworkCounters,
    busy_percent,
    own_memory_bytes,
    parse_cpu_times,
    parse_memory,
    parse_network,
    read_disk,
    read_text,
)

RECORDED = Path(__file__).parents[1] / "golden" / "proc"


def test_recorded_texts_give_known_numbers() -> None:
    """Guests are not counted twice, waiting is idle, the loopback is no network."""
    times = parse_cpu_times(read_text(f"{RECORDED}/stat"))
    busy = 78059 + 11287 + 17518 + 0 + 1071 + 119
    assert times == CpuTimes(busy, busy + 862711 + 1718)
    memory = parse_memory(read_text(f"{RECORDED}/meminfo"))
    assert memory == Memory(24684084 * 1024, 23987488 * 1024)
    network = parse_network(read_text(f"{RECORDED}/net/dev"))
    assert network == NetworkCounters(1406586676 + 1000, 2336688 + 2000)


def test_this_machine_reads_as_psutil_reads_it() -> None:
    """An independent reader of the same kernel agrees."""
    memory = parse_memory(read_text("/proc/meminfo"))
    peer = psutil.virtual_memory()
    assert memory.total_bytes == peer.total
    assert abs(memory.available_bytes - peer.available) < 0.2 * peer.total
    before = psutil.net_io_counters(pernic=True)
    network = parse_network(read_text("/proc/net/dev"))
    after = psutil.net_io_counters(pernic=True)
    low = sum(nic.bytes_recv for name, nic in before.items() if name != "lo")
    high = sum(nic.bytes_recv for name, nic in after.items() if name != "lo")
    assert low <= network.received_bytes <= high
    first, second = (parse_cpu_times(read_text("/proc/stat")) for _ in range(2))
    assert first.total <= second.total
    assert 0.0 <= busy_percent(first, second) <= 100.0
    rss = psutil.Process().memory_info().rss
    assert abs(own_memory_bytes() - rss) < 0.2 * rss


def test_the_disk_reads_as_psutil_reads_it() -> None:
    """Both follow `df`; others may write meanwhile."""
    disk, peer = read_disk("/"), psutil.disk_usage("/")
    assert disk.used_percent == pytest.approx(peer.percent, abs=1.0)
    assert disk.free_bytes == pytest.approx(peer.free, rel=0.05)
    with pytest.raises(FileNotFoundError):
        read_disk("/no/such/place")


@pytest.mark.parametrize("text", ["", "cpu 1 2", "cpu0 1 2 3 4", "cpu a b c d\n", "intr 1 2 3 4 5"])
def test_a_foreign_stat_text_is_an_error(text: str) -> None:
    """Not a reading of zero."""
    with pytest.raises(ValueError, match=r"proc/stat|invalid literal"):
        parse_cpu_times(text)


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n"])
def test_a_foreign_meminfo_text_is_an_error(text: str) -> None:
    """Not a reading of zero."""
    with pytest.raises(ValueError, match=r"meminfo|invalid literal"):
        parse_memory(text)


def test_a_foreign_net_dev_text_is_an_error() -> None:
    """Not a reading of zero."""
    with pytest.raises(ValueError, match="net/dev"):
        parse_network("a\nb\neth0: 1 2 3\n")


@given(st.text(max_size=200))
def test_no_text_gives_anything_but_numbers_or_a_clear_error(text: str) -> None:
    """Whatever a kernel or a container shows."""
    for parse in (parse_cpu_times, parse_memory, parse_network):
        with suppress(ValueError):
            assert all(isinstance(number, int) for number in parse(text))


@given(st.tuples(*[st.integers(0, 10**6)] * 4))
def test_the_busy_share_stays_between_0_and_100(ticks: tuple[int, int, int, int]) -> None:
    """Also when counters step back, as idle and iowait may."""
    before = CpuTimes(ticks[0], ticks[0] + ticks[1])
    after = CpuTimes(ticks[2], ticks[2] + ticks[3])
    assert 0.0 <= busy_percent(before, after) <= 100.0


def test_a_text_longer_than_a_buffer_is_read_whole(tmp_path: Path) -> None:
    """A host with hundreds of interfaces."""
    path = tmp_path / "dev"
    path.write_text("x" * 100_000)
    assert read_text(str(path)) == "x" * 100_000
    link = f"/proc/self/fd/{(descriptor := os.open(os.devnull, os.O_RDONLY))}"
    os.close(descriptor)
    assert read_text(str(path))
    assert not Path(link).exists()
