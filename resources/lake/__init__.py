"""The lake: immutable Parquet objects in a byte store, DuckDB for questions.

`byte_store` is where bytes live (a directory; an object store fits the same port), `parquet_lake`
is the `fleet.ports.Lake` on top of it, `records` turns fleet records into Arrow tables and back.
The layout and every commit point are in `docs/formats/lake.md`.
"""
