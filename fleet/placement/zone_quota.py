"""How many agents of a service each zone gets: water filling, skew at most one if room allows."""

from __future__ import annotations

from collections.abc import Sequence


def share_over_zones(present: Sequence[int], room: Sequence[int], wanted: int) -> list[int]:
    """Share agents over zones so that the emptiest zones rise first, together.

    No other way of placing as many has a fuller fullest zone, or a lower lowest one. Where fewer
    are left than there are lowest zones, those with the most room get them, then the first.

    Args:
        present: agents of the service in each zone.
        room: how many more each zone can take.
        wanted: agents to share; what does not fit anywhere is left out.

    Returns:
        How many go to each zone, in the same order; their sum is `wanted` or all the room.
    """
    shares = [0] * len(present)
    left = min(wanted, sum(room))
    while left:
        level = [here + share for here, share in zip(present, shares, strict=True)]
        free = [zone for zone in range(len(shares)) if shares[zone] < room[zone]]
        low = min(level[zone] for zone in free)
        lowest = [zone for zone in free if level[zone] == low]
        higher = [level[zone] - low for zone in free if level[zone] > low]
        step = min(left // len(lowest), *(room[zone] - shares[zone] for zone in lowest), *higher)
        if step == 0:
            lowest.sort(key=lambda zone: (shares[zone] - room[zone], zone))
            lowest, step = lowest[:left], 1
        for zone in lowest:
            shares[zone] += step
        left -= step * len(lowest)
    return shares
