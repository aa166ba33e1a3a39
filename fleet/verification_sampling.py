"""Which part of a vault a verification looks at today, so that a week of them looks at all.

Pure: the day and the seed are arguments; the same arguments choose the same part everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date

from fleet.errors import InvalidInputError

SLICES = 7
"""Parts of a vault; one a day covers it in a week."""


def slice_of(day: date) -> int:
    """The part to re-hash on a day; any `SLICES` consecutive days name each part once."""
    return day.toordinal() % SLICES


def is_in_slice(sha256: str, part: int | None) -> bool:
    """Whether an object belongs to a part, by its hash (None: all do)."""
    return part is None or int(sha256[:8], 16) % SLICES == part


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
