"""What a new Dagster instance must know before its first run.

The limit of a single pool cannot stand in dagster.yaml: it is a row in the instance's storage.
"""

from collections.abc import Mapping

from dagster import DagsterInstance

from fleet.errors import InvalidSettingsError
from ops.pools import POOL_LIMITS, VECTOR_BUILDS
from platform_defs.settings import Settings, load_settings


def pool_limits(settings: Settings) -> dict[str, int]:
    """The limit of every pool, where settings have a say in it."""
    return {**POOL_LIMITS, VECTOR_BUILDS: settings.vectors.builds_at_once}


def declared_pool_limits() -> Mapping[str, int]:
    """`pool_limits` of the settings file; settings that are wrong are told by the definitions."""
    try:
        return pool_limits(load_settings())
    except InvalidSettingsError:
        return POOL_LIMITS


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
