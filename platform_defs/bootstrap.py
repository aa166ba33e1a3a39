"""What a new Dagster instance must know before its first run.

The limit of a single pool cannot stand in dagster.yaml: it is a row in the instance's storage.
"""

from collections.abc import Mapping

from dagster import DagsterInstance

from ops.pools import POOL_LIMITS


def apply_pool_limits(
    instance: DagsterInstance, limits: Mapping[str, int] = POOL_LIMITS
) -> dict[str, int]:
    """Set the limit of every pool of the platform; others stay as they are. Safe to repeat.

    Returns:
        The limits that were changed.
    """
    storage = instance.event_log_storage
    present = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    changed = {name: limit for name, limit in limits.items() if present.get(name) != limit}
    for name, limit in changed.items():
        storage.set_concurrency_slots(name, limit)
    return changed
