"""Failover on this machine, end to end: SIGKILL of nodes and of a region under `stateroom up`.

`python benchmarks/failover.py [--quick] [--kills N] [--agents N]`. A real fleet of three regions
with two nodes each is started; nodes are killed one after another, and each comes back before the
next. Times are those of the control store's journal, taken by the machine's clock:

* detection: from SIGKILL to the incident. Limit: the sensor's look, four a second, and the gap
  between its ticks (the daemon passes every 5 s).
* queue and launch: from the decision to the run's first step: the sensor daemon makes the run, the
  code server forks its worker. Compared with a fresh Python process that imports the definitions;
  `run_start.py` tells the parts apart.
* fence, plan, restore, move, start, ready: the run's own steps.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "platform_defs.command.main"]
REGIONS = ("us-west-2", "eu-central-1", "ap-southeast-2")
PAUSE_S = 60.0
"""Between two kills: the probation of the embedded profile (5 s), and the window within which at
most half of all agents are moved. Without it the blast radius is what is measured."""
WAIT_S = 180.0
"""Longest time for one failover; longer ones are printed as lost."""

SETTINGS = """\
[fleet]
name = "failover-benchmark"
[web]
port = 0
[backup]
enabled = false
[node]
cpu_milli = 100000
memory_mib = 65536
{regions}
[networks.host-watch]
[workloads.cpu]
network = "host-watch"
function = "stateroom_agent.observers:observe_cpu"
replicas_per_node = {agents}
cpu_milli = 10
memory_mib = 4
"""

STEPS = ("recheck", "fence", "plan", "restore", "move", "start", "ready")


def environment(folder: Path) -> dict[str, str]:
    """What the fleet's processes see: the settings, and bytecode."""
    found = {k: v for k, v in os.environ.items() if not k.startswith("STATEROOM_")}
    found |= {
        "STATEROOM_CONFIG": str(folder / "stateroom.toml"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}",
    }
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


@contextmanager
def running_fleet(folder: Path, agents: int) -> Iterator[sqlite3.Connection]:
    """A fleet under `stateroom up`; its control store, for reading."""
    regions = "\n".join(f"[regions.{one}]\nnodes = 2" for one in REGIONS)
    text = SETTINGS.format(regions=regions, agents=agents)
    (folder / "stateroom.toml").write_text(text, encoding="utf-8")
    log = (folder / "up.log").open("wb")
    up = subprocess.Popen(
        [*COMMAND, "up"], env=environment(folder), cwd=folder, stdout=log, stderr=log
    )
    try:
        end_s = time.monotonic() + 300
        while not re.search(r" is up: ", (folder / "up.log").read_text(encoding="utf-8")):
            if up.poll() is not None or time.monotonic() > end_s:
                raise SystemExit((folder / "up.log").read_text(encoding="utf-8"))
            time.sleep(0.2)
        store = sqlite3.connect(f"file:{folder}/state/control.db?mode=ro", uri=True)
        try:
            yield store
        finally:
            store.close()
    finally:
        up.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            up.wait(60)
        up.kill()
        up.wait()
        log.close()


def kill_node(folder: Path, node_id: str) -> None:
    """SIGKILL of a node's whole process group, as a crash of its machine."""
    run = json.loads((folder / "state/run/nodes" / f"{node_id}.json").read_text(encoding="utf-8"))
    os.killpg(int(run["process"][0]), signal.SIGKILL)


def placed(store: sqlite3.Connection, nodes: tuple[str, ...]) -> dict[str, int]:
    """Agents that are to run on these nodes, with their epochs."""
    marks = ",".join("?" * len(nodes))
    rows = store.execute(
        "SELECT agent_id, epoch FROM placements WHERE retired = 0 AND desired = 'running' "
        f"AND node_id IN ({marks})",
        nodes,
    )
    return dict(rows.fetchall())


def running(store: sqlite3.Connection) -> dict[str, int]:
    """Agents that a node reports as running, with their epochs."""
    found: dict[str, int] = {}
    for (text,) in store.execute("SELECT agents_json FROM node_reports"):
        for row in json.loads(text):
            if "running" in row:
                found[row[0]] = max(found.get(row[0], 0), row[1])
    return found


