"""What it costs to start an agent, to keep it, and to keep a thousand of them.

Usage: python benchmarks/spawn.py [--quick] [--agents N] [--seconds S]

Prints:
(a) the time from the order to start an agent until its process exists, and until it has registered
    with its supervisor over HTTP, against a bare `os.fork` + `os.waitpid` of a parent of the same
    kind, in alternating rounds;
(b) the memory that is an idle agent's own (USS), against that of a bare fork;
(c) the time from the SIGKILL of an agent until its next process exists, less its policy's delay,
    in a real node;
(d) with --agents: a real node with N idle agents for S seconds: how long until all are registered,
    heartbeats of the node and of agents that were late, CPU time and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk"))

from fleet.agents import RestartPolicy, Workload
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.agent_api import build_agent_app
from resources.local.agent_directory import AgentDirectory, AgentEntry
from resources.local.fleet_declaration import declare_fleet
from resources.local.linux_processes import child_pids, group_members
from resources.local.local_cluster import LocalCluster
from resources.local.node_servers import NodeServers
from resources.local.node_spec import NodeSpec
from resources.local.write_batcher import WriteBatcher
from resources.local.zygote_client import AgentProgram, ZygoteClient

IDLE = "_spawn_agents:idle"
HEARTBEAT_S = 2.0
RESTART_DELAY_S = 0.05
LATE_AFTER_S = 1.0
"""An agent's heartbeat counts as late when it is older than its interval by this much."""

BARE_FORK = """
import gc, json, os, sys, time
import stateroom_agent.main, resources.local.zygote, _spawn_agents
gc.disable(); gc.collect()
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        gc.freeze()
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        times.append(time.perf_counter() - start)
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
    time.sleep(0.05)
    text = open(f"/proc/{pid}/smaps_rollup").read()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    print(json.dumps([times, text]), flush=True)
"""


class TimedDirectory(AgentDirectory):
    """The supervisor's directory, which tells when an agent has registered."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__(SystemClock())
        self.registered = asyncio.Event()

    def register(self, agent_id: str, epoch: int) -> AgentEntry:
        """Register, and wake who waits for it."""
        entry = super().register(agent_id, epoch)
        self.registered.set()
        return entry


class NoWrites:
    """Idle agents write nothing; a store that is asked says so."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"an idle agent needs no {name}")


def uss_bytes(smaps_rollup: str) -> int:
    """Private pages, clean and dirty."""
    return 1024 * sum(int(kb) for kb in re.findall(r"Private_\w+:\s+(\d+) kB", smaps_rollup))


def own_bytes(pid: int) -> int:
    """Memory that is a process's own."""
    return uss_bytes(Path(f"/proc/{pid}/smaps_rollup").read_text())


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def show_times(what: str, times_s: list[float], bare_s: float) -> None:
    """Print median, p99 and the ratio to a bare fork."""
    median_ms, p99_ms = (1000 * v for v in (statistics.median(times_s), percentile(times_s, 0.99)))
    ratio = median_ms / (1000 * bare_s)
    print(f"  {what:<34} median {median_ms:6.2f} ms   p99 {p99_ms:6.2f} ms   {ratio:5.1f} x a fork")


class SpawnBench:
    """A supervisor's loop, server, directory and zygote, without a control store."""

    def __init__(self, folder: Path) -> None:
        """Keep the socket and the log in `folder`."""
        self.folder = folder
        self.directory = TimedDirectory()
        self.events: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.zygote = ZygoteClient(self.events.put_nowait)
        self.workload = Workload("idle", "bench", function=IDLE)

    async def spawn(self, number: int) -> tuple[int, float, float]:
        """Start one agent; returns pid, seconds until it exists, seconds until registered."""
        agent_id = f"agent-{number}"
        start = time.perf_counter()
        self.directory.registered.clear()
        self.directory.admit(agent_id, "bench", self.workload, 1)
        environment = {
            "AGENT_ID": agent_id,
            "NETWORK_ID": "bench",
            "EPOCH": "1",
            "AGENT_ARGUMENTS": "{}",
            "STATEROOM_SOCKET": str(self.folder / "agents.sock"),
        }
        log = str(self.folder / "log")
        self.zygote.spawn(AgentProgram(agent_id, IDLE, (), environment, log))
        event = await self.events.get()
        exists_s = time.perf_counter() - start
        await asyncio.wait_for(self.directory.registered.wait(), 10.0)
        registered_s = time.perf_counter() - start
        return int(str(event["pid"])), exists_s, registered_s

    async def end(self, pid: int) -> None:
        """Kill an agent and wait for its end."""
        self.zygote.send_signal(pid, signal.SIGKILL)
        await self.events.get()


