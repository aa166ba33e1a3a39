"""A simulated day of 10,000 nodes and 100,000 agents with faults, under the failover decision.

Run as `python benchmarks/failover_day.py [--quick] [--unchecked]`. Every tick of the day is decided
(17,280 at the production profile's five seconds): evidence from the truth of the simulator, the
live `decide`, and what it asks for done at once. 2,000 faults strike single nodes, one of six
regions is lost for twenty minutes, another one is cut off for ten; each agent crashes once a day.
The invariant checker looks at every tick, the truth at every move. Each day runs in a process of
its own; medians of the days.

Peers, measured in the same run: as many empty events through a bare queue as the cluster handled,
and as many bare NumPy passes over the same columns as there were ticks.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "sdk")]

from failover_tick import bare_pass  # noqa: E402
from simulator import bare_queue  # noqa: E402

from fleet.failover.policy import FailBackMode, RegionMode  # noqa: E402
from fleet.failover.profiles import PRODUCTION  # noqa: E402
from fleet.fault_script import parse_fault_script  # noqa: E402
from fleet.faults import random_fault_script  # noqa: E402
from resources.simulated.cluster import SimulatedCluster  # noqa: E402
from resources.simulated.synthetic import synthetic_fleet  # noqa: E402
from tests.simulated.fleet_day import FleetDay  # noqa: E402

DAY_S = 86_400.0
POLICY = replace(PRODUCTION, region_mode=RegionMode.AUTO, fail_back_mode=FailBackMode.OFF)
REGIONS = ("ap-southeast-2", "ca-central-1", "eu-central-1", "sa-east-1", "us-east-1", "us-west-2")
KINDS = ("crash", "partition", "flapping", "pause", "slow")
Figures = dict[str, Any]


def build(nodes: int, agents: int, seconds: float) -> SimulatedCluster:
    """The fleet and its faults; the same every time."""
    fleet = synthetic_fleet(nodes, agents, regions=REGIONS)
    drawn = random_fault_script(
        Random(1),
        node_ids=[node.node_id for node in fleet.nodes],
        duration_s=seconds,
        faults=round(nodes / 5 * seconds / DAY_S),
        kinds=KINDS,
    )
    lost = parse_fault_script(
        f"at {seconds / 4} for 20m crash region/{REGIONS[2]}\n"
        f"at {seconds * 5 / 8} for 10m partition region/{REGIONS[5]} peer=all"
    )
    return SimulatedCluster(
        *fleet,
        faults=(*drawn, *lost),
        seed=1,
        agent_crashes_per_day=1.0,
        lease_ttl_s=POLICY.lease_ttl_s,
    )


class Meter:
    """Seconds by part of the loop."""

    def __init__(self) -> None:
        """Nothing was timed."""
        self.seconds: Counter[str] = Counter()

    def timed(self, part: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """The same action, its time added up."""

        def run(*arguments: Any, **options: Any) -> Any:
            started_s = time.perf_counter()
            try:
                return action(*arguments, **options)
            finally:
                self.seconds[part] += time.perf_counter() - started_s

        return run

    def attach(self, day: FleetDay) -> None:
        """Time the parts of a day's loop; some microseconds a tick."""
        owners: tuple[tuple[str, Any, str], ...] = (
            ("what happens in the fleet", day.cluster, "advance"),
            ("evidence", day.sight, "look"),
            ("decisions", day, "decide"),
            ("moves", day, "_obey"),
        )
        if day.checker is not None:
            owners += (("invariants", day.checker, "observe"), ("truth", day.moves, "check"))
        for part, owner, name in owners:
            setattr(owner, name, self.timed(part, getattr(owner, name)))


def measure(nodes: int, agents: int, seconds: float, checked: bool) -> Figures:
    """One day: figures by name."""
    started_s = time.perf_counter()
    cluster = build(nodes, agents, seconds)
    day = FleetDay(cluster, POLICY, checked=checked)
    built_s = time.perf_counter() - started_s
    meter = Meter()
    meter.attach(day)
    cpu_s, started_s = time.process_time(), time.perf_counter()
    day.run(seconds)
    taken_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    columns = day.sight.look([])
    started_s = time.perf_counter()
    for _ in range(day.ticks):
        bare_pass(columns)
    pass_s = time.perf_counter() - started_s
    return {
        "build": built_s,
        "day": taken_s,
        "cpu": cpu_s,
        "parts": dict(meter.seconds),
        "passes": pass_s,
        "events": cluster.events_handled,
        "ticks": day.ticks,
        "changes": day.changes,
        "done": dict(day.done),
        "refused": dict(day.refused),
        "open": len(day.incidents),
        "moved": day.moves.agents_moved,
        "parked": day.moves.agents_parked,
        "violations": [str(one) for one in day.violations],
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _day(arguments: tuple[int, int, float, bool]) -> Figures:
    return measure(*arguments)


def report(days: list[Figures], seconds: float) -> None:
    """Print medians, counts of one day (all are alike) and ratios."""

    def median(name: str) -> float:
        return statistics.median(day[name] for day in days)

    one, day_s = days[0], median("day")
    each = ", ".join(f"{day['day']:.2f}" for day in days)
    print(
        f"  day {day_s:.2f} s ({each}), CPU {median('cpu'):.2f} s, peak {one['peak MiB']:.0f} MiB"
    )
    for part in one["parts"]:
        part_s = statistics.median(day["parts"][part] for day in days)
        each_ms = 1000 * part_s / one["ticks"]
        print(f"    {part:26} {part_s:8.2f} s  {each_ms:7.3f} ms a tick")
    print(f"  simulated seconds a second {seconds / day_s:,.0f}")
    done = one["done"]
    print(f"  ticks and decisions {one['ticks']:,}; changes of state {one['changes']:,}")
    print(f"  actions {', '.join(f'{kind} {count:,}' for kind, count in sorted(done.items()))}")
    print(f"  held back by {', '.join(f'{k} {n:,}' for k, n in sorted(one['refused'].items()))}")
    opened, ended = done.get("open_incident", 0), done.get("end_incident", 0)
    print(
        f"  incidents {opened:,}, ended {ended:,}, open {one['open']:,}; agents moved "
        f"{one['moved']:,}, parked {one['parked']:,}"
    )
    print(f"  invariant violations {len(one['violations'])}")
    for told in one["violations"][:5]:
        print(f"    {told}")
    bare_s = statistics.median(bare_queue(one["events"]) for _ in range(3))
    pass_s = median("passes")
    print(f"  bare queue, {one['events']:,} empty events: {bare_s:.2f} s")
    print(f"  bare NumPy passes, one a tick: {pass_s:.2f} s")
    print(f"  the day takes {day_s / (bare_s + pass_s):.1f} x as long as both together")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 nodes, two hours, one round")
    parser.add_argument("--unchecked", action="store_true", help="without the invariant checker")
    parser.add_argument("--rounds", type=int, help="days to run (default 3)")
    arguments = parser.parse_args()
    full, quick = (10_000, 100_000, DAY_S), (1_000, 10_000, 7_200.0)
    nodes, agents, seconds = quick if arguments.quick else full
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{nodes:,} nodes, {agents:,} agents, {len(REGIONS)} regions, {seconds:,.0f} simulated s")
    context = multiprocessing.get_context("spawn")
    days = []
    for _ in range(rounds):
        with context.Pool(1) as pool:
            days.append(pool.apply(_day, ((nodes, agents, seconds, not arguments.unchecked),)))
    report(days, seconds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
