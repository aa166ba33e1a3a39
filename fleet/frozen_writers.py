"""Which frozen process keeps everybody from writing, and for how long it must have done so.

A store with one write lock (SQLite) is at the mercy of whoever holds it: frozen inside a commit, a
supervisor stops the writes of all others, whose leases run out, so that all agents stop within one
lease. Nothing can be moved either: a move is a write, and so is the controller's own lease.

So this rule stands outside of the failover decision, and asks for nothing but the end of a process:

* the kernel itself names it as the holder of the lock, and as stopped (state T);
* the store refuses writes as locked, at every look;
* it has used no processor time between the first of these looks and the last;
* it is the supervisor of a known boot of a node; nobody else is ever named.

Ending a process makes no second copy of anything: it needs no leader, no votes and no epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

LOOKS_MIN = 3
"""Looks that must agree, however long the first and the last are apart."""

_HOLD_SHARE = 0.3
_HOLD_MAX_S = 5.0


def hold_limit_s(lease_ttl_s: float) -> float:
    """How long a frozen writer is waited for: so short that no other node loses its lease.

    A node gives up at 0.8 of its lease; the last renewal may be a heartbeat (at most half a lease,
    usually a fifth) before the freeze.
    """
    return min(_HOLD_MAX_S, _HOLD_SHARE * lease_ttl_s)


class FrozenSighting(NamedTuple):
    """One look at a stopped process that holds the write lock while writes are refused."""

    node_id: str
    boot_id: str
    pid: int
    start_ticks: int
    cpu_s: float
    """Processor time that it has used; one that has run since is not frozen."""


class _Hold(NamedTuple):
    sighting: FrozenSighting
    first_s: float
    looks: int


class FrozenMemory(NamedTuple):
    """What is remembered between two looks."""

    looked_s: float = float("-inf")
    holds: Mapping[str, _Hold] = {}


class FrozenWriter(NamedTuple):
    """A boot that is to be ended."""

    sighting: FrozenSighting
    held_s: float
    looks: int


def judge_frozen_writers(
    sightings: Iterable[FrozenSighting], memory: FrozenMemory, now_s: float, limit_s: float
) -> tuple[FrozenMemory, list[FrozenWriter]]:
    """Carry what was seen through one look.

    Args:
        sightings: of this look; a process that is not among them is forgotten.
        memory: of the look before.
        now_s: monotonic clock of the watcher.
        limit_s: how long a process must have held the lock. A watcher that has not looked for so
            long was paused itself, and begins anew.

    Returns:
        What to remember, and the boots that are to be ended, ordered by node_id.
    """
    known = memory.holds if 0.0 <= now_s - memory.looked_s < limit_s else {}
    holds = {}
    for one in sightings:
        before = known.get(one.node_id)
        if before is None or before.sighting != one:
            before = _Hold(one, now_s, 0)
        holds[one.node_id] = before._replace(looks=before.looks + 1)
    due = [
        FrozenWriter(hold.sighting, now_s - hold.first_s, hold.looks)
        for _, hold in sorted(holds.items())
        if now_s - hold.first_s >= limit_s and hold.looks >= LOOKS_MIN
    ]
    return FrozenMemory(now_s, holds), due
