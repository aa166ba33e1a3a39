"""Single states brought back from the newest verified backup that is left: failover's last resort.

The regions that are lost are not asked. The rest is looked at as a disaster drill does: structure
and evidence of every copy now, the youngest whole one first, its journal with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from fleet.drill_plan import Candidate, RegionCopy, plan_drill
from fleet.errors import StateroomError
from fleet.moments import moment_of
from fleet.ports.control_store import ControlStore
from fleet.ports.state_rescue import RescuedState
from resources.vault.drills.phase_timer import in_words
from resources.vault.drills.region_copies import copy_of, manifest_of
from resources.vault.network import NetworkVault
from resources.vault.packs.arrow_columns import moments_as_numbers
from resources.vault.packs.manifest import Manifest, of_kinds, select_items
from resources.vault.region_vaults import RegionVaults
from resources.vault.restores.restore import ControlStoreTarget, RestoreResult, restore

_TRIES_MAX = 3
"""Copies that are tried: somebody waits for these agents."""


class VaultStateRescue:
    """The port `StateRescue` on the vaults of all regions.

    Args:
        vaults: of all regions.
        store: takes the states.
    """

    def __init__(self, vaults: RegionVaults, store: ControlStore) -> None:
        """Open nothing yet."""
        self._vaults, self._store = vaults, store

    def rescue_states(
        self, network_id: str, agent_ids: Sequence[str], lost_regions: Collection[str]
    ) -> list[RescuedState]:
        """See `fleet.ports.state_rescue.StateRescue`."""
        left = [one for one in self._vaults.declaration.regions if one not in lost_regions]
        opened: dict[str, NetworkVault] = {}
        copies = []
        for region in left:
            try:
                opened[region] = self._vaults.network(region, network_id)
                copies.append(copy_of(opened[region], region))
            except (StateroomError, OSError) as error:
                copies.append(RegionCopy(region, (), in_words(error)))
        plan = plan_drill(copies, self._vaults.clock.now())
        problems = [f"{one.subject}: {one.reason}" for one in plan.choices if not one.taken]
        for one in plan.candidates[:_TRIES_MAX]:
            try:
                return self._restore(opened[one.region], one, agent_ids)
            except (StateroomError, OSError) as error:
                problems.append(f"{one.region}/{one.snapshot_id}: {in_words(error)}")
        why = "no backup can be restored: " + ("; ".join(problems) or "no region is left")
        return [RescuedState(one, 0, None, "", why) for one in agent_ids]

    def _restore(
        self, vault: NetworkVault, copy: Candidate, agent_ids: Sequence[str]
    ) -> list[RescuedState]:
        held = _held(manifest_of(vault, copy), agent_ids)
        if not held:
            return [RescuedState(one, 0, None, "", "") for one in agent_ids]
        done = restore(
            vault,
            ControlStoreTarget(self._store),
            snapshot_id=None if copy.with_journal else copy.snapshot_id,
            agent_ids=sorted(held),
            newer="overwrite",
        )
        kept = _kept_out(done)
        source = f"{copy.region}/{copy.snapshot_id}" + (" and journal" if copy.with_journal else "")
        return [
            RescuedState(one, 0, None, "", kept.get(one, ""))
            if one not in held or one in kept
            else RescuedState(one, *held[one], source, "")
            for one in agent_ids
        ]


def _held(manifest: Manifest, agent_ids: Sequence[str]) -> dict[str, tuple[int, datetime]]:
    """Version and time of those of these agents that a copy holds."""
    rows = select_items(of_kinds(manifest, states=True).table, agent_ids)
    rows = moments_as_numbers(rows, "updated_at")
    columns = (rows[name].to_pylist() for name in ("item_id", "version", "updated_at"))
    return {one: (version, moment_of(us)) for one, version, us in zip(*columns, strict=True)}


def _kept_out(done: RestoreResult) -> dict[str, str]:
    """Agents that did not come back, and why."""
    return {str(one): str(why) for one, why in (*done.refused, *done.missing)}
