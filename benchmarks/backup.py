"""Backup and restore of agent states, against restic, borg and the raw floor in the same run.

`python benchmarks/backup.py [--quick] [--full] [--million] [--agents N] [--rounds N]`.

* The default is 20,000 states of 471 MB in three rounds; `--full` adds 100,000 of 2.4 GB in one
  round; `--million` adds a manifest of a million agents; `--quick` is 2,000 states in one round.
* The vault is held by a process of its own (`_backup_process.py`) that reads states from the SQLite
  control store, as the product does; its peak memory is that of this process alone.
* The floors are what nothing can go below on this machine (`_backup_floors.py`): for a backup, read
  every state, compress it with zstd-3 in a thread per core, write the result; for restores, write
  the same bytes to the bare disk; for one into files, create them and flush the file system; for
  one into SQLite, decompress and hash every state once, then insert it by bare SQLite, as durably.
* restic and borg run on the same bytes, as files, where they are installed. Each of their commands
  is a whole process that starts and derives its key; ours is resident, as it is in the product.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _backup_data import TwinStates, agent_names, declare
from _backup_floors import (
    measure_disk_floor,
    measure_files_floor,
    measure_floor,
    measure_opening_floor,
    measure_store_floor,
)
from _backup_peers import PEERS, Cost, Peer

from resources.clock import SystemClock
from resources.control_store.opening import open_control_store

LINES = ("first backup", "2 % increment", "no change", "full restore", "one agent", "check all")
TARGETS: Mapping[int, Mapping[str, float]] = {
    20_000: dict(zip(LINES, (3.0, 0.5, 0.2, 3.0, 0.05, 1.5), strict=True)),
    100_000: dict(zip(LINES, (14.0, 1.0, 0.2, 9.0, 0.05, 5.0), strict=True)),
}
"""Seconds on two quiet cores; a restore into SQLite has the one of a full restore."""
TO_STORE = "restore to SQLite"
PEAK_TARGET_MB = 256.0
REQUESTS_TARGET = 4
FLAT_TARGET = 1.1
"""Memory after the last of many snapshots over that after the 10th."""
Figures = dict[str, Any]


class Resident:
    """The process that holds the vault."""

    def __init__(self, url: str, folder: Path) -> None:
        """Start it."""
        script = Path(__file__).with_name("_backup_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), url, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def do(self, verb: str, **arguments: Any) -> Any:
        """One verb; what it took."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the measured process ended during {verb}")
        return json.loads(answer)