def start_bare() -> subprocess.Popen[str]:
    """A parent of the zygote's kind that only forks and waits."""
    command = [sys.executable, "-c", BARE_FORK]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def measure_spawns(bare: subprocess.Popen[str], rounds: int, spawns: int) -> None:
    """Start agents one after the other, in rounds that alternate with bare forks."""
    assert bare.stdin is not None
    assert bare.stdout is not None
    with tempfile.TemporaryDirectory(prefix="sr-") as folder, bare, bare.stdin, bare.stdout:
        bench = SpawnBench(Path(folder))
        bench.zygote.start()
        batcher = WriteBatcher(NoWrites(), SystemClock())
        app = build_agent_app(bench.directory, batcher, NoWrites(), SystemClock())
        servers = NodeServers()
        await servers.serve_agents(app, Path(folder) / "agents.sock")
        exists, registered, forks = [], [], []
        agent_uss, bare_uss = [], []
        number = 0
        for _ in range(rounds):
            bare.stdin.write(f"{spawns}\n")
            bare.stdin.flush()
            times, text = json.loads(bare.stdout.readline())
            forks += times
            bare_uss.append(uss_bytes(text))
            for _ in range(spawns):
                number += 1
                pid, exists_s, registered_s = await bench.spawn(number)
                if number > 1:  # the first one waits for the import of its module
                    exists.append(exists_s)
                    registered.append(registered_s)
                await bench.end(pid)
            pid, _, _ = await bench.spawn(number + 1)
            await asyncio.sleep(0.3)
            agent_uss.append(own_bytes(pid))
            await bench.end(pid)
        await servers.stop()
        await bench.zygote.stop()
        batcher.close()
    bare_s = statistics.median(forks)
    print(f"(a) starting an agent, {len(registered)} times")
    show_times("bare fork + wait", forks, bare_s)
    show_times("its process exists", exists, bare_s)
    show_times("it has registered (<= 5 / 20 ms)", registered, bare_s)
    agent_mib, fork_mib = (statistics.median(u) / 2**20 for u in (agent_uss, bare_uss))
    print("(b) memory that is its own (USS)")
    print(f"  bare fork {fork_mib:5.2f} MiB")
    ratio = agent_mib / fork_mib
    print(f"  idle agent, beating (<= 1.5 MiB) {agent_mib:5.2f} MiB   {ratio:.1f} x a fork")


@contextmanager
def running_node(agents: int) -> Iterator[tuple[LocalCluster, str]]:
    """A real node with idle agents; ended whatever happens."""
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        state_dir = Path(folder)
        (state_dir / "lake").mkdir()
        url = f"sqlite:///{state_dir}/control.db"
        clock = SystemClock()
        store = open_control_store(url, clock=clock)
        node = NodeDeclaration("bench", "here", "here-a", 10**9, 2**50)
        policy = RestartPolicy(
            delay_s=RESTART_DELAY_S, delay_max_s=RESTART_DELAY_S, attempts_max=1_000_000
        )
        workload = Workload("idle", "bench", function=IDLE, restart=policy)
        declared = [
            AgentDeclaration(f"agent-{n:04}", "bench", "idle", "here", 1, 1) for n in range(agents)
        ]
        declare_fleet(store, [node], [workload], declared, clock)
        spec = NodeSpec(
            node=node,
            store_url=url,
            lake_path=str(state_dir / "lake"),
            state_dir=folder,
            socket_path=str(state_dir / "run" / "bench.sock"),
        )
        cluster = LocalCluster(store, state_dir, clock, [spec])
        try:
            cluster.start_nodes()
            yield cluster, folder
        finally:
            start = time.perf_counter()
            killed = cluster.stop_nodes()
            print(f"  stopped in order in {time.perf_counter() - start:.1f} s, killed: {killed}")
            store.close()


