"""Where one more agent goes, answered in microseconds: nodes sorted by what they have left.

A full plan looks at every node; a single agent needs the tightest one that fits. Nodes are kept in
sorted lists, so that the answer is a bisection and, as a rule, its first hit:

- nodes without GPUs by free CPU, apart by powers of two of their free memory: those of a higher
  power fit for certain, only those of the agent's own power are looked at one by one;
- broken devices by what is left on them, for agents that share one;
- nodes with GPUs by their number of whole devices, then by free CPU.

Rules are those of `class_fill`: shares on broken devices first, whole devices from nodes with the
fewest, agents without GPUs on nodes without.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from fleet.errors import InvalidInputError, NotFoundError
from fleet.placement.gpu_slots import GpuClaim, GpuSlots
from fleet.placement.requests import GPU_MILLI, NO_RULES, AgentSize, PlacementRules
from fleet.reports import NodeDeclaration

_ROW_BITS = 24
_ROW_MASK = (1 << _ROW_BITS) - 1
_UNLIMITED = 1 << 61


class Claim(NamedTuple):
    """Room that an agent holds on a node, to be released."""

    node_id: str
    size: AgentSize
    gpu: GpuClaim


class _Pool:
    """Nodes of one region and GPU model, in the orders in which they are asked for."""

    __slots__ = ("broken", "plain", "whole")

    def __init__(self) -> None:
        self.plain: dict[int, list[int]] = {}
        """Power of two of free memory -> (free CPU, row), sorted; nodes without GPUs."""
        self.broken: list[int] = []
        """(free thousandths, row), sorted: one for each broken device."""
        self.whole: dict[int, list[int]] = {}
        """Whole devices -> (free CPU, row), sorted."""


class _Node:
    """What is left on one node."""

    __slots__ = ("bandwidth", "cpu", "declared", "memory", "pool", "row", "slots", "whole")

    def __init__(self, row: int, declared: NodeDeclaration) -> None:
        self.row = row
        self.declared = declared
        self.cpu = declared.cpu_milli
        self.memory = declared.memory_bytes
        self.bandwidth = declared.bandwidth_bps or _UNLIMITED
        self.slots = GpuSlots(declared) if declared.gpu_count else None
        self.whole = declared.gpu_count
        self.pool = _Pool()
        """Of its region and model; shared with the others, once the index has entered it."""

    def fits(self, size: AgentSize) -> bool:
        """GPUs aside."""
        return self.cpu >= size[0] and self.memory >= size[1] and self.bandwidth >= size[2]


class PlacementIndex:
    """Free room of all nodes, kept sorted while agents come and go."""

    def __init__(self, nodes: Iterable[NodeDeclaration]) -> None:
        """All nodes are empty.

        Raises:
            InvalidInputError: a node is named twice, or there are more than the index can number.
        """
        declared = sorted(nodes, key=lambda node: node.node_id)
        if len(declared) > _ROW_MASK:
            raise InvalidInputError("nodes", len(declared), f"at most {_ROW_MASK}")
        self._nodes = [_Node(row, node) for row, node in enumerate(declared)]
        self._by_id = {node.declared.node_id: node for node in self._nodes}
        if len(self._by_id) < len(declared):
            twice = next(one for one, two in pairwise(declared) if one.node_id == two.node_id)
            raise InvalidInputError("node_id", twice.node_id, "each node once")
        self._pools: dict[str, dict[str | None, _Pool]] = defaultdict(dict)
        for node in self._nodes:
            self._enter(node)

    def _enter(self, node: _Node) -> None:
        """Put an empty node into the lists."""
        pools = self._pools[node.declared.region]
        model = None if node.slots is None else node.declared.gpu_model or ""
        node.pool = pools.setdefault(model, _Pool())
        insort(self._by_cpu(node), node.cpu << _ROW_BITS | node.row)

    def find(
        self,
        region: str,
        size: AgentSize,
        rules: PlacementRules = NO_RULES,
        zone: str | None = None,
    ) -> str | None:
        """The node that an agent should go to; None when none has room. Nothing is taken.

        Args:
            region: where.
            size: of the agent.
            rules: its GPU models count; zones and gangs are the caller's.
            zone: only there; None: anywhere in the region.
        """
        pools = self._pools.get(region)
        if pools is None:
            return None
        if size.needs_gpu:
            models: Sequence[str | None] = rules.gpu_models or tuple(pools)
            asked = [pools[model] for model in models if model in pools]
            row = self._find_gpu(asked, size, zone)
        else:
            row = self._find_plain(pools, size, zone)
        return None if row < 0 else self._nodes[row].declared.node_id

    def place(
        self,
        region: str,
        size: AgentSize,
        rules: PlacementRules = NO_RULES,
        zone: str | None = None,
    ) -> Claim | None:
        """Find a node and take room there; None when none has any."""
        node_id = self.find(region, size, rules, zone)
        return None if node_id is None else self.take(node_id, size)

    def take(self, node_id: str, size: AgentSize) -> Claim | None:
        """Take room on a certain node; None when it has not enough, and nothing is taken.

        Raises:
            NotFoundError: there is no such node.
        """
        node = self._node(node_id)
        claim = GpuClaim((), 0, 0)
        if size.needs_gpu:
            found = None if node.slots is None else node.slots.find(size)
            if found is None:
                return None
            claim = found
        if not node.fits(size):
            return None
        self._change(node, size, claim, 1)
        return Claim(node_id, size, claim)

    def take_again(self, claim: Claim) -> None:
        """Undo the release of a claim, on the very same devices.

        Only for the one who released it, with nothing taken on the node since.

        Raises:
            NotFoundError: there is no such node.
        """
        self._change(self._node(claim.node_id), claim.size, claim.gpu, 1)

    def release(self, claim: Claim) -> None:
        """Give room back.

        Raises:
            NotFoundError: there is no such node.
        """
        self._change(self._node(claim.node_id), claim.size, claim.gpu, -1)

    def _node(self, node_id: str) -> _Node:
        node = self._by_id.get(node_id)
        if node is None:
            raise NotFoundError(
                f"node {node_id} is not in the index", hint="Build it anew from all nodes."
            )
        return node

    def _change(self, node: _Node, size: AgentSize, claim: GpuClaim, sign: int) -> None:
        """Take (or give back), and move only those entries that have changed."""
        entries = self._by_cpu(node)
        del entries[bisect_left(entries, node.cpu << _ROW_BITS | node.row)]
        node.cpu -= sign * size[0]
        node.memory -= sign * size[1]
        node.bandwidth -= sign * size[2]
        slots = node.slots
        if slots is not None and claim.devices:
            broken, free = node.pool.broken, slots.free
            for device in claim.devices:
                if 0 < free[device] < GPU_MILLI:
                    del broken[bisect_left(broken, free[device] << _ROW_BITS | node.row)]
                elif free[device]:
                    node.whole -= 1
            (slots.take if sign > 0 else slots.release)(claim)
            for device in claim.devices:
                if 0 < free[device] < GPU_MILLI:
                    insort(broken, free[device] << _ROW_BITS | node.row)
                elif free[device]:
                    node.whole += 1
        insort(self._by_cpu(node), node.cpu << _ROW_BITS | node.row)

    def _by_cpu(self, node: _Node) -> list[int]:
        """The list by free CPU that a node is in now."""
        if node.slots is None:
            by_power, power = node.pool.plain, node.memory.bit_length()
        else:
            by_power, power = node.pool.whole, node.whole
        entries = by_power.get(power)
        if entries is None:
            entries = by_power[power] = []
        return entries

    def _find_plain(self, pools: dict[str | None, _Pool], size: AgentSize, zone: str | None) -> int:
        own = size.memory_bytes.bit_length()
        first = size.cpu_milli << _ROW_BITS
        best = -1
        plain = pools.get(None)
        if plain is not None:
            for power, entries in plain.plain.items():
                if power >= own and entries:
                    found = self._first(entries, first, size, zone, best)
                    best = found if found >= 0 else best
        if best >= 0:
            return best & _ROW_MASK
        counts = sorted({whole for pool in pools.values() for whole in pool.whole})
        for whole in counts:
            for pool in pools.values():
                found = self._first(pool.whole.get(whole, ()), first, size, zone, best)
                best = found if found >= 0 else best
            if best >= 0:
                return best & _ROW_MASK
        return -1

    def _find_gpu(self, pools: Sequence[_Pool], size: AgentSize, zone: str | None) -> int:
        first, best = size.cpu_milli << _ROW_BITS, -1
        if not size.whole_gpus:
            for pool in pools:
                found = self._first_broken(pool.broken, size, zone, best)
                best = found if found >= 0 else best
            if best >= 0:
                return best & _ROW_MASK
        least = max(1, size.whole_gpus)
        for whole in sorted({n for pool in pools for n in pool.whole if n >= least}):
            for pool in pools:
                found = self._first(pool.whole.get(whole, ()), first, size, zone, best)
                best = found if found >= 0 else best
            if best >= 0:
                return best & _ROW_MASK
        return -1

    def _first(
        self, entries: Sequence[int], first: int, size: AgentSize, zone: str | None, best: int
    ) -> int:
        """The lowest entry from `first` on whose node fits, if it is below `best`; else -1."""
        nodes = self._nodes
        for at in range(bisect_left(entries, first), len(entries)):
            entry = entries[at]
            if 0 <= best < entry:
                return -1
            node = nodes[entry & _ROW_MASK]
            if (
                node.fits(size)
                and (zone is None or node.declared.zone == zone)
                and (not size.needs_gpu or (node.slots is not None and node.slots.find(size)))
            ):
                return entry
        return -1

    def _first_broken(
        self, entries: Sequence[int], size: AgentSize, zone: str | None, best: int
    ) -> int:
        """As `_first`, for devices; what is left on the device counts, and its memory."""
        first = max(1, size.gpu_milli) << _ROW_BITS
        for at in range(bisect_left(entries, first), len(entries)):
            entry = entries[at]
            if 0 <= best < entry:
                return -1
            node = self._nodes[entry & _ROW_MASK]
            if not node.fits(size) or (zone is not None and node.declared.zone != zone):
                continue
            slots = node.slots
            claim = None if slots is None else slots.find(size)
            if claim is None or slots is None:
                continue
            if slots.free[claim.devices[0]] == entry >> _ROW_BITS:  # else a later one is meant
                return entry
        return -1
