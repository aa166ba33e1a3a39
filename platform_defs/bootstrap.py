"""Prepares the Dagster instance before anything uses it: its database, and the limits of pools.

Runs as a process of its own (`python -m platform_defs.bootstrap`), so that `stateroom up` need not
import Dagster. Repeating it changes nothing: limits are set, not added.
"""

from __future__ import annotations

import dagster as dg

POOL_LIMITS = {"duckdb_writer": 1}
"""dagster.yaml can only set one default for all pools; these differ from it.

`duckdb_writer`: two processes that write one DuckDB file exclude each other.
"""


def main() -> None:
    """Open the instance of DAGSTER_HOME (which creates its tables) and set the limits."""
    with dg.DagsterInstance.get() as instance:
        storage = instance.event_log_storage
        for pool, limit in POOL_LIMITS.items():
            storage.set_concurrency_slots(pool, limit)


if __name__ == "__main__":
    main()
