"""Agents that need no GPU are dealt evenly: over all nodes, or over no more than hold them.

Dealing gives each next agent to the node with the fewest of its workload, then the fewest agents,
then the first name: balance without fragments. `water_level` finds the outcome without dealing one
by one. `open_nodes` says which nodes a packed fleet needs; the others stay empty.
"""

from __future__ import annotations

import numpy as np

from fleet.placement.node_pool import Flags, Ints, NodePool
from fleet.placement.requests import AgentSize


def deal_evenly(room: Ints, level: Ints, load: Ints, rank: Ints, count: int) -> Ints:
    """The row of each agent, in the order in which they are dealt.

    Args:
        room: how many more each row can take.
        level: agents of the workload on each row: the lowest is served first.
        load: all agents on each row: decides between rows of the same level.
        rank: decides between rows alike in both.
        count: agents to deal; fewer come back when there is no room.
    """
    able = np.flatnonzero(room > 0)
    if not len(able) or count <= 0:
        return np.empty(0, np.int64)
    levels = level[able]
    lowest = able[levels == np.min(levels)]
    if count <= len(lowest):  # one round: most services are smaller than a region
        key = load[lowest] * len(rank) + rank[lowest]
        if count < len(lowest) // 4:
            chosen = np.argpartition(key, count - 1)[:count]
            lowest, key = lowest[chosen], key[chosen]
        one_each: Ints = lowest[np.argsort(key)[:count]]
        return one_each
    shares = water_level(room[able], levels, count)
    rows = np.repeat(able, shares)
    turn = np.arange(len(rows)) - np.repeat(np.cumsum(shares) - shares, shares)
    order = np.lexsort((rank[rows], load[rows] + turn, level[rows] + turn))
    return rows[order][:count]


def water_level(room: Ints, level: Ints, count: int) -> Ints:
    """What each row gets when the lowest always rise first, the last round in full.

    Returns:
        Shares whose sum is at least `count`, or all the room.
    """
    low, high = int(np.min(level)), int(np.max(level)) + count
    while low < high:
        middle = (low + high) // 2
        if int(np.minimum(room, np.maximum(middle - level, 0)).sum()) >= count:
            high = middle
        else:
            low = middle + 1
    return np.minimum(room, np.maximum(low - level, 0))


def imbalance(pool: NodePool, size: AgentSize) -> Ints:
    """By how much CPU and memory of each node would be used unequally with such an agent on it.

    In millionths. Agents that are packed are dealt by it, so that CPU and memory of a node run out
    together and neither is stranded.
    """
    capacity = np.maximum(pool.capacity[:2], 1)
    used = 1.0 - (pool.free[:2] - np.array(size[:2])[:, None]) / capacity
    apart: Ints = np.round(np.abs(used[0] - used[1]) * 1e6).astype(np.int64)
    return apart


def open_nodes(pool: NodePool, demand: Ints) -> Flags:
    """The fewest nodes without GPUs that hold a demand, by its sums: those in use, then in turn.

    New ones are taken from the zones in turn. A bound: sums say nothing about what is left over on
    each node, so the last agents may need one more.

    Args:
        pool: of the region.
        demand: sums of CPU, memory and bandwidth of all agents to come.
    """
    chosen = np.zeros(len(pool), np.bool_)
    order = opening_order(pool)
    free = np.maximum(pool.free[:, order], 0)
    upto = np.cumsum(free, axis=1, dtype=np.float64)  # no sum of nodes overflows it
    enough = np.all(upto >= demand[:, None], axis=0)
    needed = int(np.argmax(enough)) + 1 if enough.any() else len(order)
    chosen[order[: needed if demand.any() else 0]] = True
    return chosen


def opening_order(pool: NodePool) -> Ints:
    """Rows without GPUs in the order in which a packed fleet uses them."""
    zone, rank = pool.zone[: pool.plain], pool.rank[: pool.plain]
    by_zone = np.lexsort((rank, zone))
    turn = np.empty(pool.plain, np.int64)
    firsts = np.searchsorted(zone[by_zone], np.arange(len(pool.zones)))
    turn[by_zone] = np.arange(pool.plain) - firsts[zone[by_zone]]
    unused = pool.agents[: pool.plain] == 0
    return np.lexsort((rank, zone, turn, unused))
