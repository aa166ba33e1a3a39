"""Which part of a vault a verification looks at today, so that a week of them looks at all.

Pure: the day and the seed are arguments; the same arguments choose the same part everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import date

from fleet.errors import InvalidInputError

SLICES = 7
"""Parts of a vault; one a day covers it in a week."""


def slice_of(day: date) -> int:
    """The part to re-hash on a day; any `SLICES` consecutive days name each part once."""
    return day.toordinal() % SLICES


def part_of(sha256: str) -> int:
    """The part that an object belongs to, by its hash."""
    return int(sha256[:8], 16) % SLICES


def is_in_parts(sha256: str, parts: Collection[int] | None) -> bool:
    """Whether an object belongs to one of some parts (None: all do)."""
    return parts is None or part_of(sha256) in parts


def select_snapshots(live: Sequence[str], seed: int) -> tuple[str, ...]:
    """The newest snapshot and one random older one.

    Args:
        live: ids in the order of commit.
        seed: chooses the older one.
    """
    if len(live) < 2:
        return tuple(live)
    return (live[-1], random.Random(seed).choice(live[:-1]))


def sample_size(items: int, share: float) -> int:
    """How many of the items to look at: at least one, if there is any.

    Raises:
        InvalidInputError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InvalidInputError("sample_share", share, "more than 0, at most 1")
    return min(items, max(1, round(items * share)))
