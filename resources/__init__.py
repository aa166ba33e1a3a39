"""With what we touch the world: Dagster resource shells around plain adapters of the ports.

Never holds policy, partitions or schedules.
"""
