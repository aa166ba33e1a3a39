"""A restore test (V4) and a disaster drill (V5), against reading and writing the same bytes.

`python benchmarks/drill.py [--quick] [--agents N] [--started N] [--rounds N]`. States are those of
`benchmarks/backup.py`. Two floors of this machine, taken in the same run: every state read from its
file and hashed with SHA-256, and the same bytes written once and synced. The drill restores from a
replica with the recovery key, starts real agents on a real supervisor, and waits until they work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _backup_data import StateFiles, make_body, timed

from fleet.agents import Workload
from fleet.reports import AgentDeclaration
from fleet.vault_keys import KeyEncryptionKey
from resources.clock import SystemClock
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.drills.drill import DrillRequest, run_drill
from resources.vault.drills.restore_test import run_restore_test
from resources.vault.keys.key_store import create_data_key, create_vault
from resources.vault.network import NetworkVault, open_network
from resources.vault.replicas.replicate import replicate
from resources.vault.snapshots.backup import back_up

HOME = KeyEncryptionKey("home", b"h" * 32)
RECOVERY = KeyEncryptionKey("recovery", b"r" * 32)
WORKLOAD = Workload(
    "advance",
    "net",
    function="_drill_agents:advance",
    arguments={"checkpoint_interval_s": "1"},
)


def make_replica(source: StateFiles, root: Path) -> DirectoryObjectStore:
    """Back the states up at home, and copy the vault to another region."""
    clock = SystemClock()
    home, replica = DirectoryObjectStore(root / "home"), DirectoryObjectStore(root / "replica")
    create_vault(home, clock.now())
    create_data_key(home, "net", [HOME, RECOVERY])
    vault = open_network(home, "net", [HOME], clock)
    back_up(vault, source)
    replicate(vault, NetworkVault(replica, vault.keys, clock))
    return replica


def measure_raw(source: StateFiles) -> float:
    """Read and hash every state."""

    def read() -> None:
        for name, info in source.infos.items():
            assert hashlib.sha256((source.folder / name).read_bytes()).hexdigest() == info.digest

    return timed(read)[0]


def measure_write(source: StateFiles, target: Path) -> float:
    """Write the same bytes once, synced in pieces of 16 MiB: what no restore can go below."""
    bodies = [(source.folder / name).read_bytes() for name in source.infos]

    def write() -> None:
        pending = 0
        with target.open("wb") as file:
            for body in bodies:
                file.write(body)
                pending += len(body)
                if pending >= 16 * 1024 * 1024:
                    file.flush()
                    os.fsync(file.fileno())
                    pending = 0
            file.flush()
            os.fsync(file.fileno())

    seconds = timed(write)[0]
    target.unlink()
    return seconds


def measure_restore_test(replica: DirectoryObjectStore, workspace: Path) -> dict[str, float]:
    """V4 of the newest snapshot, with its phases."""
    vault = open_network(replica, "net", [RECOVERY], SystemClock())
    began_cpu_s = time.process_time()
    (done,) = run_restore_test(vault, workspace, region="replica")
    cpu_s = time.process_time() - began_cpu_s
    assert done.ok, done.failures
    phases = {f"V4 {one['name']}": one["seconds"] for one in done.detail["phases"]}
    return {"V4": done.seconds, "V4 CPU": cpu_s, **phases}


def measure_drill(
    replica: DirectoryObjectStore, agent_ids: Sequence[str], workspace: Path
) -> dict[str, float]:
    """V5, with its phases."""
    request = DrillRequest(
        network_id="net",
        replicas={"replica": replica},
        kek_id="recovery",
        read_recovery_key=lambda: RECOVERY,
        workloads=[WORKLOAD],
        agents=[AgentDeclaration(one, "net", "advance", "eu", 1, 1) for one in agent_ids],
    )
    began_cpu_s = time.process_time()
    done = run_drill(request, workspace, SystemClock())
    cpu_s = time.process_time() - began_cpu_s
    assert done.ok, done.failures
    figures = {"V5": done.seconds, "V5 CPU without the node's": cpu_s}
    for one in done.detail["phases"]:
        name = "restore" if one["name"].startswith("restore ") else one["name"]
        figures[f"V5 {name}"] = one["seconds"]
    figures["RTO first step"] = done.detail["rto_first_step_s"]
    figures["RTO all running"] = done.detail["rto_all_s"]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=20_000)
    parser.add_argument("--started", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2,000 agents, 8 started, one round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    agents, started, rounds = options.agents, options.started, options.rounds
    if options.quick:
        agents, started, rounds = 2_000, 8, 1
    figures: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        root = Path(folder)
        source = StateFiles(root / "states")
        chance = random.Random(1)
        for number in range(agents):
            source.write_state(f"agent-{number:06d}", make_body(chance))
        logical = sum(info.size_bytes for info in source.infos.values())
        replica = make_replica(source, root)
        for _ in range(rounds):
            one = {"raw read and hash": measure_raw(source)}
            one["raw write and sync"] = measure_write(source, root / "raw")
            one |= measure_restore_test(replica, root / "w")
            one |= measure_drill(replica, list(source.infos)[:started], root / "w")
            figures.append(one)
    medians = {name: statistics.median(one[name] for one in figures) for name in figures[0]}
    report(medians, agents, started, logical, rounds, as_json=options.json)


def report(
    medians: Mapping[str, float],
    agents: int,
    started: int,
    logical: int,
    rounds: int,
    *,
    as_json: bool,
) -> None:
    """Medians, with the ratio to the raw read."""
    if as_json:
        print(json.dumps({"medians": medians, "bytes": logical}))
        return
    raw, written = medians["raw read and hash"], medians["raw write and sync"]
    print(f"{agents} states, {logical / 1e6:.1f} MB, {started} agents started, medians of {rounds}")
    for name, value in medians.items():
        ratios = f"{value / raw:7.1f} x the raw read  {value / written:7.1f} x the raw write"
        print(f"  {name:28} {value:8.3f} s  {ratios}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory {peak_mb:.0f} MB, the generator's included")


if __name__ == "__main__":
    main()
