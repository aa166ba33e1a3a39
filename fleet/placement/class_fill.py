"""Best fit for a class of identical agents at once: one pass over the nodes, not one an agent.

How many copies fit a node is one division per quantity; the tightest nodes are filled first, so
that whatever is big finds room later. A pass costs some vector operations over the region's nodes,
however many agents there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fleet.placement.node_pool import COPIES_MAX, Flags, Ints, NodePool
from fleet.placement.requests import GPU_MILLI, AgentSize, PlacementRules

_CPU_BITS = 40
"""Free CPU in the low bits of a key, what matters more above them."""


class Fill(NamedTuple):
    """Which nodes take how many agents, in the order in which agents are dealt to them."""

    rows: Ints
    counts: Ints


NOTHING = Fill(np.empty(0, np.int64), np.empty(0, np.int64))


def fill_gpus(
    pool: NodePool,
    size: AgentSize,
    rules: PlacementRules,
    count: int,
    rows: Flags,
    cpu_per_gpu: float = 0.0,
) -> Fill:
    """Pack GPU agents: shares on broken devices, then on nodes with the fewest whole ones.

    Of kinds of nodes the one is preferred whose CPU for each GPU is just enough, so that nodes with
    much of it stay for who needs it. And an agent that needs more CPU than others leaves each node
    what these will need for the GPUs that stay free, as long as there is another node: a GPU
    without CPU is of no use to anybody.

    Args:
        pool: nodes of the region.
        size: of the agents.
        rules: models that they may have.
        count: agents at most.
        rows: nodes that they may have.
        cpu_per_gpu: thousandths of a core that the plan's agents ask for with each thousandth of a
            GPU, on average; 0 keeps nothing back.
    """
    part = slice(pool.plain, len(pool))
    devices = pool.fits_devices(size, pool.allowed(rules) & rows[part])
    room = np.minimum(pool.fits_plain(size, part), devices.sum(axis=1) // max(1, size.whole_gpus))
    modest = np.minimum(room, _modest(pool, size, cpu_per_gpu))
    tight = np.clip(pool.free[0, part], 0, (1 << _CPU_BITS) - 1)
    kind = pool.kind_rank(size.cpu_milli / max(1, size.gpu_milli))
    new_devices = (kind << _CPU_BITS + 7) + (pool.whole() << _CPU_BITS) + tight
    passes = [(modest, new_devices), (room, new_devices)]
    if not size.whole_gpus:
        broken = np.where(pool.gpu_free < GPU_MILLI, devices, 0)
        fullest = np.where(broken > 0, pool.gpu_free, GPU_MILLI).min(axis=1, initial=GPU_MILLI)
        key = (fullest << _CPU_BITS + 10) + (kind << _CPU_BITS) + tight
        on_broken = broken.sum(axis=1)
        passes = [
            (np.minimum(modest, on_broken), key),
            passes[0],
            (np.minimum(room, on_broken), key),
            passes[1],
        ]
    return _shift(_in_passes(passes, count), pool.plain)


def _modest(pool: NodePool, size: AgentSize, cpu_per_gpu: float) -> Ints:
    """How many agents leave each GPU node the CPU that its other GPUs will be asked with."""
    excess = size.cpu_milli - cpu_per_gpu * size.gpu_milli
    if cpu_per_gpu == 0.0 or excess <= 0.0:
        return np.full(len(pool) - pool.plain, COPIES_MAX, np.int64)
    spare = pool.free[0, pool.plain :] - cpu_per_gpu * pool.gpu_free.sum(axis=1)
    modest: Ints = np.floor(np.clip(spare / excess, 0, COPIES_MAX)).astype(np.int64)
    return modest


def _in_passes(passes: Sequence[tuple[Ints, Ints]], count: int) -> Fill:
    """Fill by the first limit and key, what is left by the next."""
    taken = np.zeros(len(passes[0][0]), np.int64)
    fills = []
    for able, key in passes:
        fill = _first(able - taken, key, count)
        taken[fill.rows] += fill.counts
        count -= int(fill.counts.sum())
        fills.append(fill)
        if not count:
            break
    return fills[0] if len(fills) == 1 else _merged(fills)


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


def _merged(fills: Sequence[Fill]) -> Fill:
    """All of them, with each row named once, at its first place."""
    rows = np.concatenate([fill.rows for fill in fills])
    counts = np.concatenate([fill.counts for fill in fills])
    unique, at, inverse = np.unique(rows, return_index=True, return_inverse=True)
    sums = np.bincount(inverse, counts, len(unique)).astype(np.int64)
    order = np.argsort(at)
    return Fill(unique[order], sums[order])


def _shift(fill: Fill, offset: int) -> Fill:
    return Fill(fill.rows + offset, fill.counts)