def fail_over(folder: Path, store: sqlite3.Connection, nodes: tuple[str, ...]) -> dict[str, float]:
    """Kill nodes, and take the times until all their agents run under a higher epoch."""
    before = placed(store, nodes)
    killed_at = time.time()
    for node_id in nodes:
        kill_node(folder, node_id)
    while time.time() - killed_at < WAIT_S:
        now = running(store)
        if all(now.get(agent_id, 0) > epoch for agent_id, epoch in before.items()):
            return {"agents": len(before)} | times_of(store, killed_at, time.time())
        time.sleep(0.05)
    return {"agents": len(before), "all": float("nan")}


def times_of(store: sqlite3.Connection, killed_at: float, ended_at: float) -> dict[str, float]:
    """Seconds of each phase, as the incident's journal tells them."""
    times = {"all": ended_at - killed_at}
    opened = store.execute(
        "SELECT incident_id, opened_at FROM incidents WHERE opened_at >= ? "
        "ORDER BY opened_at DESC LIMIT 1",
        (int(1e6 * (killed_at - 1)),),
    ).fetchone()
    if opened is None:
        return times
    rows = store.execute(
        "SELECT step, status, at FROM journal WHERE action_id = ?", (opened[0],)
    ).fetchall()
    began = {step.partition("/")[0]: at / 1e6 for step, status, at in rows if status == "started"}
    done = {step.partition("/")[0]: at / 1e6 for step, status, at in rows if status == "done"}
    times["detection"] = opened[1] / 1e6 - killed_at
    moves = ("decided/move_node", "decided/evacuate_region")
    decided = [at / 1e6 for step, _, at in rows if step.startswith(moves)]
    if decided and "recheck" in began:
        times["queue and launch"] = began["recheck"] - min(decided)
    for name in STEPS:
        if name in began and name in done:
            times[name] = done[name] - began[name]
    return times


def bring_back(folder: Path, store: sqlite3.Connection, nodes: tuple[str, ...]) -> None:
    """Start killed nodes again, and wait until no incident is open and they are trusted again."""
    for node_id in nodes:
        subprocess.run(
            [*COMMAND, "chaos", "start-node", node_id, "--yes"],
            env=environment(folder),
            cwd=folder,
            check=True,
            capture_output=True,
        )
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        still_open = store.execute("SELECT count(*) FROM incidents WHERE state <> 'ended'")
        if still_open.fetchone()[0] == 0:
            break
        time.sleep(0.2)
    time.sleep(PAUSE_S)


def floor_s(folder: Path) -> float:
    """A Python process that imports the definitions, started and ended: median of three."""
    taken = []
    for _ in range(3):
        began_s = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", "import platform_defs.definitions"],
            env=environment(folder),
            cwd=ROOT,
            check=True,
        )
        taken.append(time.monotonic() - began_s)
    return statistics.median(taken)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three kills and no region")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--agents", type=int, default=8, help="per node")
    options = parser.parse_args()
    kills = 3 if options.quick else options.kills
    with tempfile.TemporaryDirectory(prefix="sr-") as name:
        folder = Path(name)
        with running_fleet(folder, options.agents) as store:
            time.sleep(10)  # the controller has seen everybody beat
            launch_s = floor_s(folder)
            rounds = []
            for number in range(kills):
                node = (f"{REGIONS[number % 3]}-{1 + number // 3 % 2}",)
                rounds.append(fail_over(folder, store, node))
                print(f"kill {number + 1} of {node[0]}: {_line(rounds[-1])}", flush=True)
                bring_back(folder, store, node)
            report(rounds, launch_s)
            if not options.quick:
                nodes = tuple(f"{REGIONS[0]}-{number}" for number in (1, 2))
                print(f"region {REGIONS[0]}: {_line(fail_over(folder, store, nodes))}")


def report(rounds: list[dict[str, float]], launch_s: float) -> None:
    """Median and worst of each phase, and the floor of a launch."""
    print(f"\n{'phase':<18}{'median s':>10}{'worst s':>10}")
    for name in ("detection", "queue and launch", *STEPS, "all"):
        taken = [one[name] for one in rounds if name in one]
        if taken:
            print(f"{name:<18}{statistics.median(taken):>10.2f}{max(taken):>10.2f}")
    launches = [one["queue and launch"] for one in rounds if "queue and launch" in one]
    if launches:
        ratio = statistics.median(launches) / launch_s
        print(
            f"\na process that imports the definitions: {launch_s:.2f} s; launch x{ratio:.1f} of it"
        )
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")


def _line(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in times.items())


if __name__ == "__main__":
    main()
