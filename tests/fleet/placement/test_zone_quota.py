"""Shares of zones against giving agents away one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.placement.zone_quota import share_over_zones


def one_by_one(present: list[int], room: list[int], wanted: int) -> list[int]:
    """The dumb twin: each agent to the emptiest zone that has room."""
    level, left = list(present), list(room)
    for _ in range(wanted):
        able = [zone for zone in range(len(level)) if left[zone] > 0]
        if able:
            zone = min(able, key=lambda one: level[one])
            level[zone] += 1
            left[zone] -= 1
    return sorted(level)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6), st.integers(0, 60))
def test_zones_end_as_full_as_when_each_agent_goes_to_the_emptiest(
    zones: list[tuple[int, int]], wanted: int
) -> None:
    """Same levels, all placed that can be, nobody over the room."""
    present, room = [one for one, _ in zones], [one for _, one in zones]
    shares = share_over_zones(present, room, wanted)
    assert sum(shares) == min(wanted, sum(room))
    assert all(0 <= share <= most for share, most in zip(shares, room, strict=True))
    level = sorted(had + share for had, share in zip(present, shares, strict=True))
    assert level == one_by_one(present, room, wanted)


def test_the_rest_goes_where_there_is_most_room() -> None:
    """Two agents for three zones alike."""
    assert share_over_zones([0, 0, 0], [1, 9, 5], 2) == [0, 1, 1]
