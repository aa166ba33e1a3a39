"""A ring with bounded loads: what is chosen is chosen evenly, never too often, and stays chosen."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fleet.hash_ring import HashRing, hash64, rendezvous_weight

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


class TwinRing:
    """The same by walking: obviously right, and slow."""

    def __init__(self, names: list[str], capacity: int) -> None:
        """Every name at its hash."""
        self.places = sorted((hash64(name), name) for name in names)
        self.left = dict.fromkeys(names, capacity)

    def take(self, key: int, banned: set[str]) -> str | None:
        """The first at or after the key, around the ring."""
        ahead = [name for place, name in self.places if place >= key]
        behind = [name for place, name in self.places if place < key]
        for name in ahead + behind:
            if self.left[name] and name not in banned:
                self.left[name] -= 1
                return name
        return None


@given(NAMES, st.integers(1, 3), st.data())
def test_the_ring_takes_what_a_walk_around_it_takes(
    names: list[str], capacity: int, data: st.DataObject
) -> None:
    """Until nothing is left, with any bans."""
    ring, twin = HashRing(names, capacity), TwinRing(names, capacity)
    for _ in range(len(names) * capacity + 2):
        key = data.draw(st.integers(0, 2**64 - 1))
        banned = data.draw(st.sets(st.sampled_from(names)))
        assert ring.take(key, banned) == twin.take(key, banned)


@given(NAMES, st.integers(1, 3))
def test_no_name_is_taken_more_often_than_it_has_room(names: list[str], capacity: int) -> None:
    """And all that room is used."""
    ring = HashRing(names, capacity)
    taken = [ring.take(hash64(str(key)), ()) for key in range(len(names) * capacity)]
    assert Counter(taken) == dict.fromkeys(names, capacity)
    assert ring.take(0, ()) is None


def test_hashes_are_the_same_in_every_process_and_version() -> None:
    """A fleet whose nodes hash differently would probe by different plans."""
    assert hash64("node-1") == 0x8F57B755BCA4EB29
    assert rendezvous_weight(hash64("node-1"), hash64("eu")) == 0x8E266A46BC7ED634


def test_rendezvous_weights_spread_keys_evenly() -> None:
    """Each of four candidates wins a quarter of 4,000 keys, within five standard deviations."""
    candidates = [hash64(name) for name in ("eu", "us", "ap", "sa")]
    wins = Counter(
        max(candidates, key=lambda one: rendezvous_weight(hash64(f"node-{number}"), one))
        for number in range(4000)
    )
    assert all(abs(wins[one] - 1000) < 5 * 27.4 for one in candidates)
