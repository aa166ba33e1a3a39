"""The GPUs of one node while a plan is made: whole devices, and devices that are shared.

A share goes to the fullest device that can take it, so that whole devices stay whole for those who
need one. Which device an agent really gets is its node's affair; plans only have to be possible.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.placement.requests import GPU_MILLI, AgentSize
from fleet.reports import NodeDeclaration


class GpuClaim(NamedTuple):
    """What one agent holds of a node's devices."""

    devices: tuple[int, ...]
    milli: int
    """Of each of them."""
    memory_bytes: int
    """Of each of them."""


class GpuSlots:
    """What is left on each device of a node.

    Args:
        node: as declared; its GPU memory belongs to its devices in equal parts.
        head_room: share that a plan leaves free, 0 to below 1: whole devices, and a part of one.
    """

    __slots__ = ("free", "memory")

    def __init__(self, node: NodeDeclaration, head_room: float = 0.0) -> None:
        """All devices are free."""
        count = node.gpu_count
        usable = int(GPU_MILLI * count * (1 - head_room))
        self.free = [min(GPU_MILLI, max(0, usable - GPU_MILLI * n)) for n in range(count)]
        self.memory = [node.gpu_memory_bytes // count] * count if count else []

    def copy(self) -> GpuSlots:
        """The same devices, from which taking leaves these as they are."""
        found = GpuSlots.__new__(GpuSlots)
        found.free, found.memory = self.free.copy(), self.memory.copy()
        return found

    @property
    def whole(self) -> int:
        """Devices that nobody uses."""
        return self.free.count(GPU_MILLI)

    @property
    def free_milli(self) -> int:
        """Left on all devices together."""
        return sum(self.free)

    def find(self, size: AgentSize) -> GpuClaim | None:
        """What an agent would get; None when it does not fit. Nothing is taken."""
        if not size.needs_gpu:
            return GpuClaim((), 0, 0)
        wanted, memory = size.whole_gpus, size.device_memory_bytes
        if wanted:
            able = [
                device
                for device, free in enumerate(self.free)
                if free == GPU_MILLI and self.memory[device] >= memory
            ]
            if len(able) < wanted:
                return None
            return GpuClaim(tuple(able[:wanted]), GPU_MILLI, memory)
        best = min(
            (
                (free, device)
                for device, free in enumerate(self.free)
                if free >= size.gpu_milli and self.memory[device] >= memory
            ),
            default=None,
        )
        return None if best is None else GpuClaim((best[1],), size.gpu_milli, memory)

    def take(self, claim: GpuClaim) -> None:
        """Reserve it."""
        for device in claim.devices:
            self.free[device] -= claim.milli
            self.memory[device] -= claim.memory_bytes

    def release(self, claim: GpuClaim) -> None:
        """Give it back."""
        for device in claim.devices:
            self.free[device] += claim.milli
            self.memory[device] += claim.memory_bytes
