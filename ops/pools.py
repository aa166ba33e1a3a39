"""Pools: how many steps of a kind may run at once, over all runs and processes."""

LAKE_UPKEEP = "lake_upkeep"

POOL_LIMITS = {LAKE_UPKEEP: 1}
"""Pool -> limit. Two compactions of one day would do the same work twice."""
