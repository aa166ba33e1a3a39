"""Importing this makes the process a warm parent of run workers; see `warm_workers`.

Python's fork server imports it by name, and nothing else does.
"""

from __future__ import annotations

from importlib import import_module

from platform_defs.warm_workers import become_warm_parent

MODULES = (
    # what Dagster imports before the first step of a run
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dagster._grpc.impl",
    "platform_defs.run_coordinator",
    # what the steps of a failover import
    "resources.control_store.opening",
    "resources.local.local_cluster",
    "resources.vault.drills.state_rescue",
)
"""Imported where they are used elsewhere; here, once for all runs."""


def load() -> None:
    """Import the definitions and what runs need beside them, and make every job."""
    for name in MODULES:
        import_module(name)
    definitions = import_module("platform_defs.definitions").defs
    definitions.get_repository_def().load_all_definitions()


become_warm_parent(load)
