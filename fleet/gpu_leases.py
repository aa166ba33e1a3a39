"""Leases of GPU memory: who may use how much of which GPU, until when, under which fence.

Invariants, kept by every store: the memory of a GPU's live leases never passes what its wishes said
there is, less the reserve; the fence of a GPU rises with each new lease of it and never falls.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError, LeaseLostError
from fleet.gpu_memory import RESERVE_BYTES, available_bytes, gib
from fleet.names import validate_text

TTL_MAX_S = 86_400.0
"""Longest time to live: who works longer renews."""

DEFAULT_TTL_S = 60.0
"""After a holder's death its memory is given out again so much later."""

DEFAULT_RENEW_EVERY_S = 10.0
"""Six tries until a lease runs out."""


class GpuLease(NamedTuple):
    """A lease as the store holds it; times are the store's."""

    gpu_uuid: str
    node_id: str
    """Machine that the GPU is in, as its holder names it."""
    holder: str
    """Who computes; one lease per holder and GPU."""
    memory_bytes: int
    fence: int
    """Rises with each new lease of this GPU. Fences of two GPUs say nothing of each other."""
    ttl_s: float
    renewed_at: datetime
    expires_at: datetime


class GpuLeaseWish(NamedTuple):
    """A request for memory of one GPU."""

    gpu_uuid: str
    node_id: str
    holder: str
    memory_bytes: int
    total_bytes: int
    """Of the GPU, as its driver says."""
    used_bytes: int = 0
    """In use on it now, by whomever."""
    ttl_s: float = DEFAULT_TTL_S
    reserve_bytes: int = RESERVE_BYTES


class GpuLeaseResult(NamedTuple):
    """Outcome of a request."""

    lease: GpuLease | None
    reason: str
    """Why there is none; empty when there is."""


class GpuFallbacks(NamedTuple):
    """How often work fell back from a machine's GPUs to its processor."""

    node_id: str
    reason: str
    """`memory`, `lost` or `other`."""
    fallbacks: int


def validate_wish(wish: GpuLeaseWish) -> GpuLeaseWish:
    """Return the wish unchanged when a store can hold it.

    Raises:
        InvalidInputError: names the field.
    """
    for name in ("gpu_uuid", "node_id", "holder"):
        value = getattr(wish, name)
        if not value:
            raise InvalidInputError(f"gpu lease {name}", value, "a text that is not empty")
        validate_text(f"gpu lease {name}", value)
    for name, least in (
        ("memory_bytes", 1),
        ("total_bytes", 1),
        ("used_bytes", 0),
        ("reserve_bytes", 0),
    ):
        if not least <= getattr(wish, name) < 2**63:
            raise InvalidInputError(f"gpu lease {name}", getattr(wish, name), f"{least} or more")
    if not (math.isfinite(wish.ttl_s) and 0.0 < wish.ttl_s <= TTL_MAX_S):
        allowed = f"seconds above 0, at most {TTL_MAX_S:g}"
        raise InvalidInputError("gpu lease ttl_s", wish.ttl_s, allowed)
    return wish


def refuse_wish(wish: GpuLeaseWish, leased_bytes: int) -> str:
    """Why a wish cannot be granted; empty when it can.

    Args:
        wish: valid.
        leased_bytes: of all live leases of others on the same GPU, at this moment.
    """
    available = available_bytes(wish.total_bytes, wish.used_bytes, leased_bytes, wish.reserve_bytes)
    if wish.memory_bytes <= available:
        return ""
    return (
        f"{wish.gpu_uuid} has {gib(available)} GiB available, {wish.holder} wants "
        f"{gib(wish.memory_bytes)}: of {gib(wish.total_bytes)} GiB, {gib(leased_bytes)} are "
        f"leased, {gib(wish.used_bytes)} in use, {gib(wish.reserve_bytes)} kept free"
    )


def lost_lease(lease: GpuLease) -> LeaseLostError:
    """The error of a holder that acts under a lease which is not its own any more."""
    return LeaseLostError(
        f"{lease.holder} does not hold {gib(lease.memory_bytes)} GiB of {lease.gpu_uuid} any more "
        f"(fence {lease.fence}): the lease ran out, and was given up or taken away",
        hint="Stop computing on this GPU, publish nothing, and ask for a new lease.",
    )
