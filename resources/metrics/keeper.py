"""The `MetricKeeper` port: upkeep of an `ObjectMetricStore` under a policy."""

from __future__ import annotations

from fleet.metrics.levels import Level
from fleet.metrics.rollup_plan import MetricPolicy
from fleet.metrics.store_facts import PartitionMade, StoreFacts, Upkept, facts_of
from fleet.ports.metric_keeper import Verified
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.rolling import roll_up_partition
from resources.metrics.upkeep import compact_hours, compact_series, retain, verify_objects


class ObjectMetricKeeper:
    """See `fleet.ports.metric_keeper`.

    Args:
        store: what is kept.
        policy: how long.
    """

    def __init__(self, store: ObjectMetricStore, policy: MetricPolicy) -> None:
        """Nothing is touched yet."""
        self._store = store
        self._policy = policy

    def facts(self) -> StoreFacts:
        """See the port."""
        with self._store.log.reading() as state:
            return facts_of(state, self._store.open_from_ms())

    def roll_up(self, level: Level, partition_ms: int) -> PartitionMade:
        """See the port."""
        return roll_up_partition(self._store, level, partition_ms)

    def compact(self, limit: int) -> int:
        """See the port."""
        return len(compact_hours(self._store, limit)) + compact_series(self._store)

    def retain(self) -> Upkept:
        """See the port."""
        return retain(self._store, self._policy)

    def verify(self, limit: int, offset: int) -> Verified:
        """See the port."""
        return verify_objects(self._store, limit, offset)
