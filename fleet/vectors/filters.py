"""How a search under a filter is done: exactly on what passes, or by the index with a mask."""

from __future__ import annotations

from typing import NamedTuple

from fleet.vectors.records import VectorPolicy

EXACT_BELOW = 20_000
"""Fewer notes are compared one by one in about 2 ms, whatever share of all they are."""


class FilterVerdict(NamedTuple):
    """How to search, and why."""

    exact: bool
    reason: str


def decide_filter(passed: int, live: int, policy: VectorPolicy, *, is_exact: bool) -> FilterVerdict:
    """Say how to search among the notes that pass a filter.

    An index finds fewer of the true neighbours the fewer notes pass (0.95 falls to 0.83 at one in
    a thousand), while comparing these one by one gets cheaper.

    Args:
        passed: notes that pass.
        live: notes that there are.
        policy: the share below which search is exact.
        is_exact: the index itself compares every vector.
    """
    share = passed / live if live else 0.0
    if is_exact:
        return FilterVerdict(True, f"{passed} of {live} notes pass; the index is exact")
    if passed < live and (share < policy.exact_share_max or passed < EXACT_BELOW):
        return FilterVerdict(True, f"{passed} of {live} notes pass ({share:.1%}): compared singly")
    return FilterVerdict(False, f"{passed} of {live} notes pass ({share:.1%}): index with a mask")
