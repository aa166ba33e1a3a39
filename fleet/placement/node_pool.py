"""What is left on the nodes of one region, in columns: a question about one size asks all nodes.

Rows are ordered: nodes without GPUs first, then those with some, each by name. Agents that need no
GPU can so be asked of the first part alone, and columns of devices exist for the second part only.
Nothing here decides; `class_fill` and `striping` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.placement.requests import GPU_MILLI, AgentSize, PlacementRules
from fleet.reports import NodeDeclaration

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

COPIES_MAX = 1 << 40
"""How many agents that need nothing a node takes: more than any request asks for."""

_UNLIMITED = 1 << 61
"""Bandwidth of a node that declares none."""

_PLAIN = ("cpu_milli", "memory_bytes", "bandwidth_bps")


class Taken(NamedTuple):
    """What `take` took, to be put back by `put_back`."""

    rows: Ints
    counts: Ints
    size: AgentSize
    gpu_before: tuple[Ints, Ints, Ints] | None
    """Rows of the GPU columns, with their free thousandths and memory before."""


class NodePool:
    """The nodes of a region while a plan is made."""

    def __init__(self, region: str, nodes: Iterable[NodeDeclaration]) -> None:
        """Nothing is taken yet."""
        self.region = region
        self.nodes: Sequence[NodeDeclaration] = sorted(
            nodes, key=lambda node: (node.gpu_count > 0, node.node_id)
        )
        self.rows = {node.node_id: row for row, node in enumerate(self.nodes)}
        count = len(self.nodes)
        self.plain = sum(node.gpu_count == 0 for node in self.nodes)
        """How many rows have no GPU; they come first."""
        self.rank = _ranks([node.node_id for node in self.nodes])
        self.zones = sorted({node.zone for node in self.nodes})
        codes = {zone: code for code, zone in enumerate(self.zones)}
        self.zone = np.fromiter((codes[node.zone] for node in self.nodes), np.int64, count)
        self.agents = np.zeros(count, np.int64)
        self.capacity = np.array(
            [[getattr(node, name) for node in self.nodes] for name in _PLAIN], np.int64
        ).reshape(3, count)
        self.capacity[2][self.capacity[2] == 0] = _UNLIMITED
        self.free = self.capacity.copy()
        self._add_devices(self.nodes[self.plain :])

    def _add_devices(self, nodes: Sequence[NodeDeclaration]) -> None:
        widest = max((node.gpu_count for node in nodes), default=0)
        counts = np.fromiter((node.gpu_count for node in nodes), np.int64, len(nodes))
        each = [node.gpu_memory_bytes // node.gpu_count for node in nodes]
        there = np.arange(widest) < counts[:, None]
        self._there = there
        self.gpu_free = np.where(there, GPU_MILLI, 0).astype(np.int64)
        self._gpu_memory = np.where(there, np.array(each, np.int64)[:, None], 0)
        ratios = self.capacity[0, self.plain :] / np.maximum(1, GPU_MILLI * counts)
        self._kinds, self._kind = np.unique(ratios, return_inverse=True)
        models = [node.gpu_model or "" for node in nodes]
        self._models = {name: code for code, name in enumerate(sorted(set(models)))}
        self._model = np.fromiter((self._models[name] for name in models), np.int64, len(nodes))

    def __len__(self) -> int:
        return len(self.nodes)

    def whole(self) -> Ints:
        """Devices of each GPU node that nobody uses; a row for each node from `plain` on."""
        whole: Ints = (self.gpu_free == GPU_MILLI).sum(axis=1)
        return whole

    def kind_rank(self, cpu_per_gpu: float) -> Ints:
        """Of each GPU node, how well its CPU for each GPU suits such agents; 0 suits best.

        Kinds that have just enough come first, then those that have more, then those with less.
        """
        order = np.lexsort((np.abs(self._kinds - cpu_per_gpu), self._kinds < cpu_per_gpu))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        of_nodes: Ints = np.minimum(ranks, (1 << 9) - 1)[self._kind]
        return of_nodes

    def fits_plain(self, size: AgentSize, part: slice) -> Ints:
        """How many agents of this size each row of `part` can take, GPUs aside."""
        rows = self.free[:, part]
        copies = np.full(rows.shape[1], COPIES_MAX, np.int64)
        for free, wanted in zip(rows, size[:3], strict=True):
            if wanted:
                np.minimum(copies, free // wanted, out=copies)
        return np.maximum(copies, 0, out=copies)

    def fits(self, size: AgentSize, rules: PlacementRules) -> Ints:
        """How many agents of this size each row can take now; a row for every node."""
        copies = self.fits_plain(size, slice(None))
        if size.needs_gpu:
            copies[: self.plain] = 0
            gpu = self.fits_devices(size, self.allowed(rules)).sum(axis=1)
            if size.whole_gpus:
                gpu //= size.whole_gpus
            np.minimum(copies[self.plain :], gpu, out=copies[self.plain :])
        return copies

    def allowed(self, rules: PlacementRules) -> Flags:
        """Which GPU nodes have a model that the rules allow."""
        if not rules.gpu_models:
            return np.ones(len(self._model), np.bool_)
        codes = [self._models[name] for name in rules.gpu_models if name in self._models]
        return np.isin(self._model, codes)

    def fits_devices(self, size: AgentSize, allowed: Flags) -> Ints:
        """How many agents each device can take a share of; 1 where it can be had whole."""
        memory = size.device_memory_bytes
        if size.whole_gpus:
            able = (self.gpu_free == GPU_MILLI) & (self._gpu_memory >= memory)
            each: Ints = (able & allowed[:, None]).astype(np.int64)
            return each
        copies = np.where(self._there & allowed[:, None], COPIES_MAX >> 8, 0)
        if size.gpu_milli:
            np.minimum(copies, self.gpu_free // size.gpu_milli, out=copies)
        if memory:
            np.minimum(copies, self._gpu_memory // memory, out=copies)
        return np.maximum(copies, 0, out=copies)

    def take(self, rows: Ints, counts: Ints, size: AgentSize) -> Taken:
        """Reserve room for `counts[i]` agents on row `rows[i]`, each row named once.

        Whether they fit is the caller's to know; devices that are not there are not taken.
        """
        before = None
        if size.needs_gpu:
            gpu = rows - self.plain
            here = gpu >= 0
            gpu, copies = gpu[here], counts[here]
            before = (gpu, self.gpu_free[gpu], self._gpu_memory[gpu])
            (self._take_whole if size.whole_gpus else self._take_shares)(gpu, copies, size)
        for free, wanted in zip(self.free, size[:3], strict=True):
            if wanted:
                free[rows] -= wanted * counts
        self.agents[rows] += counts
        return Taken(rows, counts, size, before)

    def put_back(self, taken: Taken) -> None:
        """Undo the newest `take`; the ones before it in reverse order."""
        for free, wanted in zip(self.free, taken.size[:3], strict=True):
            free[taken.rows] += wanted * taken.counts
        self.agents[taken.rows] -= taken.counts
        if taken.gpu_before is not None:
            rows, free, memory = taken.gpu_before
            self.gpu_free[rows], self._gpu_memory[rows] = free, memory

    def _take_whole(self, gpu: Ints, copies: Ints, size: AgentSize) -> None:
        memory = size.device_memory_bytes
        able = (self.gpu_free[gpu] == GPU_MILLI) & (self._gpu_memory[gpu] >= memory)
        chosen = able & (np.cumsum(able, axis=1) <= (copies * size.whole_gpus)[:, None])
        self.gpu_free[gpu] -= np.where(chosen, GPU_MILLI, 0)
        self._gpu_memory[gpu] -= np.where(chosen, memory, 0)

    def _take_shares(self, gpu: Ints, copies: Ints, size: AgentSize) -> None:
        """The fullest devices first, so that whole ones stay whole."""
        every = np.ones(len(self._model), np.bool_)
        room = self.fits_devices(size, every)[gpu]
        order = np.argsort(self.gpu_free[gpu], axis=1, kind="stable")
        room = np.take_along_axis(room, order, axis=1)
        before = np.cumsum(room, axis=1) - room
        shares = np.empty_like(room)
        taken = np.clip(copies[:, None] - before, 0, room)
        np.put_along_axis(shares, order, taken, axis=1)
        self.gpu_free[gpu] -= shares * size.gpu_milli
        self._gpu_memory[gpu] -= shares * size.device_memory_bytes

    def shortage(self, row: int, size: AgentSize, rules: PlacementRules) -> str:
        """What is lacking on a node for one more agent, in words; empty when it fits."""
        node = self.nodes[row]
        for name, free, wanted in zip(_PLAIN, self.free[:, row], size[:3], strict=True):
            if wanted > free:
                return f"{node.node_id} has {name} {free} of {wanted}"
        if not size.needs_gpu:
            return ""
        if rules.gpu_models and node.gpu_model not in rules.gpu_models:
            wanted_models = " or ".join(rules.gpu_models)
            return f"{node.node_id} has gpu_model {node.gpu_model or 'none'}, not {wanted_models}"
        gpu = row - self.plain
        free_milli = int(self.gpu_free[gpu].sum()) if gpu >= 0 else 0
        if size.gpu_milli > free_milli:
            return f"{node.node_id} has gpu_milli {free_milli} of {size.gpu_milli}"
        if gpu >= 0 and self.fits_devices(size, self.allowed(rules))[gpu].sum() >= max(
            1, size.whole_gpus
        ):
            return ""
        return self._device_shortage(node, gpu, size)

    def _device_shortage(self, node: NodeDeclaration, gpu: int, size: AgentSize) -> str:
        whole = int((self.gpu_free[gpu] == GPU_MILLI).sum()) if gpu >= 0 else 0
        if whole < size.whole_gpus:
            return f"{node.node_id} has {whole} whole GPUs of {size.whole_gpus}"
        most = int(self.gpu_free[gpu].max()) if gpu >= 0 else 0
        if not size.whole_gpus and most < size.gpu_milli:
            return f"{node.node_id} has gpu_milli {most} of {size.gpu_milli} on one device"
        memory = int(self._gpu_memory[gpu].max()) if gpu >= 0 else 0
        wanted = size.device_memory_bytes
        return f"{node.node_id} has gpu_memory_bytes {memory} of {wanted} on one device"


def pools_of(nodes: Iterable[NodeDeclaration]) -> dict[str, NodePool]:
    """The nodes by region."""
    by_region: dict[str, list[NodeDeclaration]] = {}
    for node in nodes:
        by_region.setdefault(node.region, []).append(node)
    return {region: NodePool(region, by_region[region]) for region in sorted(by_region)}


def take_present(
    pools: Mapping[str, NodePool], present: Mapping[tuple[str, AgentSize], Mapping[int, int]]
) -> None:
    """Reserve what agents that are placed already have, the biggest first.

    Args:
        pools: by region.
        present: (region, size) -> row -> how many agents.
    """
    for region, size in sorted(present, key=lambda key: (key[0], *big_first(key[1]))):
        rows = present[region, size]
        pools[region].take(
            np.fromiter(rows, np.int64, len(rows)),
            np.fromiter(rows.values(), np.int64, len(rows)),
            size,
        )


def big_first(size: AgentSize) -> tuple[int, ...]:
    """Sorts the sizes that are hardest to place first.

    Several whole GPUs, then shares of one, which have to find each other on as few devices as can
    be, then single whole ones, which take what is left; agents without GPUs last, by CPU.
    """
    return (
        not size.needs_gpu,
        -size.whole_gpus if size.whole_gpus > 1 else 0,
        size.whole_gpus,
        -size.gpu_milli,
        -size.gpu_memory_bytes,
        -size.cpu_milli,
        -size.memory_bytes,
        -size.bandwidth_bps,
    )


def _ranks(names: Sequence[str]) -> Ints:
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks
