"""What a restore test (V4) looks at: which snapshots, and which of their agents are loaded.

The newest snapshot is the one that a disaster would need; a random older one finds what only age
brings: a pack that was collected too early, a key that was rotated away, a format that was changed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple


class TestedSnapshot(NamedTuple):
    """A snapshot, and why it is restored."""

    snapshot_id: str
    taken_at: datetime
    reason: str


class LoadedState(NamedTuple):
    """What an agent must see of its state once it is restored."""

    agent_id: str
    version: int
    digest: str
    """SHA-256, hexadecimal."""
    size_bytes: int


def select_tested_snapshots(
    live: Iterable[tuple[str, datetime]], seed: int
) -> tuple[TestedSnapshot, ...]:
    """The newest snapshot and one older one by chance; the order of `live` does not matter.

    Args:
        live: snapshot id and moment of the cut of every live snapshot.
        seed: of the chance; the same seed chooses the same snapshot again.

    Returns:
        None, one or two, the newest first.
    """
    ordered = sorted(live, key=lambda one: (one[1], one[0]), reverse=True)
    if not ordered:
        return ()
    chosen = [TestedSnapshot(*ordered[0], "the newest")]
    if older := ordered[1:]:
        one = random.Random(seed).choice(older)
        chosen.append(TestedSnapshot(*one, f"one of {len(older)} older ones, by seed {seed}"))
    return tuple(chosen)


def select_loaded_agents(
    states: Sequence[LoadedState], count: int, seed: int
) -> tuple[LoadedState, ...]:
    """The largest and the smallest state, and others by chance: at most `count`, by agent id.

    Args:
        states: of a snapshot.
        count: how many; 0 for none.
        seed: of the chance.
    """
    if count >= len(states):
        return tuple(sorted(states))
    by_size = sorted(states, key=lambda one: (one.size_bytes, one.agent_id))
    edges = [by_size[-1], by_size[0]][:count]
    others = sorted(set(states).difference(edges))
    chance = random.Random(seed)
    return tuple(sorted([*edges, *chance.sample(others, max(0, count - len(edges)))]))
