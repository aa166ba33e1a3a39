"""What the agents' API costs: durable puts, heartbeats, and the memory of an idle agent.

Usage: python benchmarks/agent_api.py [--quick] [--folder DIR]

Prints, on SQLite with fsync at each commit:
(a) durable puts of 8 KB states through the API by 64 agent processes, with latencies, against
    batches of 64 puts straight into the same store, in alternating rounds;
(b) heartbeats per second by 64 agent processes, and the server's CPU time for each;
(c) the memory that is an idle forked agent's own (USS), with this client and with `http.client`,
    against a bare fork of the same parent;
(d) the CPU time of many built-in observers at their default rates, and of the server they use.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk"))

# What a warm parent has loaded before it forks; the server's libraries are not among it.
import stateroom_agent.main
import stateroom_agent.observers
from resources.clock import SystemClock
from stateroom_agent.agent import Agent

STATE_BYTES = 8192
AGENTS = 64
NETWORK = "bench"
FUNCTIONS = ("observe_cpu", "observe_memory", "observe_disk", "observe_network")


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child; its standard output is the parent's."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the exit code tells the parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def gather(work: Callable[[int], list[float]], children: int) -> list[list[float]]:
    """Run `work(number)` in children at once; returns their numbers."""
    reads, pids = [], []
    for number in range(children):
        read_end, write_end = os.pipe()

        def tell(number: int = number, write_end: int = write_end) -> None:
            with os.fdopen(write_end, "w") as out:
                json.dump(work(number), out)

        pids.append(fork(tell))
        os.close(write_end)
        reads.append(read_end)
    results = []
    for read_end in reads:
        with os.fdopen(read_end) as answers:
            results.append(json.loads(answers.read()))
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, "a child has failed; see above"
    return results


def serve(folder: Path, names: list[str]) -> None:
    """The supervisor's part, in a process of its own: real store, batcher, server."""
    import uvicorn

    from fleet.agents import Placement, Workload
    from fleet.reports import AgentDeclaration
    from resources.control_store.opening import open_control_store
    from resources.local.agent_api import build_agent_app
    from resources.local.agent_directory import AgentDirectory
    from resources.local.agent_server import agent_server_config
    from resources.local.write_batcher import WriteBatcher

    clock = SystemClock()
    store = open_control_store(f"sqlite:///{folder}/control.db", clock=clock)
    workload = Workload("watch", NETWORK, function="stateroom_agent.observers:observe_cpu")
    store.declare_workloads([workload])
    store.declare_agents(
        [AgentDeclaration(n, NETWORK, "watch", "here", 10, 16 * 2**20) for n in names]
    )
    store.place_agents(
        [
            Placement(n, NETWORK, "watch", "node-1", "here", 0, 1, "running", "bench", clock.now())
            for n in names
        ]
    )
    directory = AgentDirectory(clock)
    for name in names:
        directory.admit(name, NETWORK, workload, 1)
    batcher = WriteBatcher(store, clock)
    app = build_agent_app(directory, batcher, store, clock)
    # uvicorn passes the signal on after its shutdown; what follows must still happen.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.Server(agent_server_config(app, folder / "s")).run()
    batcher.close()
    stats = batcher.stats()
    if stats.batches:
        print(f"    server: {stats.writes / stats.batches:.1f} writes in a batch on average")
    store.close()


@contextlib.contextmanager
def server(folder: Path, names: list[str]) -> Iterator[int]:
    """Serve in a child until the end of the block; yields its pid."""
    pid = fork(lambda: serve(folder, names))
    agent = Agent(names[0], NETWORK, 1, str(folder / "s"))
    agent.heartbeat()
    agent.close()
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def agent_names(agents: int) -> list[str]:
    """The agents that `new_agent` makes."""
    return [f"agent-{number}" for number in range(agents)]


def new_agent(folder: Path, number: int) -> Agent:
    """One of the agents that the server knows."""
    return Agent(f"agent-{number}", NETWORK, 1, str(folder / "s"))


