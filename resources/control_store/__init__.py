"""The control store on SQL: one schema, one adapter, two databases (SQLite and PostgreSQL).

Belongs here: SQL, its transactions, its migrations. Does not: decisions, which are `fleet`'s
(`decide_put`, `merge_agents`), and Dagster. Entry: `opening.open_control_store`.
"""
