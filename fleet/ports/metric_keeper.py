"""What runs do to a metric store: make rollups, merge, let go, verify."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fleet.metrics.levels import Level
from fleet.metrics.store_facts import Damage, PartitionMade, StoreFacts, Upkept


class Verified(NamedTuple):
    """A look at stored bytes."""

    objects: int
    damages: tuple[Damage, ...]


class MetricKeeper(Protocol):
    """Upkeep of a metric store; each call finds nothing to do when it is repeated."""

    def facts(self) -> StoreFacts:
        """What the store is like now.

        Raises:
            LakeUnavailableError: it cannot be read.
        """
        ...

    def roll_up(self, level: Level, partition_ms: int) -> PartitionMade:
        """Make the dirty shards of a partition anew, whole; committed by one entry of the log.

        Raises:
            CorruptObjectError: a part that it is made from is damaged.
            LakeUnavailableError: nothing is committed.
        """
        ...

    def compact(self, limit: int) -> int:
        """Merge the small parts of at most `limit` hours, and of the catalogue; how many were."""
        ...

    def retain(self) -> Upkept:
        """Let go what the policy no longer keeps, as far as the next level is built."""
        ...

    def verify(self, limit: int, offset: int) -> Verified:
        """Read some live objects anew and compare their bytes; a damaged rollup becomes dirty."""
        ...