def cpu_s(pid: int) -> float:
    """CPU time that the threads of a process have used, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def put_round(folder: Path, duration_s: float) -> tuple[float, list[float]]:
    """Durable puts per second by 64 agents, and all latencies in seconds."""

    def work(number: int) -> list[float]:
        agent, latencies = new_agent(folder, number), []
        agent.load_state()
        body = os.urandom(STATE_BYTES)
        end_s = time.monotonic() + duration_s
        while (begin_s := time.monotonic()) < end_s:
            agent.save_state(body)
            latencies.append(time.monotonic() - begin_s)
        return latencies

    begin_s = time.monotonic()
    latencies = [value for values in gather(work, AGENTS) for value in values]
    return len(latencies) / (time.monotonic() - begin_s), latencies


def direct_round(folder: Path, duration_s: float) -> float:
    """Durable puts per second in batches of 64, straight into a store of the same kind."""
    from fleet.agents import Placement, StatePut
    from fleet.reports import AgentDeclaration
    from resources.control_store.opening import open_control_store

    clock = SystemClock()
    names = [f"direct-{number}" for number in range(AGENTS)]
    with contextlib.closing(
        open_control_store(f"sqlite:///{folder}/direct.db", clock=clock)
    ) as store:
        store.declare_agents(
            [AgentDeclaration(n, NETWORK, "watch", "here", 10, 16 * 2**20) for n in names]
        )
        store.place_agents(
            [
                Placement(n, NETWORK, "watch", "n", "here", 0, 1, "running", "", clock.now())
                for n in names
            ]
        )
        epochs = {p.agent_id: p.epoch for p in store.placements()}
        versions = {info.agent_id: info.version for info in store.state_infos()}
        body, count = os.urandom(STATE_BYTES), 0
        begin_s = time.monotonic()
        while time.monotonic() < begin_s + duration_s:
            puts = [StatePut(n, epochs[n], versions.get(n, 0), body) for n in names]
            for result in store.put_states(puts):
                assert result.error is None, result.error
                versions[result.agent_id] = result.version
            count += len(puts)
        return count / (time.monotonic() - begin_s)


def bench_puts(folder: Path, rounds: int, duration_s: float) -> None:
    """(a)."""
    through, direct, latencies = [], [], []
    with server(folder, agent_names(AGENTS)) as pid:
        busy_s, puts = cpu_s(pid), 0
        for _ in range(rounds):
            rate, seen = put_round(folder, duration_s)
            through.append(rate)
            latencies += seen
            puts += len(seen)
            direct += gather(lambda _: [direct_round(folder, duration_s)], 1)[0]
        busy_s = cpu_s(pid) - busy_s
    latencies.sort()
    rate, peer = statistics.median(through), statistics.median(direct)
    print(f"(a) durable puts of {STATE_BYTES} bytes, {AGENTS} agents")
    print(f"    through the API   {rate:8.0f} /s   direct batches {peer:8.0f} /s")
    print(f"    ratio             {rate / peer:8.2f}")
    print(
        f"    latency p50 {1e3 * latencies[len(latencies) // 2]:.1f} ms, "
        f"p99 {1e3 * latencies[len(latencies) * 99 // 100]:.1f} ms; "
        f"server CPU {1e6 * busy_s / puts:.0f} us a put"
    )


def bench_heartbeats(folder: Path, rounds: int, duration_s: float) -> None:
    """(b)."""

    def work(number: int) -> list[float]:
        agent, count = new_agent(folder, number), 0
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            agent.heartbeat()
            count += 1
        return [count]

    rates = []
    with server(folder, agent_names(AGENTS)) as pid:
        busy_s, beats = cpu_s(pid), 0.0
        for _ in range(rounds):
            begin_s = time.monotonic()
            count = sum(values[0] for values in gather(work, AGENTS))
            rates.append(count / (time.monotonic() - begin_s))
            beats += count
        busy_s = cpu_s(pid) - busy_s
    print(f"(b) heartbeats        {statistics.median(rates):8.0f} /s by {AGENTS} agents")
    print(f"    server CPU        {1e6 * busy_s / beats:8.0f} us a heartbeat")
    print(f"    ratio to 500 /s, which 1,000 agents send: {statistics.median(rates) / 500:.1f}")


def bench_memory(folder: Path, rounds: int) -> None:
    """(c)."""
    script = str(Path(__file__).with_name("_lean_parent.py"))
    names = ["agent-1", "agent-2", *FUNCTIONS]
    with server(folder, names):
        run = [sys.executable, script, str(folder / "s"), str(rounds)]
        output = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, list[int]] = {}
    for line in output.splitlines():
        kind, _, kib = line.rpartition(" ")
        found.setdefault(kind, []).append(int(kib))
    bare = statistics.median(found["bare fork"])
    print("(c) memory of a forked agent's own (USS); warmed up: the parent ran warm_up() first")
    for kind, values in found.items():
        median = statistics.median(values)
        print(f"    {kind:30s} {median:6.0f} KiB, {median - bare:5.0f} more than a bare fork")
    warmed = statistics.median(found["client of this SDK, warmed up"])
    print(
        f"    ratio to http.client in a cold parent: "
        f"{warmed / statistics.median(found['http.client']):.2f}"
    )


def bench_observers(folder: Path, agents: int, duration_s: float) -> None:
    """(d)."""

    def work(number: int) -> None:
        agent = new_agent(folder, number)
        getattr(stateroom_agent.observers, FUNCTIONS[number % 4])(agent)

    with server(folder, agent_names(agents)) as pid:
        gc.collect()
        gc.freeze()
        pids = [fork(lambda number=number: work(number)) for number in range(agents)]  # type: ignore[misc]
        time.sleep(8.0)
        server_s, agents_s = cpu_s(pid), sum(map(cpu_s, pids))
        time.sleep(duration_s)
        server_s, agents_s = cpu_s(pid) - server_s, sum(map(cpu_s, pids)) - agents_s
        for child in pids:
            os.kill(child, signal.SIGTERM)
        for child in pids:
            os.waitpid(child, 0)
    cores = os.cpu_count() or 1
    total = 100.0 * (server_s + agents_s) / duration_s
    print(f"(d) {agents} observers at their default rates, {duration_s:.0f} s")
    print(f"    server            {100.0 * server_s / duration_s:8.1f} % of a core")
    print(f"    agents together   {100.0 * agents_s / duration_s:8.1f} % of a core")
    print(f"    ratio to the machine's {cores} cores: {total / 100.0 / cores:.3f}")
    print(f"    for 1,000 agents  {total * 1000 / agents:8.1f} % of a core")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter rounds, fewer observers")
    parser.add_argument("--folder", type=Path, help="where the store's files go")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    rounds, duration_s = (2, 1.0) if arguments.quick else (5, 3.0)
    observers, observed_s = (100, 10.0) if arguments.quick else (1000, 40.0)

    def fresh() -> Path:
        return Path(tempfile.mkdtemp(dir=folder))

    with tempfile.TemporaryDirectory(prefix="sr-", dir=arguments.folder) as folder:
        bench_puts(fresh(), rounds, duration_s)
        bench_heartbeats(fresh(), rounds, duration_s)
        bench_memory(fresh(), rounds)
        bench_observers(fresh(), observers, observed_s)


if __name__ == "__main__":
    main()
