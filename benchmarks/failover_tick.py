"""What one failover tick costs over 100,000 nodes, healthy and in trouble.

Run as `python benchmarks/failover_tick.py [--quick]`. The peer, measured in the same run, is a bare
NumPy pass over the same arrays: the comparisons that find silent, contradicted, dead and terminated
nodes, without memory, rules or reasons. Medians of several rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.failover.ages import Channel, ReceiverAges
from fleet.failover.columns import Infrastructure, NodeColumns, node_columns
from fleet.failover.decide import decide
from fleet.failover.explain import explain
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import Evidence, FailoverState, LeaderFacts
from fleet.failover.state_json import decode_state, encode_state

REGIONS = 20
NOW_S = 100_000.0
TICK_S = PRODUCTION.tick_interval_s


def columns(nodes: int, dead: int, *, region: bool = False) -> NodeColumns:
    """A fleet of which `dead` nodes are dead by votes: the first ones of all, or of one region."""
    rng = np.random.default_rng(1)
    ids = tuple(f"n{number:06}" for number in range(nodes))
    index = np.arange(nodes, dtype=np.int32) % REGIONS
    gone = np.zeros(nodes, dtype=bool)
    struck = np.flatnonzero(index == 0) if region else np.arange(nodes)
    gone[struck[: len(struck) if region else dead]] = True
    return node_columns(
        ids,
        tuple(f"region-{number:02}" for number in range(REGIONS)),
        region_index=index,
        heartbeat_age_s=np.where(gone, 300.0, rng.random(nodes)),
        heartbeat_mean_s=np.ones(nodes),
        lease_age_s=np.where(gone, 300.0, rng.random(nodes) * 10),
        lease_ttl_s=np.full(nodes, 60.0),
        work_age_s=np.where(gone, 300.0, rng.random(nodes) * 10),
        infrastructure=np.full(nodes, Infrastructure.RUNNING),
        agents=np.full(nodes, 1),
        observers=np.full(nodes, 5),
        votes_alive=np.where(gone, 0, 5),
        votes_dead=np.where(gone, 5, 0),
        dead_domains=np.where(gone, 3, 0),
        dead_outside=np.where(gone, 4, 0),
    )


def evidence(nodes: NodeColumns) -> Evidence:
    """One tick's evidence around these columns."""
    return Evidence(
        at=datetime(2026, 1, 5, 9, tzinfo=UTC),
        clock_id="bench",
        nodes=nodes,
        leader=LeaderFacts(held=True, term=3, left_s=12.0, renewed=True),
    )


def bare_pass(nodes: NodeColumns) -> int:
    """The raw limit: the comparisons alone."""
    limit_s = np.clip(3.0 * nodes.heartbeat_mean_s, 30.0, 90.0)
    silent = nodes.heartbeat_age_s > limit_s
    fresh = (nodes.lease_age_s < 15.0) | (nodes.work_age_s < 15.0)
    dead = (2 * nodes.votes_dead > nodes.observers) & (nodes.dead_domains >= 2)
    dead &= nodes.dead_outside >= 1
    gone = (silent & ~fresh & dead) | (nodes.infrastructure == Infrastructure.TERMINATED)
    return int(np.bincount(nodes.region_index[gone], minlength=REGIONS).sum())


def median_ms(action: Callable[[], Any], rounds: int) -> float:
    """Median of the rounds, milliseconds."""
    taken = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started_s)
    return 1000.0 * statistics.median(taken)


def settled(facts: Evidence, ticks: int) -> tuple[FailoverState, float]:
    """The memory after so many ticks of these facts, and the moment."""
    state, now_s = FailoverState(), NOW_S
    for _ in range(ticks):
        state = decide(facts, state, PRODUCTION, now_s).state
        now_s += TICK_S
    return state, now_s


def report_tick(name: str, nodes: NodeColumns, rounds: int) -> None:
    """Print a settled tick of these columns beside the bare pass over them."""
    facts = evidence(nodes)
    state, now_s = settled(facts, 20)
    tick_ms = median_ms(lambda: decide(facts, state, PRODUCTION, now_s), rounds)
    bare_ms = median_ms(lambda: bare_pass(nodes), rounds)
    memory_kib = len(encode_state(state)) / 1024
    print(
        f"  {name:34} {tick_ms:8.2f} ms   bare pass {bare_ms:5.2f} ms   "
        f"ratio {tick_ms / bare_ms:6.1f}   marks {len(state.nodes):5}  memory {memory_kib:6.0f} KiB"
    )


def report_edges(nodes: int, rounds: int) -> None:
    """Print what lies around a tick: taking tokens, building columns, memory as JSON, sentences."""
    some = columns(nodes, 0)
    ages = ReceiverAges(some.node_ids, PRODUCTION)
    tokens = np.arange(nodes, dtype=np.int64)
    moment = [0]

    def take() -> None:
        moment[0] += 1
        ages.see(Channel.HEARTBEAT, tokens + moment[0], float(moment[0]))

    facts = evidence(columns(nodes, 0, region=True))
    state, now_s = settled(facts, 20)
    text = encode_state(state)
    decision = decide(facts, state, PRODUCTION, now_s)
    arrays = {name: getattr(some, name) for name in ("heartbeat_age_s", "lease_age_s", "agents")}
    rows = {
        "take all heartbeat tokens": take,
        "build columns from arrays": lambda: node_columns(some.node_ids, some.regions, **arrays),
        "write the memory of a lost region": lambda: encode_state(state),
        "read it": lambda: decode_state(text),
        "explain the decision": lambda: explain(decision),
    }
    for name, action in rows.items():
        print(f"  {name:34} {median_ms(action, rounds):8.2f} ms")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 nodes, few rounds")
    quick = parser.parse_args().quick
    nodes, rounds = (10_000, 5) if quick else (100_000, 25)
    print(f"failover tick, {nodes:,} nodes in {REGIONS} regions, medians of {rounds} rounds")
    report_tick("all healthy", columns(nodes, 0), rounds)
    report_tick("50 nodes dead", columns(nodes, 50), rounds)
    report_tick("1 % dead", columns(nodes, nodes // 100), rounds)
    report_tick("one region lost (5 %)", columns(nodes, 0, region=True), rounds)
    report_edges(nodes, rounds)


if __name__ == "__main__":
    main()
