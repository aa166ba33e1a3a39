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


def migrate(
    database: Database, *, version: int = SCHEMA_VERSION, migrations_dir: Path = MIGRATIONS_DIR
) -> None:
    """Create or upgrade the schema; nothing happens when it is current.

    Args:
        database: an opened database.
        version: what this program knows.
        migrations_dir: where the steps are; tests bring steps of their own.

    Raises:
        SchemaMismatchError: the database is newer than this program.
    """
    with database.read() as connection:
        found = schema_version(connection)
    if found == version:
        return
    with database.migration() as connection:
        found = schema_version(connection)  # another starter may have been first
        if found > version:
            raise SchemaMismatchError(
                f"control store has schema version {found}, "
                f"this Stateroom knows versions up to {version}",
                hint="Run the newer Stateroom, or restore the store from a backup made before it.",
            )
        if found < version:
            upgrade(connection, version, migrations_dir)


def upgrade(connection: sa.Connection, version: int, migrations_dir: Path) -> None:
    """Run the migrations up to `version` inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, f"{version:04d}")