class Round:
    """One round: ours and every peer on the same states, verb by verb."""

    def __init__(self, root: Path, states: TwinStates, url: str, seed: int) -> None:
        """Make empty repositories."""
        root.mkdir()
        self.root = root
        self.states = states
        self.url = url
        self.seed = seed
        self.names = list(states.versions)
        self.changed = self.names[:: max(1, min(50, len(self.names) // 10))]
        self.peers: list[Peer] = [one(root, states.folder) for one in PEERS if one.is_installed()]
        self.costs: dict[str, dict[str, Cost]] = {one.name: {} for one in self.peers}
        self.figures: Figures = {}
        self.stored: dict[str, list[float]] = {}

    def run(self) -> Self:
        """Everything once."""
        self.figures["load before"] = os.getloadavg()[0]
        self.figures["raw floor"] = measure_floor(self.states, self.root / "floor")
        with Resident(self.url, self.root / "vault") as resident:
            self.figures["idle"] = resident.do("idle")
            self._back_up(resident, "first backup")
            self.states.write(self.changed, self.seed)
            self._back_up(resident, "2 % increment")
            self._back_up(resident, "no change")
            self._restore(resident)
            self.figures["check all"] = resident.do("check")
        for peer in self.peers:
            self.costs[peer.name]["check all"] = peer.check()
        self.figures["load after"] = os.getloadavg()[0]
        return self

    def _back_up(self, resident: Resident, line: str) -> None:
        self.figures[line] = resident.do("back_up")
        self.stored.setdefault("ours", []).append(self.figures[line]["bytes_stored"] / 1e6)
        for peer in self.peers:
            before = peer.stored_bytes()
            self.costs[peer.name][line] = peer.back_up()
            added = (peer.stored_bytes() - before) / 1e6
            self.stored.setdefault(peer.name, []).append(added)

    def _restore(self, resident: Resident) -> None:
        folder = self.root / "restored"
        self.figures["disk floor"] = measure_disk_floor(self.states, self.root / "written")
        self.figures["files floor"] = measure_files_floor(self.states, self.root / "created")
        self.figures["full restore"] = resident.do("restore_files", folder=str(folder))
        for name, body in self.states.bodies():
            assert (folder / f"{name}.state").read_bytes() == body, name
        some = self.names[7 :: max(1, len(self.names) // 20)]
        one = str(self.root / "one")
        self.figures["one agent"] = resident.do("restore_one", agent_ids=some, folder=one)
        self.figures["one agent, cold"] = resident.do(
            "restore_one_cold", agent_id=some[0], folder=one
        )
        self._restore_store(resident)
        for peer in self.peers:
            self.costs[peer.name]["full restore"] = peer.restore()
            self.costs[peer.name]["one agent"] = peer.restore_one(some[0])

    def _restore_store(self, resident: Resident) -> None:
        raw = self.root / "raw.db"
        self.figures["store floor"] = measure_store_floor(self.states, raw)
        raw.unlink()
        url = f"sqlite:///{self.root / 'target.db'}"
        target = open_control_store(url, clock=SystemClock())
        declare(target, self.names)
        target.close()
        done: Figures = resident.do("restore_store", url=url)
        assert done["restored"] == len(self.names)
        self.figures[TO_STORE] = done
        self.figures["opening floor"] = measure_opening_floor(self.states)


def ours_of(one: Round, line: str) -> Cost:
    """Wall and CPU seconds of a line."""
    figures = one.figures[line]
    if line == "one agent":
        return Cost(figures["each_s"], figures["cpu_s"] * figures["each_s"] / figures["wall_s"])
    return Cost(figures["wall_s"], figures["cpu_s"])


def median_cost(costs: Sequence[Cost]) -> Cost:
    """Of each figure."""
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))


def report(rounds: Sequence[Round], agents: int, logical: int) -> None:
    """Each line with its target, ours, and the ratio to each peer."""
    first = rounds[0]
    loads = [
        load for one in rounds for load in (one.figures["load before"], one.figures["load after"])
    ]
    print(
        f"\n{agents} states, {logical / 1e6:.0f} MB, medians of {len(rounds)}, "
        f"load {min(loads):.1f} to {max(loads):.1f}, {datetime.now(UTC):%Y-%m-%d}"
    )
    targets = TARGETS.get(agents, {})
    for line in LINES:
        ours = median_cost([ours_of(one, line) for one in rounds])
        peers = {
            name: median_cost([one.costs[name][line] for one in rounds]) for name in first.costs
        }
        print(_line(line, ours, targets.get(line), peers))
    to_store = median_cost([ours_of(one, TO_STORE) for one in rounds])
    print(_line(TO_STORE, to_store, targets.get("full restore"), {}))
    _report_floors(rounds)
    _report_memory(rounds)
    _report_requests(rounds)
    for number, what in enumerate(("first", "increment", "no change")):
        sizes = ", ".join(
            f"{name} {statistics.median(one.stored[name][number] for one in rounds):.2f} MB"
            for name in first.stored
        )
        print(f"  stored by {what:12} {sizes}")
    for missing in [one.name for one in PEERS if not one.is_installed()]:
        print(f"  {missing} is not installed: no ratio to it in this run")


def _line(name: str, ours: Cost, target: float | None, peers: Mapping[str, Cost]) -> str:
    aim = "" if target is None else f"target {target:5.2f} {_judge(ours.wall_s, target):7}"
    ratios = "".join(
        f"  {peer} {cost.wall_s:6.2f} s (CPU {cost.cpu_s:5.2f}), {cost.wall_s / ours.wall_s:.1f}x"
        for peer, cost in peers.items()
    )
    return f"  {name:18} {ours.wall_s:8.3f} s (CPU {ours.cpu_s:6.3f})  {aim:21}{ratios}"


def _judge(value: float, target: float) -> str:
    return "met" if value <= target else "MISSED"


def _report_floors(rounds: Sequence[Round]) -> None:
    for one in rounds:
        both = one.figures["store floor"] + one.figures["opening floor"]
        one.figures["proof, then store"] = both
    for name, line in (
        ("raw floor", "first backup"),
        ("disk floor", "full restore"),
        ("files floor", "full restore"),
        ("disk floor", TO_STORE),
        ("opening floor", "check all"),
        ("store floor", TO_STORE),
        ("proof, then store", TO_STORE),
    ):
        floor = statistics.median(one.figures[name] for one in rounds)
        ratio = statistics.median(one.figures[line]["wall_s"] / one.figures[name] for one in rounds)
        print(f"  {name:18} {floor:8.3f} s  ({line} takes {ratio:.2f} times as long)")


def _report_memory(rounds: Sequence[Round]) -> None:
    shown = ("idle", "first backup", "2 % increment", "full restore", TO_STORE, "check all")
    peaks = {
        line: statistics.median(one.figures[line]["peak_mb"] for one in rounds) for line in shown
    }
    worst = max(peaks.values())
    text = ", ".join(f"{line} {peak:.0f}" for line, peak in peaks.items())
    aim = f"target {PEAK_TARGET_MB:.0f} {_judge(worst, PEAK_TARGET_MB)}"
    print(f"  peak memory, MB    {text}; {aim}")


def _report_requests(rounds: Sequence[Round]) -> None:
    warm = max(one.figures["one agent"]["requests"] for one in rounds)
    cold = max(one.figures["one agent, cold"]["requests"] for one in rounds)
    took = statistics.median(one.figures["one agent, cold"]["wall_s"] for one in rounds)
    print(
        f"  requests, one agent: {warm} warm, target {REQUESTS_TARGET} "
        f"{_judge(warm, REQUESTS_TARGET)}; {cold} by a handle that knows nothing, {took:.3f} s"
    )


def measure_states(folder: Path, agents: int, rounds: int) -> None:
    """Make the states once, and run the rounds on them."""
    url = f"sqlite:///{folder / 'control.db'}"
    names = agent_names(agents)
    (folder / "states").mkdir(parents=True)
    store = open_control_store(url, clock=SystemClock())
    try:
        declare(store, names)
        states = TwinStates(folder / "states", store)
        logical = states.write(names, seed=1)
        done = []
        for number in range(rounds):
            root = folder / f"round-{number}"
            done.append(Round(root, states, url, seed=10 + number).run())
            shutil.rmtree(root)
    finally:
        store.close()
    report(done, agents, logical)


def measure_many(folder: Path, agents: int, snapshots: int) -> None:
    """Memory of a process that takes very many small snapshots, one after the other."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'control.db'}"
    names = agent_names(agents)
    (folder / "states").mkdir()
    store = open_control_store(url, clock=SystemClock())
    try:
        declare(store, names)
        TwinStates(folder / "states", store).write(names, seed=1)
        with Resident(url, folder / "vault") as resident:
            resident.do("back_up")
            done = resident.do("many", snapshots=snapshots, names=names)
    finally:
        store.close()
    ratio = done["last_mb"] / done["tenth_mb"]
    print(
        f"\n{snapshots} snapshots of {agents} agents, one change each: {done['wall_s']:.1f} s; "
        f"memory after the 10th {done['tenth_mb']:.0f} MB, after all {done['last_mb']:.0f} MB, "
        f"ratio {ratio:.2f}, target {FLAT_TARGET} {_judge(ratio, FLAT_TARGET)}"
    )


def measure_million(folder: Path, agents: int) -> None:
    """The manifest alone, at a million agents; each step in a process of its own, as in a fleet."""
    folder.mkdir()
    url, many = f"sqlite:///{folder / 'control.db'}", str(folder / "many")
    done: dict[str, Any] = {}
    for step in ("first", "changed", "same"):
        with Resident(url, folder / "vault") as resident:
            done["idle"] = resident.do("idle")
            done[step] = resident.do("million_backup", agents=agents, folder=many, step=step)
    with Resident(url, folder / "vault") as resident:
        done |= resident.do("million_look_up", agents=agents, folder=many)
    idle_mb = done["idle"]["peak_mb"]
    print(f"\na manifest of {agents} agents with states of 16 bytes, load {os.getloadavg()[0]:.1f}")
    for line, what in {
        "first": "first backup: every state stored",
        "changed": "2,000 changed: diff and commit",
        "same": "nothing changed: diff and commit",
        "cold": "one agent, by a handle that knows nothing",
        "warm": "one agent, log and manifest known",
    }.items():
        figures = done[line]
        requests = f", {figures['requests']} requests" if "requests" in figures else ""
        print(
            f"  {what:42} {figures['wall_s']:8.3f} s (CPU {figures['cpu_s']:6.3f}), "
            f"peak {figures['peak_mb']:.0f} MB, {figures['peak_mb'] / idle_mb:.1f} x idle{requests}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2,000 agents, one round")
    parser.add_argument("--full", action="store_true", help="100,000 agents as well, one round")
    parser.add_argument("--million", action="store_true", help="a manifest of 1,000,000 as well")
    parser.add_argument("--folder", type=Path, help="where the data goes; must have room for it")
    options = parser.parse_args()
    agents, rounds = (2_000, 1) if options.quick else (options.agents, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.folder) as text:
        folder = Path(text)
        measure_states(folder / "states", agents, rounds)
        shutil.rmtree(folder / "states")
        if options.full:
            measure_states(folder / "full", 100_000, 1)
            shutil.rmtree(folder / "full")
        measure_many(folder / "many", min(agents, 2_000), 20 if options.quick else 200)
        if options.million:
            measure_million(folder / "million", 10_000 if options.quick else 1_000_000)


if __name__ == "__main__":
    main()