def measure_restarts(kills: int) -> None:
    """Kill the one agent of a node again and again."""
    times_s = []
    with running_node(1) as (cluster, _):
        (zygote,) = child_pids(cluster.runs()[0].process.pid)
        while (pid := cluster.snapshot("here").agents[0].pid) is None:
            time.sleep(0.05)
        for _ in range(kills):
            os.kill(pid, signal.SIGKILL)
            start = time.perf_counter()
            while not (new := [other for other in child_pids(zygote) if other != pid]):
                time.sleep(0.0005)
            times_s.append(time.perf_counter() - start - RESTART_DELAY_S)
            pid = new[0]
            time.sleep(0.05)
    median_ms, p99_ms = (1000 * v for v in (statistics.median(times_s), percentile(times_s, 0.99)))
    print(f"(c) restarting a killed agent, {kills} times, beside its delay of 50 ms (<= 100 ms)")
    print(f"  median {median_ms:6.2f} ms   p99 {p99_ms:6.2f} ms")


def scrape(cluster: LocalCluster) -> dict[str, float]:
    """The node's own counters by name."""
    address = cluster.runs()[0].address
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"}


def cpu_s(pids: list[int]) -> float:
    """CPU time of all threads, from the scheduler: exact where the clock ticks are too coarse."""
    spent_ns = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            spent_ns += int(task.read_text().split()[0])
    return spent_ns / 1e9


def measure_node(agents: int, seconds: float) -> None:
    """Run a node for a while and look once a second."""
    print(f"(d) a node with {agents} idle agents, each beating every {HEARTBEAT_S:g} s")
    start = time.perf_counter()
    with running_node(agents) as (cluster, _):
        clock = SystemClock()
        while True:
            seen = cluster.snapshot("here").agents
            if all(agent.heartbeat_at for agent in seen):
                break
            if time.perf_counter() - start > 60.0:
                late = [agent for agent in seen if agent.heartbeat_at is None]
                print(f"  given up: {len(late)} agents have not registered within 60 s; {late[0]}")
                return
            time.sleep(0.05)
        print(f"  all registered and reported {time.perf_counter() - start:.1f} s after `up`")
        group = cluster.runs()[0].process.pid
        (zygote,) = child_pids(group)
        pids = [pid for pid in group_members(group) if pid not in {group, zygote}]
        print(f"  memory: {_memory(group, zygote, pids)}")
        before, begin = scrape(cluster), time.perf_counter()
        own_before_s, agents_before_s = cpu_s([group, zygote]), cpu_s(pids)
        late, looks, worst_s = 0, 0, 0.0
        while time.perf_counter() - begin < seconds:
            time.sleep(1.0)
            node = cluster.snapshot("here")
            for agent in node.agents:
                # Ages are taken at the node's report, which is what an operator would see.
                reported_at = node.nodes[0].heartbeat_at or clock.now()
                age_s = (reported_at - (agent.heartbeat_at or reported_at)).total_seconds()
                worst_s = max(worst_s, age_s)
                late += age_s > HEARTBEAT_S + LATE_AFTER_S
                looks += 1
        took_s, after = time.perf_counter() - begin, scrape(cluster)
        node_late = after["stateroom_node_heartbeats_late_total"]
        sent = after["stateroom_node_heartbeats_total"] - before["stateroom_node_heartbeats_total"]
        print(f"  node heartbeats in {took_s:.0f} s: {sent:.0f}, late since start: {node_late:.0f}")
        print(f"  agent heartbeats seen: {looks}, late: {late}, oldest {worst_s:.2f} s")
        own = 100 * (cpu_s([group, zygote]) - own_before_s) / took_s
        theirs = 100 * (cpu_s(pids) - agents_before_s) / took_s
        print(f"  CPU: supervisor and zygote {own:.0f} %, all agents {theirs:.0f} % of one core")


def _memory(group: int, zygote: int, pids: list[int]) -> str:
    sampled = [own_bytes(pid) / 2**20 for pid in pids[:: max(1, len(pids) // 50)]]
    return (
        f"agent {statistics.median(sampled):.2f} MiB own (median of {len(sampled)}), "
        f"supervisor {own_bytes(group) / 2**20:.0f} MiB, zygote {own_bytes(zygote) / 2**20:.0f} MiB"
    )


def main() -> None:
    """Measure and print."""
    # For the processes that are started: they import what this script imports.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--agents", type=int, default=0, help="also run a node with so many")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (at most 60)")
    options = parser.parse_args()
    rounds, spawns = (3, 30) if options.quick else (5, 100)
    asyncio.run(measure_spawns(start_bare(), rounds, spawns))
    measure_restarts(20 if options.quick else 100)
    if options.agents:
        measure_node(options.agents, min(options.seconds, 60.0))


if __name__ == "__main__":
    main()
