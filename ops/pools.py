"""Pools: how many steps of a kind may run at once, over all runs and processes."""

LAKE_UPKEEP = "lake_upkeep"
BACKUP_SNAPSHOTS = "backup_snapshots"
VAULT_REMOVAL = "vault_removal"
METRIC_ROLLUPS = "metric_rollups"
VECTOR_BUILDS = "vector_builds"

POOL_LIMITS = {
    LAKE_UPKEEP: 1,
    BACKUP_SNAPSHOTS: 1,
    VAULT_REMOVAL: 1,
    METRIC_ROLLUPS: 2,
    VECTOR_BUILDS: 1,
}
"""Pool -> limit. Two compactions of one day would do the same work twice; so would two snapshots of
one network, which are safe together (docs/formats/backup.md) and use every core alone. A rollup
needs a core and up to 1 GiB of memory. Training an index uses every core
alone, or a GPU: `vectors.builds_at_once` is the number of them, and each build leases its own
(`resources/gpu/leasing.py`)."""
