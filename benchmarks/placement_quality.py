"""How well and how fast agents are placed, against lower bounds, baselines and a real trace.

Usage: python benchmarks/placement_quality.py [--quick] [--openb DIR]

1. A fleet of 100,000 agents in 5,217 services of 43 sizes on 10,000 nodes (6,000 with 32 cores and
   128 GiB, 4,000 with 8 GPUs, 96 cores and 768 GiB; 12 zones): one plan, with and without zone
   spread. Nodes used are held against a lower bound that no placement can beat: for CPU nodes the
   sum of each resource over the capacity of a node; for GPU nodes the same, and devices, where
   shares count by the L2 bound of bin packing (Martello and Toth 1990).
   Records: from declarations to the rows to store.
2. Single decisions through the index, held against best fit that looks at every node, by CPU time.
3. The `openb` trace (8,152 pods on 1,523 nodes, heterogeneous GPUs), placed at once and one by
   one, held against best fit and dot product. With `--openb`, or where the trace lies.

Figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from _traces import find_traces

from fleet.placement.index import PlacementIndex
from fleet.placement.initial import PlacementTerms, plan_initial_placements
from fleet.placement.node_pool import NodePool, pools_of
from fleet.placement.planning import PlacementProblem, PlannedRequest, plan_placements
from fleet.placement.requests import AgentSize, PlacementRequest, PlacementRules
from fleet.reports import AgentDeclaration, NodeDeclaration

GIB = 1 << 30
ZONES = 12


# -- 1. the synthetic fleet -----------------------------------------------------------------------


def fleet_nodes(scale: int) -> list[NodeDeclaration]:
    """6 of 10 without GPUs, 4 with 8; zones in turn."""
    plain = [
        NodeDeclaration(f"cpu-{n:05d}", "r", f"z{n % ZONES:02d}", 32_000, 128 * GIB)
        for n in range(6 * scale)
    ]
    gpus = [
        NodeDeclaration(
            f"gpu-{n:05d}", "r", f"z{n % ZONES:02d}", 96_000, 768 * GIB, 0, 8, 640 * GIB, "H100"
        )
        for n in range(4 * scale)
    ]
    return plain + gpus


def fleet_sizes() -> list[tuple[AgentSize, float]]:
    """43 sizes with how often each is asked for."""
    sizes: list[tuple[AgentSize, float]] = []
    for milli, often in ((100, 1), (200, 2), (250, 3), (300, 1), (400, 1), (500, 4), (600, 1),
                         (700, 1), (750, 1)):  # fmt: skip
        memory = max(2, milli * 40 // 1000)
        size = AgentSize(milli * 6, memory * GIB, 0, milli, milli * 60 // 1000 * GIB)
        sizes.append((size, often))
    for whole, often in ((1, 6.5), (2, 1.7), (4, 0.65), (8, 0.33)):
        for per_gpu in (4_000, 8_000):
            size = AgentSize(per_gpu * whole, 48 * whole * GIB, 0, 1000 * whole, 70 * whole * GIB)
            sizes.append((size, often / 2))
    for cpu in (250, 500, 1000, 2000, 4000, 8000):
        for gib_per_core in (1, 2, 4, 6, 8):
            if len(sizes) < 43:
                often = 6.0 / (1 + cpu / 16_000) / (1 + abs(gib_per_core - 4))
                sizes.append(
                    (AgentSize(cpu, max(GIB // 4, cpu * gib_per_core * GIB // 1000)), often)
                )
    return sizes


def fleet_requests(services: int, agents: int, *, spread: bool) -> list[PlacementRequest]:
    """Services of the sizes, some big, most small; `agents` in all."""
    rng = random.Random(7)
    sizes = fleet_sizes()
    weights = [often for _, often in sizes]
    shares = [rng.paretovariate(1.5) for _ in range(services)]
    total = sum(shares)
    rules = PlacementRules(spread_zones=spread, pack=True)
    requests, left = [], agents - services
    for number, share in enumerate(shares):
        more = min(left, int(share / total * (agents - services)))
        if number == services - 1:
            more = left
        left -= more
        size = rng.choices(sizes, weights)[0][0]
        name = f"s{number:05d}"
        requests.append(PlacementRequest(name, "r", size, 1 + more, 0, rules, "net", name))
    return requests


def device_bound(shares: Sequence[int]) -> int:
    """Devices that shares need at least: the L2 bound of Martello and Toth, over all thresholds."""
    counts = Counter(shares)
    best = -(-sum(size * count for size, count in counts.items()) // 1000)
    for k in sorted({size for size in counts if size <= 500} | {0}):
        big = sum(c for s, c in counts.items() if s > 1000 - k)
        middle = {s: c for s, c in counts.items() if 500 < s <= 1000 - k}
        small = sum(s * c for s, c in counts.items() if k <= s <= 500)
        room = sum(c * (1000 - s) for s, c in middle.items())
        rest = max(0, -(-(small - room) // 1000))
        best = max(best, big + sum(middle.values()) + rest)
    return best


def lower_bounds(requests: Iterable[PlacementRequest]) -> tuple[int, int]:
    """Nodes with and without GPUs that no placement can do with fewer of."""
    cpu = [0, 0]
    gpu = [0, 0]
    whole, shares = 0, list[int]()
    for one in requests:
        sums = gpu if one.size.needs_gpu else cpu
        sums[0] += one.size.cpu_milli * one.agents
        sums[1] += one.size.memory_bytes * one.agents
        whole += one.size.whole_gpus * one.agents
        if one.size.gpu_milli and not one.size.whole_gpus:
            shares += [one.size.gpu_milli] * one.agents
    devices = whole + device_bound(shares)
    gpu_nodes = max(-(-devices // 8), -(-gpu[0] // 96_000), -(-gpu[1] // (768 * GIB)))
    return gpu_nodes, max(-(-cpu[0] // 32_000), -(-cpu[1] // (128 * GIB)))


class Run(NamedTuple):
    """One plan of a whole fleet."""

    columns_s: float
    """To make columns of the nodes."""
    plan_s: float
    cpu_s: float
    """Of both together; on a busy machine it says more than the clock."""
    pool: NodePool
    planned: list[PlannedRequest]


def plan_fleet(nodes: Sequence[NodeDeclaration], requests: Sequence[PlacementRequest]) -> Run:
    """Make columns of the nodes, and plan."""
    begun, cpu = time.perf_counter(), time.process_time()
    pools = pools_of(nodes)
    middle = time.perf_counter()
    planned = plan_placements(requests, PlacementProblem(pools))
    done = time.perf_counter()
    return Run(middle - begun, done - middle, time.process_time() - cpu, pools["r"], planned)


def measure_fleet(scale: int, rounds: int, *, spread: bool) -> None:
    """One plan of the whole fleet."""
    nodes = fleet_nodes(scale)
    requests = fleet_requests(5217 * scale // 1000, 100 * scale, spread=spread)
    runs = [plan_fleet(nodes, requests) for _ in range(rounds)]
    columns, plan, cpu = (statistics.median(run[n] for run in runs) for n in range(3))
    pool, planned = runs[-1].pool, runs[-1].planned
    gpu_bound, cpu_bound = lower_bounds(requests)
    used = pool.agents > 0
    gpu_used, cpu_used = int(used[pool.plain :].sum()), int(used[: pool.plain].sum())
    left = sum(one.left for one in planned)
    agents = sum(one.agents for one in requests)
    skews = [_skew(pool, one) for one in planned]
    print(f"\n{agents} agents, {len(requests)} services, {len(nodes)} nodes, zone spread: {spread}")
    print(
        f"  plan {plan * 1e3:.0f} ms, columns of nodes before {columns * 1e3:.0f} ms; "
        f"both {cpu * 1e3:.0f} ms CPU; {agents / plan:,.0f} agents/s; without a node: {left}"
    )
    print(
        f"  GPU nodes {gpu_used}, bound {gpu_bound}: {gpu_used / gpu_bound - 1:+.2%}; "
        f"CPU nodes {cpu_used}, bound {cpu_bound}: {cpu_used / cpu_bound - 1:+.2%}"
    )
    print(f"  biggest zone skew of a service: {max(skews)}")


def measure_records(scale: int) -> None:
    """From declarations to placements to store, as `up` plans a new fleet."""
    nodes = fleet_nodes(scale)
    requests = fleet_requests(5217 * scale // 1000, 100 * scale, spread=False)
    agents = [
        AgentDeclaration(f"{one.name}-{n}", "net", one.workload, "r", *one.size)
        for one in requests
        for n in range(one.agents)
    ]
    now = datetime.now(UTC)
    for name, rules in (
        ("dealt over all nodes", PlacementRules()),
        ("the same with zone spread", PlacementRules(spread_zones=True)),
        ("packed", PlacementRules(pack=True)),
    ):
        terms = PlacementTerms({one.workload: rules for one in requests})
        begun, cpu = time.perf_counter(), time.process_time()
        placed = plan_initial_placements(agents, nodes, [], now=now, terms=terms)
        cpu = time.process_time() - cpu
        spent = time.perf_counter() - begun
        print(
            f"  records of {len(placed)} placements, {name}: {spent * 1e3:.0f} ms, "
            f"{cpu * 1e3:.0f} ms CPU"
        )


def _skew(pool: NodePool, one: PlannedRequest) -> int:
    counts = np.bincount(pool.zone[one.rows], minlength=ZONES)
    return int(counts.max() - counts.min())


# -- 2. single decisions --------------------------------------------------------------------------


def measure_single(scale: int, count: int) -> None:
    """Decisions one after another, on a fleet that is half full."""
    nodes = fleet_nodes(scale)
    rng = random.Random(11)
    sizes = fleet_sizes()
    weights = [often for _, often in sizes]
    wanted = [rng.choices(sizes, weights)[0][0] for _ in range(count + 50 * scale)]
    begun = time.process_time()
    index = PlacementIndex(nodes)
    built = time.process_time()
    for size in wanted[: 50 * scale]:
        index.place("r", size)
    filled = time.process_time()
    found = [index.place("r", size) for size in wanted[50 * scale :]]
    done = time.process_time()
    each = (done - filled) / count
    tried = wanted[50 * scale : 50 * scale + 200]
    pool = pools_of(nodes)["r"]
    begun_scan = time.process_time()
    for size in tried:
        best_fit_row(pool, size, PlacementRules())
    scan = (time.process_time() - begun_scan) / len(tried)
    print(f"\nsingle decisions on {len(nodes)} nodes, {50 * scale} agents there")
    print(
        f"  index built in {(built - begun) * 1e3:.0f} ms; a decision with its update takes "
        f"{each * 1e6:.1f} us of CPU ({1 / each:,.0f}/s); "
        f"{sum(claim is None for claim in found)} found no node"
    )
    print(f"  looking at every node (numpy): {scan * 1e6:.0f} us of CPU; ratio {scan / each:.0f}x")


# -- 3. openb -------------------------------------------------------------------------------------


def best_fit_row(pool: NodePool, size: AgentSize, rules: PlacementRules) -> int:
    """Baseline: the node with the least left over all resources, scaled; -1 when none fits."""
    fits = pool.fits(size, rules) > 0
    if not fits.any():
        return -1
    free = _shares_free(pool)
    score = free.sum(axis=0)
    return int(np.where(fits, score, np.inf).argmin())


def dot_product_row(pool: NodePool, size: AgentSize, rules: PlacementRules) -> int:
    """Baseline: the node whose free resources point where the request does (Tetris)."""
    fits = pool.fits(size, rules) > 0
    if not fits.any():
        return -1
    most = _most(pool)
    asked = np.array([size.cpu_milli, size.memory_bytes, size.gpu_milli]) / most
    score = asked @ _shares_free(pool)
    return int(np.where(fits, score, -np.inf).argmax())


def _most(pool: NodePool) -> np.ndarray:
    gpus = max(1, pool.gpu_free.shape[1]) * 1000
    return np.array([pool.capacity[0].max(), pool.capacity[1].max(), gpus], np.float64)


def _shares_free(pool: NodePool) -> np.ndarray:
    gpu = np.zeros(len(pool), np.float64)
    gpu[pool.plain :] = pool.gpu_free.sum(axis=1)
    return np.vstack((pool.free[0], pool.free[1], gpu)) / _most(pool)[:, None]


def openb(folder: Path) -> tuple[list[NodeDeclaration], list[tuple[AgentSize, PlacementRules]]]:
    """Nodes and pods of the trace, pods in the order in which they came."""
    mib = 1 << 20
    with (folder / "openb_node_list_all_node.csv").open(encoding="utf-8") as file:
        nodes = [
            NodeDeclaration(
                row["sn"], "r", "z", int(row["cpu_milli"]), int(row["memory_mib"]) * mib, 0,
                int(row["gpu"]), 0, row["model"] or None,
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip
    with (folder / "openb_pod_list_default.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["creation_time"]))
    pods = []
    for row in rows:
        milli = int(row["num_gpu"]) * int(row["gpu_milli"] or 0)
        size = AgentSize(int(row["cpu_milli"]), int(row["memory_mib"]) * mib, 0, milli)
        models = tuple(filter(None, row["gpu_spec"].split("|")))
        pods.append((size, PlacementRules(gpu_models=models, pack=True)))
    return nodes, pods


def allocation(pool: NodePool) -> str:
    """GPU allocation rate, and what is left in fragments that no whole-GPU pod can use."""
    total = sum(node.gpu_count for node in pool.nodes) * 1000
    free = int(pool.gpu_free.sum())
    broken = int(pool.gpu_free[pool.gpu_free < 1000].sum())
    stuck = int(((pool.free[0, pool.plain :] < 1000) * (pool.gpu_free == 1000).sum(axis=1)).sum())
    return (
        f"GPU allocation {1 - free / total:.2%}, free in fragments {broken / total:.2%}, "
        f"whole but without CPU {stuck / (total / 1000):.2%}"
    )


def one_by_one(
    nodes: Sequence[NodeDeclaration],
    pods: Sequence[tuple[AgentSize, PlacementRules]],
    choose: Callable[[NodePool, AgentSize, PlacementRules], int],
) -> tuple[NodePool, int, float]:
    """Place pods in the given order by a baseline."""
    pool, left = pools_of(nodes)["r"], 0
    begun = time.process_time()
    for size, rules in pods:
        row = choose(pool, size, rules)
        if row < 0:
            left += 1
        else:
            pool.take(np.array([row]), np.array([1]), size)
    return pool, left, time.process_time() - begun


def measure_openb(folder: Path) -> None:
    """The trace, placed five ways."""
    nodes, pods = openb(folder)
    print(f"\nopenb: {len(pods)} pods on {len(nodes)} nodes")
    by_kind = Counter(pods)
    requests = [
        PlacementRequest(f"k{n:04d}", "r", size, count, 0, rules, "net", f"k{n:04d}")
        for n, ((size, rules), count) in enumerate(sorted(by_kind.items()))
    ]
    run = plan_fleet(nodes, requests)
    left = sum(one.left for one in run.planned)
    print(f"  planned at once: {left} left, {run.cpu_s * 1e3:.0f} ms CPU; {allocation(run.pool)}")
    index, left, replay = PlacementIndex(nodes), 0, pools_of(nodes)["r"]
    begun = time.process_time()
    for size, rules in pods:
        claim = index.place("r", size, rules)
        if claim is None:
            left += 1
        else:
            replay.take(np.array([replay.rows[claim.node_id]]), np.array([1]), size)
    spent = time.process_time() - begun
    print(f"  index, as they came: {left} left, {spent * 1e3:.0f} ms CPU; {allocation(replay)}")
    ordered = sorted(pods, key=lambda pod: (-pod[0].gpu_milli, -pod[0].cpu_milli))
    for name, choose in (("best fit", best_fit_row), ("dot product", dot_product_row)):
        for order, which in (("as they came", pods), ("biggest first", ordered)):
            pool, left, spent = one_by_one(nodes, which, choose)
            print(f"  {name}, {order}: {left} left, {spent * 1e3:.0f} ms CPU; {allocation(pool)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the fleet, one round")
    parser.add_argument("--openb", type=Path, help="folder of the trace")
    arguments = parser.parse_args()
    scale, rounds = (100, 1) if arguments.quick else (1000, 5)
    measure_fleet(scale, rounds, spread=False)
    measure_fleet(scale, rounds, spread=True)
    measure_records(scale)
    measure_single(scale, 5_000 if arguments.quick else 50_000)
    folder = arguments.openb or find_traces("openb")
    if folder is None:
        print(
            "\nopenb: not measured, no such trace (--openb, $STATEROOM_TRACES, shared/data/openb)"
        )
    else:
        measure_openb(folder)


if __name__ == "__main__":
    main()
