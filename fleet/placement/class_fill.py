"""Best fit for a class of identical agents at once: one pass over the nodes, not one an agent.

How many copies fit a node is one division per quantity; the tightest nodes are filled first, so
that whatever is big finds room later. A pass costs some vector operations over the region's nodes,
however many agents there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fleet.placement.node_pool import Flags, Ints, NodePool
from fleet.placement.requests import GPU_MILLI, AgentSize, PlacementRules

_CPU_BITS = 40
"""Free CPU in the low bits of a key, what matters more above them."""


class Fill(NamedTuple):
    """Which nodes take how many agents, in the order in which agents are dealt to them."""

    rows: Ints
    counts: Ints


Filler = Callable[[NodePool, AgentSize, PlacementRules, int, Flags], Fill]
"""Decides for at most so many agents, on the allowed rows, without taking."""

NOTHING = Fill(np.empty(0, np.int64), np.empty(0, np.int64))


def fill_gpus(
    pool: NodePool, size: AgentSize, rules: PlacementRules, count: int, rows: Flags
) -> Fill:
    """Pack GPU agents: shares on broken devices, then on nodes with the fewest whole ones.

    Whole devices are taken from the nodes that have the fewest left, so that nodes with eight free
    ones stay for who needs eight.
    """
    part = slice(pool.plain, len(pool))
    allowed = pool.allowed(rules) & rows[part]
    copies = pool.fits_plain(size, part)
    devices = pool.fits_devices(size, allowed)
    tight = np.clip(pool.free[0, part], 0, (1 << _CPU_BITS) - 1)
    fewest_whole = (pool.whole() << _CPU_BITS) + tight
    if size.whole_gpus:
        able = np.minimum(copies, devices.sum(axis=1) // size.whole_gpus)
        return _shift(_first(able, fewest_whole, count), pool.plain)
    broken = np.where(pool.gpu_free < GPU_MILLI, devices, 0)
    on_broken = np.minimum(copies, broken.sum(axis=1))
    fullest = np.where(broken > 0, pool.gpu_free, GPU_MILLI).min(axis=1, initial=GPU_MILLI)
    first = _first(on_broken, (fullest << _CPU_BITS) + tight, count)
    left = count - int(first.counts.sum())
    if not left:
        return _shift(first, pool.plain)
    able = np.minimum(copies, devices.sum(axis=1)) - on_broken
    second = _first(able, fewest_whole, left)
    return _shift(_merged(first, second), pool.plain)


def fill_tightest(
    pool: NodePool, size: AgentSize, rules: PlacementRules, count: int, rows: Flags
) -> Fill:
    """Pack agents that need no GPU: nodes without GPUs first, then those with fewest whole ones."""
    del rules
    able = np.where(rows, pool.fits_plain(size, slice(None)), 0)
    key = np.clip(pool.free[0], 0, (1 << _CPU_BITS) - 1)
    key[pool.plain :] += (pool.whole() + 1) << _CPU_BITS
    return _first(able, key, count)


def _first(able: Ints, key: Ints, count: int) -> Fill:
    """Fill by ascending key, rows alike in order, until `count` agents have a place."""
    rows = np.flatnonzero(able > 0)
    rows = rows[np.argsort(key[rows], kind="stable")]
    copies = np.minimum(able[rows], count)
    upto = np.cumsum(copies)
    needed = int(np.searchsorted(upto, count)) + 1
    rows, copies, upto = rows[:needed], copies[:needed], upto[:needed]
    if len(rows) and upto[-1] > count:
        copies[-1] -= upto[-1] - count
    return Fill(rows, copies)


def _merged(first: Fill, second: Fill) -> Fill:
    """Both, with each row named once, at its first place."""
    rows = np.concatenate((first.rows, second.rows))
    counts = np.concatenate((first.counts, second.counts))
    unique, at, inverse = np.unique(rows, return_index=True, return_inverse=True)
    sums = np.bincount(inverse, weights=counts).astype(np.int64)
    order = np.argsort(at)
    return Fill(unique[order], sums[order])


def _shift(fill: Fill, offset: int) -> Fill:
    return Fill(fill.rows + offset, fill.counts)
