"""What the settings declare of failover, as the core takes it. Imports no Dagster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet.failover.policy import FailBackMode, FailoverPolicy, Mode, RegionMode
from fleet.failover.profiles import profile
from fleet.failover_declaration import FailoverDeclaration
from fleet.probing import PROBING_PROFILES
from platform_defs.settings import Settings
from platform_defs.settings_failover import PROFILE, FailoverSettings


def declared_failover(settings: Settings) -> FailoverDeclaration:
    """Policy, targets and limits; a region without `failover_to` may go to all others."""
    names = [region.name for region in settings.regions]
    return FailoverDeclaration(
        policy=declared_policy(settings.failover, settings.node.lease_ttl_s),
        targets={
            region.name: region.failover_to or tuple(one for one in names if one != region.name)
            for region in settings.regions
        },
        head_room=settings.failover.head_room_percent / 100,
        ready_timeout_s=settings.failover.ready_timeout_s,
        enabled=settings.failover.enabled,
        keep_history_days=settings.failover.keep_history_days,
        probing=PROBING_PROFILES[settings.failover.profile],
    )


def declared_policy(failover: FailoverSettings, lease_ttl_s: float) -> FailoverPolicy:
    """The profile with what the settings change of it.

    Args:
        failover: the section.
        lease_ttl_s: of a node's lease, for nodes that do not say their own.
    """
    changes: dict[str, Any] = {"lease_ttl_s": lease_ttl_s}
    if failover.node_mode != PROFILE:
        changes["node_mode"] = Mode(failover.node_mode)
    if failover.region_mode != PROFILE:
        changes["region_mode"] = RegionMode(failover.region_mode)
    if failover.fail_back_mode != PROFILE:
        changes["fail_back_mode"] = FailBackMode(failover.fail_back_mode)
    return replace(profile(failover.profile), **changes)
