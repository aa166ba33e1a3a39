"""Where leases of GPU memory are kept, so that two processes never fill one GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fleet.gpu_leases import GpuFallbacks, GpuLease, GpuLeaseResult, GpuLeaseWish


class GpuLeaseStore(Protocol):
    """Leases of GPU memory, judged by the store's clock, and how often GPUs failed."""

    def acquire_gpu(self, wish: GpuLeaseWish) -> GpuLeaseResult:
        """Lease memory of one GPU if it is available, in one transaction.

        Leases of this GPU that have run out are removed first. A holder that asks again while its
        lease is live has it changed, under the same fence; so an acquisition whose outcome is
        unknown may be repeated.

        Returns:
            The lease, or in words why there is not enough memory.

        Raises:
            InvalidInputError: a wish that no GPU could grant; nothing was stored.
            StoreUnavailableError: the outcome is unknown: ask again.
        """
        ...

    def renew_gpu(self, lease: GpuLease) -> GpuLease:
        """Extend a lease by its ttl; also after its end, while nobody has asked for this GPU.

        Raises:
            LeaseLostError: it was released, or removed when another asked for this GPU.
        """
        ...

    def release_gpu(self, lease: GpuLease) -> None:
        """Give the memory back; nothing happens when the lease is not held any more."""
        ...

    def gpu_leases(self, node_id: str | None = None) -> list[GpuLease]:
        """Live leases, of one machine or of all, ordered by GPU and fence."""
        ...

    def count_gpu_fallbacks(self, node_id: str, counts: Mapping[str, int]) -> None:
        """Add to the number of fallbacks of a machine, by reason.

        Raises:
            InvalidInputError: a negative count, or an empty name; nothing was stored.
        """
        ...

    def gpu_fallbacks(self) -> list[GpuFallbacks]:
        """All counts, ordered by node and reason; they only rise."""
        ...
