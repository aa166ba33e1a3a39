"""How long one look of consolidation takes, and what asking the placer adds to it.

Usage: python benchmarks/consolidation.py [--quick]

Nodes of 32 cores and 128 GiB in twelve regions of three zones, on average ten agents each, of 200
workloads, a quarter of which are spread over the zones. One look plans all regions. The peer is the
same plan that asks for room alone, dealt as a failover deals it: what was asked before the placer's
rules were. Rounds alternate; figures are medians of CPU seconds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fleet.consolidation.fitting import fit_as_placed, fit_into_rooms
from fleet.consolidation.planning import plan_consolidation
from fleet.consolidation.records import ConsolidationPolicy, Fits, FitTerms, NodeLoad
from fleet.placement.requests import PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration

NOW = datetime(2026, 3, 4, tzinfo=UTC)
REGIONS, ZONES, WORKLOADS, AGENTS_PER_NODE = 12, 3, 200, 10
GIB = 2**30
POLICY = ConsolidationPolicy()


def make_fleet(nodes: int) -> list[NodeLoad]:
    """Nodes with 0 to 20 agents, the same for every run."""
    chance, loads, count = random.Random(1), [], 0
    for number in range(nodes):
        region = f"r{number % REGIONS}"
        zone = f"{region}-{number // REGIONS % ZONES}"
        node = NodeDeclaration(f"n{number:05}", region, zone, 32_000, 128 * GIB)
        held = []
        for _ in range(chance.randint(0, 2 * AGENTS_PER_NODE)):
            kind = chance.randrange(WORKLOADS)
            cpu = 500 + 100 * (kind % 5)
            held.append(AgentDeclaration(f"a{count}", "net", f"w{kind}", region, cpu, GIB))
            count += 1
        since = NOW - timedelta(days=9)
        loads.append(NodeLoad(node, tuple(held), 1.0, ready=True, since=since))
    return loads


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(nodes: int, rounds: int) -> None:
    """Print a line for one size."""
    loads = make_fleet(nodes)
    spread = PlacementRules(spread_zones=True)
    rules = {("net", f"w{kind}"): spread for kind in range(0, WORKLOADS, 4)}

    def look(fits: Callable[[], Fits]) -> Callable[[], object]:
        return lambda: plan_consolidation(loads, [], POLICY, fits(), NOW)

    asked = look(lambda: fit_as_placed(POLICY.headroom_ratio, FitTerms(rules)))
    dealt = look(lambda: fit_into_rooms(POLICY.headroom_ratio, rules))
    pairs = [(cpu_s(asked), cpu_s(dealt)) for _ in range(rounds)]
    ours, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
    agents = sum(len(load.agents) for load in loads)
    found = sum(len(one.nodes) for one in plan_consolidation(
        loads, [], POLICY, fit_as_placed(POLICY.headroom_ratio, FitTerms(rules)), NOW
    ))  # fmt: skip
    print(
        f"{nodes:6} nodes, {agents:7} agents: {ours:6.2f} s with the placer's rules, "
        f"{peer:6.2f} s for room alone, ratio {ours / peer:.2f}; {found} nodes proposed"
    )


def main() -> None:
    """Measure two sizes, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small fleet, one round")
    quick = parser.parse_args().quick
    measure(1000, 1 if quick else 5)
    if not quick:
        measure(10_000, 5)


if __name__ == "__main__":
    main()
