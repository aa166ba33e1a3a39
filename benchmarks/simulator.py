"""How fast the simulated cluster is: build, look, an hour and a day with faults.

Run as `python benchmarks/simulator.py [--quick]`. Each scenario runs in a process of its own, so
that its peak memory is its own. Peers, measured in the same run: a bare event queue that handles as
many empty events, and NumPy ticks that only move the heartbeats of as many nodes.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.faults import random_fault_script
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.synthetic import SyntheticFleet, synthetic_fleet

DAY_S = 86_400


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that an action takes, and its result."""
    started_s = time.perf_counter()
    result = action()
    return time.perf_counter() - started_s, result


def build(fleet: SyntheticFleet, *, regions_struck: bool) -> SimulatedCluster:
    """A fleet with a day's faults: one for every fifth node, and one crash an agent and day."""
    regions = sorted({node.region for node in fleet.nodes}) if regions_struck else []
    script = random_fault_script(
        Random(1),
        node_ids=[node.node_id for node in fleet.nodes],
        regions=regions,
        duration_s=DAY_S,
        faults=len(fleet.nodes) // 5,
    )
    return SimulatedCluster(*fleet, faults=script, seed=1, agent_crashes_per_day=1.0)


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(nodes: int, agents: int, regions_struck: bool) -> dict[str, float]:
    """One round: figures by name, seconds unless named otherwise."""
    figures: dict[str, float] = {}
    figures["declare"], fleet = timed(lambda: synthetic_fleet(nodes, agents))
    figures["build"], cluster = timed(lambda: build(fleet, regions_struck=regions_struck))
    figures["snapshot of all regions"], _ = timed(
        lambda: [cluster.snapshot(region) for region in cluster.regions()]
    )
    figures["node view of all regions"], _ = timed(cluster.nodes)
    figures["reports of all nodes"], _ = timed(cluster.reports)
    figures["hour"], _ = timed(lambda: cluster.advance(3_600))
    rest_s, _ = timed(lambda: cluster.advance(DAY_S - 3_600))
    figures["day"] = figures["hour"] + rest_s
    figures["events"] = cluster.events_handled
    figures["changes"] = cluster.truth.count()
    figures["peak MiB"] = peak_mib()
    return figures


def _round(arguments: tuple[int, int, bool]) -> dict[str, float]:
    return measure(*arguments)


def bare_queue(events: int) -> float:
    """Seconds for as many empty events through a heap, ten thousand waiting at any time."""

    def run() -> None:
        waiting = [(i, i, int) for i in range(10_000)]
        heapq.heapify(waiting)
        for number in range(events):
            at, _, action = heapq.heappop(waiting)
            action()
            heapq.heappush(waiting, (at + 10_000, number, int))

    return timed(run)[0]


def numpy_ticks(nodes: int, ticks: int) -> float:
    """Seconds for ticks of one second that only move every node's last heartbeat."""
    import numpy as np

    last, up = np.zeros(nodes), np.ones(nodes, dtype=bool)

    def run() -> None:
        for tick in range(ticks):
            np.copyto(last, float(tick), where=up)

    return timed(run)[0]


def report(title: str, rounds: list[dict[str, float]], nodes: int) -> None:
    """Print medians and ratios."""
    median = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    print(f"\n{title} (medians of {len(rounds)} rounds)")
    for name, value in median.items():
        unit = "" if name in {"events", "changes"} else " MiB" if name == "peak MiB" else " s"
        shown = f"{value:,.0f}" if unit != " s" else f"{value:.3f}"
        print(f"  {name:28} {shown:>12}{unit}")
    events, day_s = int(median["events"]), median["day"]
    bare_s = statistics.median(bare_queue(events) for _ in range(3))
    ticks_s = statistics.median(numpy_ticks(nodes, DAY_S) for _ in range(3))
    print(f"  simulated seconds a second   {DAY_S / day_s:>12,.0f}")
    for peer, peer_s in (
        (f"bare queue, {events:,} empty events", bare_s),
        (f"NumPy, {DAY_S:,} heartbeat ticks alone", ticks_s),
    ):
        print(f"  {peer}: {peer_s:.3f} s; the day takes {day_s / peer_s:.1f}x")
    print(f"  microseconds a change        {1e6 * day_s / max(1.0, median['changes']):>12.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, one round")
    quick = parser.parse_args().quick
    nodes, agents, rounds = (1_000, 10_000, 1) if quick else (10_000, 100_000, 3)
    context = multiprocessing.get_context("spawn")
    print(f"{nodes:,} nodes, {agents:,} agents, {nodes // 5:,} faults, a crash an agent and day")
    for title, regions_struck in (("faults of nodes", False), ("also of whole regions", True)):
        figures = []
        for _ in range(rounds):
            with context.Pool(1) as pool:
                figures.append(pool.apply(_round, ((nodes, agents, regions_struck),)))
        report(title, figures, nodes)


if __name__ == "__main__":
    main()
