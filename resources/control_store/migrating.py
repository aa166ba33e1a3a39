"""Brings a database to this version's schema, one starter at a time.

The whole migration is one transaction on both databases, committed when `migrate` returns: a
starter that dies in the middle leaves the old schema.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from fleet.errors import SchemaMismatchError
from resources.control_store.database import Database
from resources.control_store.schema import SCHEMA_VERSION

MIGRATIONS_DIR = Path(__file__).parent / "migrations"

_VERSION_TABLE = "alembic_version"


def schema_version(connection: sa.Connection) -> int:
    """Number of the last migration of this database; 0 when it is empty."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return 0
    found = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION_TABLE}").scalar()  # noqa: S608 - a constant
    return int(found or 0)


def migrate(database: Database) -> None:
    """Create or upgrade the schema; nothing happens when it is current.

    Raises:
        SchemaMismatchError: the database is newer than this program.
    """
    with database.read() as connection:
        version = schema_version(connection)
    if version == SCHEMA_VERSION:
        return
    with database.migration() as connection:
        version = schema_version(connection)  # another starter may have been first
        if version > SCHEMA_VERSION:
            raise SchemaMismatchError(
                f"control store has schema version {version}, "
                f"this Stateroom knows versions up to {SCHEMA_VERSION}",
                hint="Run the newer Stateroom, or restore the store from a backup made before it.",
            )
        if version < SCHEMA_VERSION:
            upgrade(connection, SCHEMA_VERSION)


def upgrade(connection: sa.Connection, version: int) -> None:
    """Run the migrations up to `version` inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_DIR).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, f"{version:04d}")
