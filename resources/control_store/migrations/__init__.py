"""Alembic's environment and the migrations, run by `resources.control_store.migrating`."""
