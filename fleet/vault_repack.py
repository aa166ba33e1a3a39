"""Which packs are worth writing anew: mostly dead ones, and crowds of small old ones.

Pure. A repack trades one copy of the live bytes for the space of the dead ones, so it is bounded
per run, and a pack that nothing can be joined with is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple

from fleet.vault_pack import PACK_TARGET_BYTES


class RepackPolicy(NamedTuple):
    """When a pack is repacked, and how much one run may move."""

    live_share_below: float = 0.5
    """Packs with a smaller live share are repacked whatever their age."""
    small_bytes: int = 4 * 1024 * 1024
    small_age: timedelta = timedelta(days=7)
    """Packs below `small_bytes` and older than this are joined with others."""
    vault_share_max: float = 0.1
    """Bytes written by one run, as a share of the packs' bytes; at least one pack's target."""


class StoredPack(NamedTuple):
    """A pack as listed, and how much of it somebody still needs."""

    sha256: str
    owner: str
    size_bytes: int
    live_bytes: int
    """Sealed bytes of the frames that a restorable snapshot names."""
    age_s: float
    """By the store's own clock."""


class RepackPlan(NamedTuple):
    """Old packs by the new pack that they go into together, and why."""

    groups: tuple[tuple[str, ...], ...]
    reasons: Mapping[str, str]


def plan_repack(packs: Iterable[StoredPack], policy: RepackPolicy | None = None) -> RepackPlan:
    """Choose packs, least live first, and join them into packs of the target size.

    Packs without any live frame are left to gc. Each old pack goes into one new pack as a whole,
    because a map record leads to one place.

    Args:
        packs: every pack of the network; order does not matter.
        policy: None for the shipped one.
    """
    rule = policy or RepackPolicy()
    listed = sorted(packs, key=lambda one: (one.live_bytes / max(1, one.size_bytes), one.sha256))
    budget = max(PACK_TARGET_BYTES, rule.vault_share_max * sum(one.size_bytes for one in listed))
    reasons: dict[str, str] = {}
    chosen: list[StoredPack] = []
    for pack in listed:
        reason = _reason(pack, rule)
        if reason is not None and pack.live_bytes <= budget:
            budget -= pack.live_bytes
            chosen.append(pack)
            reasons[pack.sha256] = reason
    groups = _joined(chosen)
    wasted = [g for g in groups if len(g) == 1 and not _is_sparse(g[0], rule)]
    for (alone,) in wasted:
        del reasons[alone.sha256]
    kept = (tuple(one.sha256 for one in group) for group in groups if group not in wasted)
    return RepackPlan(tuple(kept), reasons)


def _reason(pack: StoredPack, rule: RepackPolicy) -> str | None:
    if pack.live_bytes == 0:
        return None
    if _is_sparse(pack, rule):
        return f"{pack.live_bytes} of {pack.size_bytes} bytes are live"
    if pack.size_bytes < rule.small_bytes and pack.age_s > rule.small_age.total_seconds():
        return f"small ({pack.size_bytes} bytes) and {pack.age_s / 86400:.0f} days old"
    return None


def _is_sparse(pack: StoredPack, rule: RepackPolicy) -> bool:
    return pack.live_bytes < pack.size_bytes * rule.live_share_below


def _joined(packs: Iterable[StoredPack]) -> list[list[StoredPack]]:
    """In order, into groups whose live bytes fit one pack."""
    groups: list[list[StoredPack]] = []
    size = 0
    for pack in packs:
        if not groups or size + pack.live_bytes > PACK_TARGET_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(pack)
        size += pack.live_bytes
    return groups
