"""The journal: one pass, a pass without changes, one agent at a moment; against writing the bytes.

`python benchmarks/journal.py [--quick] [--agents N] [--changed N] [--segments N] [--rounds N]`.
States are those of `benchmarks/backup.py`; the control store is SQLite. The floor of a pass is
compressing the same states with zstd-3 in one thread and writing them with one fsync; of a restore,
reading as many bytes as the state has.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.compute
import pyarrow.parquet  # noqa: F401
import zstandard
from _backup_data import KEYS, make_body

from fleet.agents import Placement, StatePut
from fleet.reports import AgentDeclaration
from resources.control_store.opening import open_control_store
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.journal.journal import append_segment
from resources.vault.network import NetworkVault
from resources.vault.restores.restore import LiveHead, restore
from resources.vault.snapshots.backup import back_up

BATCH = 2_000


class SteppingClock:
    """The real clock, which can be moved on: a day of passes in seconds."""

    def __init__(self) -> None:
        """In step with the real one."""
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC) + self.ahead

    def monotonic_s(self) -> float:
        """For durations."""
        return time.monotonic()


class Collected:
    """A target that keeps bodies."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.bodies: dict[str, bytes] = {}

    def heads(self, agent_ids: Any) -> dict[str, LiveHead]:
        """Nothing is live."""
        del agent_ids
        return {}

    def write(self, items: Any, *, more: bool) -> list[None]:
        """Keep them."""
        del more
        self.bodies.update({item.agent_id: item.body for item, _ in items})
        return [None] * len(items)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def write_states(store: Any, versions: dict[str, int], names: list[str], seed: int) -> int:
    """Put a new version of each agent; the bytes written."""
    chance = random.Random(seed)
    size = 0
    for start in range(0, len(names), BATCH):
        puts = []
        for name in names[start : start + BATCH]:
            body = make_body(chance)
            size += len(body)
            puts.append(StatePut(name, 1, versions.get(name, 0), body))
            versions[name] = versions.get(name, 0) + 1
        refused = [one.error for one in store.put_states(puts) if one.error]
        assert not refused, refused[0]
    return size


def declare(store: Any, names: list[str]) -> None:
    """Place all agents."""
    for start in range(0, len(names), BATCH):
        part = names[start : start + BATCH]
        store.declare_agents([AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in part])
        at = datetime.now(UTC)
        store.place_agents(
            [Placement(one, "net", "w", "n", "eu", 0, 1, "running", "", at) for one in part]
        )


def floor_of_pass(bodies: list[bytes], path: Path) -> float:
    """Compress and write once."""
    compressor = zstandard.ZstdCompressor(level=3)

    def work() -> None:
        with path.open("wb") as file:
            for body in bodies:
                file.write(compressor.compress(body))
            file.flush()
            os.fsync(file.fileno())

    return timed(work)[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=2_000)
    parser.add_argument("--segments", type=int, default=2_880)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2,000 agents, 200 segments")
    options = parser.parse_args()
    if options.quick:
        options.agents, options.changed, options.segments, options.rounds = 2_000, 40, 200, 3
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Build, journal, restore."""
    clock = SteppingClock()
    store = open_control_store(f"sqlite:///{folder / 'control.db'}", clock=clock)
    try:
        names = [f"agent-{number:06d}" for number in range(options.agents)]
        versions: dict[str, int] = {}
        declare(store, names)
        write_states(store, versions, names, 1)
        objects = DirectoryObjectStore(folder / "vault")
        vault = NetworkVault(objects, KEYS, clock)
        vault.read_only = True
        snapshot_s, _ = timed(lambda: back_up(vault, store))
        begin_s, _ = timed(lambda: append_segment(vault, store))
        print(
            f"{options.agents} agents; snapshot {snapshot_s:.2f} s, journal begun {begin_s:.2f} s"
        )
        report_passes(folder, vault, store, names, versions, options)
        report_restores(objects, clock, vault, store, names, versions, options)
    finally:
        store.close()


def report_passes(
    folder: Path,
    vault: NetworkVault,
    store: Any,
    names: list[str],
    versions: dict[str, int],
    options: argparse.Namespace,
) -> None:
    """Passes with and without changes, and the floor."""
    passes, floors, quiet, stored, logical = [], [], [], 0, 0
    networks: dict[str, str] = {}
    append_segment(vault, store, networks=networks)
    for number in range(options.rounds):
        changed = random.Random(number).sample(names, options.changed)
        write_states(store, versions, changed, 100 + number)
        seconds, result = timed(lambda: append_segment(vault, store, networks=networks))
        passes.append(seconds)
        stored, logical = result.bytes_stored, result.bytes_logical
        bodies = [one.body for one in store.states(changed)]
        floors.append(floor_of_pass(bodies, folder / f"floor-{number}"))
        quiet.append(timed(lambda: append_segment(vault, store))[0])
    one, floor = statistics.median(passes), statistics.median(floors)
    print(
        f"  pass, {options.changed} changed      {one:8.3f} s   {logical / 1e6:.1f} MB to "
        f"{stored / 1e6:.1f} MB; raw floor {floor:.3f} s, {one / floor:.2f} times as long"
    )
    print(f"  pass, no change          {statistics.median(quiet) * 1e3:8.2f} ms")
    print(f"  worst RPO at one pass a minute: {60 + max(passes):.1f} s")


def report_restores(
    objects: DirectoryObjectStore,
    clock: SteppingClock,
    vault: NetworkVault,
    store: Any,
    names: list[str],
    versions: dict[str, int],
    options: argparse.Namespace,
) -> None:
    """One agent at a moment behind a day or two of segments."""
    per_segment = max(1, options.changed // 100)
    chance = random.Random(7)
    networks: dict[str, str] = {}
    for number in range(options.segments):
        write_states(store, versions, chance.sample(names, per_segment), 10_000 + number)
        clock.ahead += timedelta(milliseconds=1)
        append_segment(vault, store, networks=networks)
    wanted = chance.choice(names)
    write_states(store, versions, [wanted], 5)
    append_segment(vault, store)
    body = store.states([wanted])[0].body
    cold, warm, raw = [], [], []
    for _ in range(3):
        reader = NetworkVault(objects, KEYS, clock)
        target = Collected()
        at = vault.journal.head().header.covered_at
        cold.append(timed(lambda: restore(reader, target, at=at, agent_ids=[wanted]))[0])  # noqa: B023
        warm.append(timed(lambda: restore(reader, target, at=at, agent_ids=[wanted]))[0])  # noqa: B023
        assert target.bodies == {wanted: body}
        key = vault.journal.refresh()[-1].key
        raw.append(timed(lambda: objects.get(key, 0, len(body)))[0])  # noqa: B023
    print(f"  one agent behind {options.segments} segments of {per_segment} changes:")
    print(f"    first time             {statistics.median(cold):8.3f} s")
    again, floor = statistics.median(warm), statistics.median(raw)
    print(
        f"    opened before          {again * 1e3:8.2f} ms, raw read of the bytes "
        f"{floor * 1e3:.3f} ms, {again / floor:.0f} times as long"
    )


if __name__ == "__main__":
    main()
