"""Every reader of what is left behind, as one Dagster resource."""

from pathlib import Path

import dagster as dg

from fleet.ports.orphan_reader import OrphanReader
from resources.orphans.agent_logs import AgentLogs
from resources.orphans.lake_partitions import LakePartitions
from resources.orphans.retired_states import RetiredStates
from resources.orphans.undeclared_backups import UndeclaredBackups


def build_orphan_readers(log_dir: Path | None) -> dg.ResourceDefinition:
    """The readers; nothing is read before they are asked.

    Args:
        log_dir: where nodes of this machine keep the logs of their agents; None: elsewhere.
    """

    @dg.resource(
        required_resource_keys={"control_store", "region_vaults", "lake", "fleet_declaration"},
        description="Finds states, backups, logs and rows that belong to nothing any more.",
    )
    def orphan_readers_resource(context: dg.InitResourceContext) -> tuple[OrphanReader, ...]:
        vaults, store = context.resources.region_vaults, context.resources.control_store
        names = {*context.resources.fleet_declaration.regions, *vaults.declaration.vault_networks}
        return (
            RetiredStates(store),
            UndeclaredBackups(vaults),
            LakePartitions(context.resources.lake, names),
            *([] if log_dir is None else [AgentLogs(log_dir, store)]),
        )

    return orphan_readers_resource
