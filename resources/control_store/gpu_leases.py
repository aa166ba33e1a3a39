"""Leases of GPU memory in SQL: a row per GPU and holder, and the highest fence of each GPU.

Committed where each method returns. Who acquires locks the row of the GPU's fence first, so that
two who want the last gigabyte come one after the other; who renews or releases locks only the
lease's own row. No order of locks is ever turned round. The judge of time is the store's clock; for
one lease `expires_at` only rises, so a clock set back shortens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

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
from resources.control_store.database import Feature
from resources.control_store.schema_gpus import gpu_fallbacks, gpu_fences, gpu_leases
from resources.control_store.times import from_us


class SqlGpuLeases(Feature):
    """`fleet.ports.GpuLeaseStore`: the part of the control store that shares out GPUs."""

    def acquire_gpu(self, wish: GpuLeaseWish) -> GpuLeaseResult:
        """Lease memory of one GPU if it is available."""
        validate_wish(wish)
        of_gpu = gpu_leases.c.gpu_uuid == wish.gpu_uuid
        with self._database.write() as connection:
            fence = self._lock_fence(connection, wish.gpu_uuid)
            now = self._database.dialect.now_us(connection)
            connection.execute(gpu_leases.delete().where(of_gpu, gpu_leases.c.expires_at <= now))
            held = {
                row.holder: row for row in connection.execute(sa.select(gpu_leases).where(of_gpu))
            }
            own = held.pop(wish.holder, None)
            refusal = refuse_wish(wish, sum(row.memory_bytes for row in held.values()))
            if refusal:
                return GpuLeaseResult(None, refusal)
            if own is None:
                fence += 1
                connection.execute(
                    gpu_fences.update()
                    .where(gpu_fences.c.gpu_uuid == wish.gpu_uuid)
                    .values(fence=fence)
                )
            row = _row(wish, fence if own is None else own.fence, now, own)
            connection.execute(self._database.upsert(gpu_leases), row)
        return GpuLeaseResult(_lease(row), "")

    def renew_gpu(self, lease: GpuLease) -> GpuLease:
        """Extend a lease by its ttl."""
        with self._database.write() as connection:
            found = sa.select(gpu_leases).where(_is(lease)).with_for_update()
            row = connection.execute(found).one_or_none()
            if row is None:
                raise lost_lease(lease)
            now = self._database.dialect.now_us(connection)
            times = {
                "renewed_at": max(now, row.renewed_at),
                "expires_at": max(now + round(row.ttl_s * 1e6), row.expires_at),
            }
            connection.execute(gpu_leases.update().where(_is(lease)).values(times))
        return _lease({**row._asdict(), **times})

    def release_gpu(self, lease: GpuLease) -> None:
        """Give the memory back."""
        with self._database.write() as connection:
            connection.execute(gpu_leases.delete().where(_is(lease)))

    def gpu_leases(self, node_id: str | None = None) -> list[GpuLease]:
        """Live leases, ordered by GPU and fence."""
        with self._database.read() as connection:
            now = self._database.dialect.now_us(connection)
            statement = (
                sa.select(gpu_leases)
                .where(gpu_leases.c.expires_at > now)
                .order_by(gpu_leases.c.gpu_uuid, gpu_leases.c.fence)
            )
            if node_id is not None:
                statement = statement.where(gpu_leases.c.node_id == node_id)
            return [_lease(row._asdict()) for row in connection.execute(statement)]

    def count_gpu_fallbacks(self, node_id: str, counts: Mapping[str, int]) -> None:
        """Add to the counts of a machine."""
        rows = [
            {"node_id": node_id, "reason": reason, "fallbacks": counts[reason]}
            for reason in sorted(counts)
        ]
        for row in rows:
            if not row["node_id"] or not row["reason"]:
                raise InvalidInputError("gpu fallbacks", (node_id, row["reason"]), "two names")
            if counts[str(row["reason"])] < 0:
                raise InvalidInputError("gpu fallbacks", row["fallbacks"], "0 or more")
        if not rows:
            return
        insert = self._database.dialect.insert(gpu_fallbacks)
        added = gpu_fallbacks.c.fallbacks + insert.excluded.fallbacks
        statement = insert.on_conflict_do_update(
            index_elements=["node_id", "reason"], set_={"fallbacks": added}
        )
        with self._database.write() as connection:
            connection.execute(statement, rows)

    def gpu_fallbacks(self) -> list[GpuFallbacks]:
        """All counts, ordered by node and reason."""
        columns = (gpu_fallbacks.c.node_id, gpu_fallbacks.c.reason, gpu_fallbacks.c.fallbacks)
        statement = sa.select(*columns).order_by(*columns[:2])
        with self._database.read() as connection:
            return [GpuFallbacks._make(row) for row in connection.execute(statement)]

    def _lock_fence(self, connection: sa.Connection, gpu_uuid: str) -> int:
        """The GPU's highest fence; nobody else acquires memory of it until the commit."""
        connection.execute(
            self._database.insert_new(gpu_fences), {"gpu_uuid": gpu_uuid, "fence": 0}
        )
        found = sa.select(gpu_fences.c.fence).where(gpu_fences.c.gpu_uuid == gpu_uuid)
        return int(connection.execute(found.with_for_update()).scalar_one())


def _is(lease: GpuLease) -> sa.ColumnElement[bool]:
    """The row of this very lease, not of a later one of the same holder."""
    return sa.and_(
        gpu_leases.c.gpu_uuid == lease.gpu_uuid,
        gpu_leases.c.holder == lease.holder,
        gpu_leases.c.fence == lease.fence,
    )


def _row(wish: GpuLeaseWish, fence: int, now: int, own: sa.Row[Any] | None) -> dict[str, Any]:
    expires_at = now + round(wish.ttl_s * 1e6)
    return {
        "gpu_uuid": wish.gpu_uuid,
        "holder": wish.holder,
        "node_id": wish.node_id,
        "memory_bytes": wish.memory_bytes,
        "fence": fence,
        "ttl_s": wish.ttl_s,
        "renewed_at": now if own is None else max(now, own.renewed_at),
        "expires_at": expires_at if own is None else max(expires_at, own.expires_at),
    }


def _lease(row: Mapping[str, Any]) -> GpuLease:
    return GpuLease(
        gpu_uuid=row["gpu_uuid"],
        node_id=row["node_id"],
        holder=row["holder"],
        memory_bytes=row["memory_bytes"],
        fence=row["fence"],
        ttl_s=row["ttl_s"],
        renewed_at=from_us(row["renewed_at"]),
        expires_at=from_us(row["expires_at"]),
    )
