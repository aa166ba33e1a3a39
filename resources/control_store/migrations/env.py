"""Runs migrations on the connection, and in the transaction, that `migrating` hands over."""

from __future__ import annotations

from alembic import context

from resources.control_store.schema_columns import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
)
context.run_migrations()
