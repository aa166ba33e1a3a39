"""A consistent hash ring with bounded loads: equal keys choose equal names, none chosen too often.

A name that has no room left is skipped over, so its keys pass to the next one; adding or removing a
name moves few keys. Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded
loads" (2016).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from hashlib import blake2b

_MASK = (1 << 64) - 1


def hash64(text: str) -> int:
    """A number from 0 to 2^64 - 1, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def rendezvous_weight(key: int, candidate: int) -> int:
    """How much a key wants a candidate, both given by their `hash64`; the highest weight wins.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998), with
    the finisher of SplitMix64 (Steele, Lea, Flood 2014) as the mixing function.
    """
    mixed = (key ^ (candidate * 0x9E3779B97F4A7C15)) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


class HashRing:
    """Names on a ring, each of which may be taken `capacity` times."""

    def __init__(self, names: Iterable[str], capacity: int) -> None:
        """Place each name at its hash; names are unique, `capacity` is at least 1."""
        placed = sorted((hash64(name), name) for name in names)
        self._positions = [position for position, _ in placed]
        self._names = [name for _, name in placed]
        self._left = [capacity] * len(placed)
        self._with_room = len(placed)
        self._next = list(range(len(placed)))
        """Of a name without room: where to look instead; of any other: itself."""

    def take(self, key: int, banned: Collection[str]) -> str | None:
        """The first name at or after `key` that has room and is not banned; it has less room then.

        Returns:
            None when there is no such name.
        """
        if not self._with_room:
            return None
        size = len(self._names)
        index = first = self._find(bisect_left(self._positions, key) % size)
        while self._names[index] in banned:
            index = self._find((index + 1) % size)
            if index == first:
                return None
        self._left[index] -= 1
        if not self._left[index]:
            self._with_room -= 1
            if self._with_room:
                self._next[index] = (index + 1) % size
        return self._names[index]

    def _find(self, index: int) -> int:
        """The first with room at or after `index`; paths are shortened, so this is quick."""
        passed = []
        while self._next[index] != index:
            passed.append(index)
            index = self._next[index]
        for one in passed:
            self._next[one] = index
        return index
