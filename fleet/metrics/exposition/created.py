"""Since when series count: what the `_created` series of OpenMetrics say.

Such a series is no series of its own. It names the moment at which its counter, or all buckets,
sum and count of its histogram or summary, began at zero; see `fleet.metrics.scraped_target` for
the sample that is made of it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from fleet.metrics.exposition.lines import Pairs

if TYPE_CHECKING:
    from fleet.metrics.samples import Int64Array


class CreatedGroups:
    """Which series begin together; a group is a family with one set of labels, `le` left out."""

    def __init__(self, first: int) -> None:
        """Number groups downwards from a negative number."""
        self._next = first
        self._groups: dict[tuple[str, Pairs], int] = {}
        self._members: dict[int, list[int]] = {}

    def group(self, family: str, pairs: Pairs) -> int:
        """Number of a group, the same for each of its series."""
        key = family, tuple(sorted(pair for pair in pairs if pair[0] != "le"))
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = self._next
            self._next -= 1
        return found

    def join(self, family: str, pairs: Pairs, series: int) -> None:
        """Note that a series belongs to the group."""
        self._members.setdefault(self.group(family, pairs), []).append(series)

    def forget_except(self, series: Container[int]) -> None:
        """Drop the groups of which no series is left."""
        kept = {
            group: [one for one in members if one in series]
            for group, members in self._members.items()
        }
        self._members = {group: members for group, members in kept.items() if members}
        self._groups = {key: one for key, one in self._groups.items() if one in self._members}

    def columns(
        self, created: Iterable[tuple[int, int]], exposed: set[int]
    ) -> tuple[Int64Array, Int64Array]:
        """Series and the time at which they began.

        Args:
            created: groups and their times in milliseconds.
            exposed: series that the body has; the others are left out.
        """
        import numpy as np

        times: dict[int, int] = {}
        for group, ts_ms in created:
            times.update(dict.fromkeys(exposed.intersection(self._members.get(group, ())), ts_ms))
        ids = np.fromiter(times.keys(), np.int64, len(times))
        return ids, np.fromiter(times.values(), np.int64, len(times))
