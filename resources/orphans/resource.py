"""Every reader of what is left behind, as one Dagster resource."""

import dagster as dg

from fleet.ports.orphan_reader import OrphanReader
from resources.orphans.lake_partitions import LakePartitions
from resources.orphans.retired_states import RetiredStates
from resources.orphans.undeclared_backups import UndeclaredBackups


@dg.resource(
    required_resource_keys={"control_store", "region_vaults", "lake", "fleet_declaration"},
    description="Finds states, backups and rows that belong to nothing any more.",
)
def orphan_readers_resource(context: dg.InitResourceContext) -> tuple[OrphanReader, ...]:
    """The readers; nothing is read before they are asked."""
    vaults = context.resources.region_vaults
    names = {*context.resources.fleet_declaration.regions, *vaults.declaration.vault_networks}
    return (
        RetiredStates(context.resources.control_store),
        UndeclaredBackups(vaults),
        LakePartitions(context.resources.lake, names),
    )
