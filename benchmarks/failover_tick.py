"""What one failover tick costs over 100,000 nodes, healthy and in trouble.

Run as `python benchmarks/failover_tick.py [--quick]`. The peer, measured in the same run, is a bare
NumPy pass over the same arrays: the comparisons that find silent, contradicted, dead and terminated
nodes, without memory, rules or reasons. A history begins when nodes die, and goes on until their
agents are placed elsewhere; ticks in which something changes are shown one by one, those in which
nothing does in one line. Medians of several rounds, in milliseconds of CPU: a tick is one thread
that waits for nothing, so on a quiet machine that is what it takes, and beside other work the wall
clock shows the other work. The wall clock's median stands behind it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.failover.ages import Channel, ReceiverAges
from fleet.failover.columns import Infrastructure, NodeColumns, node_columns
from fleet.failover.decide import decide
from fleet.failover.explain import explain
from fleet.failover.policy import RegionMode
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import (
    ActionKind,
    Decision,
    Evidence,
    FailoverState,
    IncidentFact,
    LeaderFacts,
)
from fleet.failover.state_json import decode_state, encode_state

REGIONS = 20
NOW_S = 100_000.0
POLICY = replace(PRODUCTION, region_mode=RegionMode.AUTO)
TICK_S = POLICY.tick_interval_s
VOTES_S = 10.0
"""From the death until the observers have noticed it."""


class Fleet:
    """A fleet of which some nodes die at one moment: by votes, their leases run out.

    Args:
        nodes: number of them.
        dead: so many of the first ones die.
        region: all nodes of the first region die instead.
    """

    def __init__(self, nodes: int, dead: int, *, region: bool = False) -> None:
        """Draw the ages of the living once."""
        rng = np.random.default_rng(1)
        self._ids = tuple(f"n{number:06}" for number in range(nodes))
        self._region_index = np.arange(nodes, dtype=np.int32) % REGIONS
        struck = np.flatnonzero(self._region_index == 0) if region else np.arange(nodes)
        self.gone = np.zeros(nodes, dtype=bool)
        self.gone[struck[: len(struck) if region else dead]] = True
        self.emptied = False
        """Whether the agents of the dead have been placed elsewhere."""
        self._beat_s, self._lease_s = rng.random(nodes), rng.random(nodes) * 10

    def columns(self, since_s: float) -> NodeColumns:
        """Evidence so many seconds after the death."""
        gone, nodes = self.gone, len(self._ids)
        voted = gone & (since_s >= VOTES_S)
        return node_columns(
            self._ids,
            tuple(f"region-{number:02}" for number in range(REGIONS)),
            region_index=self._region_index,
            heartbeat_age_s=np.where(gone, since_s, 0.0) + self._beat_s,
            heartbeat_mean_s=np.ones(nodes),
            lease_age_s=np.where(gone, since_s, 0.0) + self._lease_s,
            lease_ttl_s=np.full(nodes, 60.0),
            work_age_s=np.where(gone, since_s, 0.0) + self._lease_s,
            infrastructure=np.full(nodes, Infrastructure.RUNNING),
            agents=np.where(gone & self.emptied, 0, 1),
            observers=np.full(nodes, 5),
            votes_alive=np.where(voted, 0, 5),
            votes_dead=np.where(voted, 5, 0),
            dead_domains=np.where(voted, 3, 0),
            dead_outside=np.where(voted, 4, 0),
        )


def evidence(nodes: NodeColumns, open_incidents: dict[str, str] | None = None) -> Evidence:
    """One tick's evidence around these columns; incidents are as the store would hold them."""
    open_incidents = open_incidents or {}
    return Evidence(
        at=datetime(2026, 1, 5, 9, tzinfo=UTC),
        clock_id="bench",
        nodes=nodes,
        leader=LeaderFacts(held=True, term=3, left_s=12.0, renewed=True),
        incidents=tuple(IncidentFact(one, subject, 1) for one, subject in open_incidents.items()),
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


def median_ms(
    action: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Median of the rounds, milliseconds of CPU unless another clock is given."""
    taken = []
    for _ in range(rounds):
        started_s = clock()
        action()
        taken.append(clock() - started_s)
    return 1000.0 * statistics.median(taken)


class Measured(NamedTuple):
    """One tick of a history, measured."""

    seconds: float
    """Since the death."""
    tick_ms: float
    wall_ms: float
    read_ms: float
    """The same, and every transition that it says is read."""
    decision: Decision


def history(fleet: Fleet, ticks: int, rounds: int) -> Iterator[Measured]:
    """Tick after tick from the death on, each repeated on the same memory for its median."""
    state, open_incidents = FailoverState(), dict[str, str]()
    state = decide(evidence(fleet.columns(0.0)), state, POLICY, NOW_S - 2 * TICK_S).state
    for number in range(ticks):
        since_s = number * TICK_S
        fleet.emptied = number >= ticks - 2
        facts, now_s = evidence(fleet.columns(since_s), open_incidents), NOW_S + since_s - TICK_S
        tick = partial(decide, facts, state, POLICY, now_s)
        decision = tick()
        news = news_of(decision)
        count = rounds if news else min(5, rounds)
        read_ms = median_ms(lambda tick=tick: list(tick().transitions), count) if news else 0.0
        wall_ms = median_ms(tick, count, time.perf_counter)
        yield Measured(since_s, median_ms(tick, count), wall_ms, read_ms, decision)
        state = decision.state
        for action in decision.actions:
            if action.kind is ActionKind.OPEN_INCIDENT:
                open_incidents[action.incident] = action.subject


def news_of(decision: Decision) -> str:
    """What changes in a tick, in a few words; empty when it stands."""
    states = Counter(str(change.after) for change in decision.transitions)
    kinds = Counter(action.kind.value for action in decision.actions)
    return ", ".join(f"{name} {count}" for name, count in (*states.items(), *kinds.items()))


def report_history(name: str, fleet: Fleet, rounds: int) -> None:
    """Print each tick in which something changes, and the standing ones in one line."""
    bare_ms = median_ms(partial(bare_pass, fleet.columns(300.0)), rounds)
    print(f"  {name}; bare pass {bare_ms:.2f} ms")
    standing = []
    for one in history(fleet, 36, rounds):
        news = news_of(one.decision)
        if not news:
            standing.append(one)
            continue
        print(
            f"    {one.tick_ms:7.2f} ms ({one.wall_ms:.2f}), ratio {one.tick_ms / bare_ms:5.1f}, "
            f"with all read {one.read_ms:6.2f} ms   {one.seconds:4.0f} s: {news}"
        )
    settled = [one for one in standing if one.decision.state.nodes] or standing
    taken = [one.tick_ms for one in settled]
    middle, marks = statistics.median(taken), len(settled[-1].decision.state.nodes)
    print(
        f"    {middle:7.2f} ms, ratio {middle / bare_ms:5.1f}, worst {max(taken):.2f} ms   "
        f"{len(taken)} ticks in which nothing changes, {marks} marks"
    )


def report_edges(nodes: int, rounds: int) -> None:
    """Print what lies around a tick: taking tokens, building columns, memory as JSON, sentences."""
    some = Fleet(nodes, 0).columns(0.0)
    ages = ReceiverAges(some.node_ids, PRODUCTION)
    tokens = np.arange(nodes, dtype=np.int64)
    moment = [0]

    def take() -> None:
        moment[0] += 1
        ages.see(Channel.HEARTBEAT, tokens + moment[0], float(moment[0]))

    *_, last = history(Fleet(nodes, 0, region=True), 34, 1)
    decision = last.decision
    state = decision.state
    text = encode_state(state)
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
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"failover tick, {nodes:,} nodes in {REGIONS} regions, medians of {rounds} rounds")
    report_history("all healthy", Fleet(nodes, 0), rounds)
    report_history("50 nodes die", Fleet(nodes, 50), rounds)
    report_history("1 % die", Fleet(nodes, nodes // 100), rounds)
    report_history("one region is lost (5 %)", Fleet(nodes, 0, region=True), rounds)
    report_edges(nodes, rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
