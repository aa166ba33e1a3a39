"""Leases of GPU memory as plain dictionaries; mixed into the fake control store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from threading import RLock

from fleet.errors import InvalidInputError
from fleet.gpu_leases import (
    GpuFallbacks,
    GpuLease,
    GpuLeaseResult,
    GpuLeaseWish,
    lost_lease,
    refuse_wish,
    validate_wish,
)
from fleet.ports.clock import Clock


class InMemoryGpuLeases:
    """`fleet.ports.gpu_lease_store.GpuLeaseStore`, looked at lease by lease."""

    _lock: RLock
    clock: Clock

    def __init__(self) -> None:
        """Nobody computes."""
        self._gpu_leases: dict[tuple[str, str], GpuLease] = {}
        self._gpu_fences: Counter[str] = Counter()
        self._gpu_fallbacks: Counter[tuple[str, str]] = Counter()

    def acquire_gpu(self, wish: GpuLeaseWish) -> GpuLeaseResult:
        """Under the lock."""
        validate_wish(wish)
        with self._lock:
            now = self.clock.now()
            for key, lease in list(self._gpu_leases.items()):
                if lease.gpu_uuid == wish.gpu_uuid and lease.expires_at <= now:
                    del self._gpu_leases[key]
            others = [
                lease
                for lease in self._gpu_leases.values()
                if lease.gpu_uuid == wish.gpu_uuid and lease.holder != wish.holder
            ]
            refusal = refuse_wish(wish, sum(lease.memory_bytes for lease in others))
            if refusal:
                return GpuLeaseResult(None, refusal)
            own = self._gpu_leases.get((wish.gpu_uuid, wish.holder))
            self._gpu_fences[wish.gpu_uuid] += own is None
            lease = GpuLease(
                wish.gpu_uuid,
                wish.node_id,
                wish.holder,
                wish.memory_bytes,
                self._gpu_fences[wish.gpu_uuid] if own is None else own.fence,
                wish.ttl_s,
                now,
                now + timedelta(seconds=wish.ttl_s),
            )
            return GpuLeaseResult(self._keep(lease, own), "")

    def renew_gpu(self, lease: GpuLease) -> GpuLease:
        """Under the lock."""
        with self._lock:
            own = self._gpu_leases.get((lease.gpu_uuid, lease.holder))
            if own is None or own.fence != lease.fence:
                raise lost_lease(lease)
            now = self.clock.now()
            until = now + timedelta(seconds=own.ttl_s)
            return self._keep(own._replace(renewed_at=now, expires_at=until), own)

    def _keep(self, lease: GpuLease, own: GpuLease | None) -> GpuLease:
        """Never earlier than before."""
        if own is not None:
            lease = lease._replace(
                renewed_at=max(lease.renewed_at, own.renewed_at),
                expires_at=max(lease.expires_at, own.expires_at),
            )
        self._gpu_leases[lease.gpu_uuid, lease.holder] = lease
        return lease

    def release_gpu(self, lease: GpuLease) -> None:
        """Under the lock."""
        with self._lock:
            own = self._gpu_leases.get((lease.gpu_uuid, lease.holder))
            if own is not None and own.fence == lease.fence:
                del self._gpu_leases[lease.gpu_uuid, lease.holder]

    def gpu_leases(self, node_id: str | None = None) -> list[GpuLease]:
        """Those that have not run out."""
        with self._lock:
            now = self.clock.now()
            live = [lease for lease in self._gpu_leases.values() if lease.expires_at > now]
        mine = [lease for lease in live if node_id in {None, lease.node_id}]
        return sorted(mine, key=lambda lease: (lease.gpu_uuid, lease.fence))

    def count_gpu_fallbacks(self, node_id: str, counts: Mapping[str, int]) -> None:
        """Checked first, then added."""
        for reason, count in counts.items():
            if not node_id or not reason:
                raise InvalidInputError("gpu fallbacks", (node_id, reason), "two names")
            if count < 0:
                raise InvalidInputError("gpu fallbacks", count, "0 or more")
        with self._lock:
            for reason, count in counts.items():
                self._gpu_fallbacks[node_id, reason] += count

    def gpu_fallbacks(self) -> list[GpuFallbacks]:
        """In order."""
        with self._lock:
            return [
                GpuFallbacks(*key, self._gpu_fallbacks[key]) for key in sorted(self._gpu_fallbacks)
            ]
