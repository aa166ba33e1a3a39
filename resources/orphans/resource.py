"""Every reader of what is left behind, as one Dagster resource."""

from pathlib import Path

import dagster as dg

from fleet.ports.orphan_reader import OrphanReader
from resources.orphans.agent_logs import AgentLogs
from resources.orphans.index_generations import IndexGenerations
from resources.orphans.lake_partitions import LakePartitions
from resources.orphans.retired_states import RetiredStates
from resources.orphans.undeclared_backups import UndeclaredBackups
from resources.vectors.network_indexes import NetworkIndexes


def build_orphan_readers(log_dir: Path | None) -> dg.ResourceDefinition:
    """The readers; nothing is read before they are asked, but whether there is a vector store.

    Args:
        log_dir: where nodes of this machine keep the logs of their agents; None: elsewhere.
    """

    @dg.resource(
        required_resource_keys={
            "control_store",
            "region_vaults",
            "lake",
            "fleet_declaration",
            "network_indexes",
        },
        description="Finds states, backups, logs, rows and indexes that belong to nothing.",
    )
    def orphan_readers_resource(context: dg.InitResourceContext) -> tuple[OrphanReader, ...]:
        vaults, store = context.resources.region_vaults, context.resources.control_store
        names = {*context.resources.fleet_declaration.regions, *vaults.declaration.vault_networks}
        return (
            RetiredStates(store),
            UndeclaredBackups(vaults),
            LakePartitions(context.resources.lake, names),
            *([] if log_dir is None else [AgentLogs(log_dir, store)]),
            *index_readers(context.resources.network_indexes),
        )

    return orphan_readers_resource


def index_readers(indexes: NetworkIndexes) -> list[IndexGenerations]:
    """The reader of generations, which also removes them, where anything was ever embedded."""
    return [IndexGenerations(indexes.objects, indexes.store)] if indexes.exists() else []
