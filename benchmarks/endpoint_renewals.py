"""What 1,000 agents in discovery cost a node, and whether its heartbeats feel it.

    python benchmarks/endpoint_renewals.py [--quick]

Heartbeats are stored on SQLite each 50 ms, first alone, then beside a registrar in the same process
and store that renews 1,000 endpoints far more often than a node would. Medians of several rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "sdk")]

from fleet.leases import node_lease_name  # noqa: E402
from fleet.ports.control_store import ControlStore  # noqa: E402
from fleet.reports import NodeDeclaration, NodeReport  # noqa: E402
from resources.clock import SystemClock  # noqa: E402
from resources.control_store.opening import open_control_store  # noqa: E402
from resources.local.endpoint_registrar import Answering, EndpointRegistrar  # noqa: E402

AGENTS = 1000
BEAT_S = 0.05
RENEW_S = 0.25


def registrar_of(store: ControlStore) -> EndpointRegistrar:
    """A node with 1,000 agents."""
    agents = [Answering(f"agent-{number:04d}", "web", 1) for number in range(AGENTS)]
    return EndpointRegistrar(
        store,
        lambda: agents,
        lambda: True,
        node_id="n1",
        region="eu",
        address="127.0.0.1:8000",
        interval_s=RENEW_S,
        renew_interval_s=RENEW_S,
    )


async def beats(store: ControlStore, seconds: float) -> list[float]:
    """How long each heartbeat took, seconds."""
    clock = SystemClock()
    lease = store.acquire_lease(node_lease_name("n1"), "boot", 60.0)
    taken: list[float] = []
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        now = clock.now()
        report = NodeReport("n1", "boot", 1, "", now, now, None, None, None, (), ())
        began_s = time.perf_counter()
        lease = await asyncio.to_thread(store.report_node, report, lease)
        taken.append(time.perf_counter() - began_s)
        await asyncio.sleep(BEAT_S)
    store.release_lease(lease)
    return taken


async def measure(store: ControlStore, rounds: int, seconds: float) -> None:
    """Passes, then heartbeats alone and beside renewals, in turns."""
    registrar = registrar_of(store)
    await registrar.pass_once()
    registered_s = registrar.counts.duration_s
    renewed = []
    for _ in range(rounds):
        await asyncio.sleep(RENEW_S)
        await registrar.pass_once()
        renewed.append(registrar.counts.duration_s)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(rounds):
        alone += await beats(store, seconds)
        task = asyncio.create_task(registrar.run())
        beside += await beats(store, seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await registrar.close()
    print(f"register {AGENTS} agents, one call   {registered_s * 1e3:7.1f} ms")
    print(f"renew {AGENTS} agents, one call      {statistics.median(renewed) * 1e3:7.1f} ms")
    for name, share in (("median", 0.5), ("99th percentile", 0.99)):
        bare, busy = (sorted(one)[int(share * (len(one) - 1))] for one in (alone, beside))
        print(
            f"heartbeat, {name:<16} alone {bare * 1e3:6.1f} ms   "
            f"beside renewals each {RENEW_S} s {busy * 1e3:6.1f} ms   x{busy / bare:.1f}"
        )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description="Cost of discovery for a node of 1,000 agents.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        store = open_control_store(f"sqlite:///{folder}/control.db", clock=SystemClock())
        try:
            store.declare_nodes([NodeDeclaration("n1", "eu", "eu-a", 1000, 2**30)])
            asyncio.run(measure(store, 3 if quick else 5, 1.0 if quick else 5.0))
        finally:
            store.close()


if __name__ == "__main__":
    main()
