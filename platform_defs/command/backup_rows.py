"""Rows of the backup tables that commands read from the lake, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from fleet.errors import NotFoundError
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from resources.lake.parquet_lake import ParquetLake

R = TypeVar("R", bound=tuple[Any, ...])


def open_lake(settings: Settings) -> ParquetLake | None:
    """The lake of these settings; None when nothing was ever written."""
    if not settings.lake.path.is_dir():
        return None
    from resources.lake.directory_store import DirectoryStore
    from resources.lake.parquet_lake import ParquetLake

    return ParquetLake(DirectoryStore(settings.lake.path))


def read_newest(
    settings: Settings, table: str, record: type[R], partition: str | None = None
) -> list[R]:
    """The newest rows of a table; none when there is no lake, or nothing in it."""
    lake = open_lake(settings)
    if lake is None:
        return []
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(table, partition), record)
    except NotFoundError:
        return []


def known_snapshots(settings: Settings) -> list[str]:
    """Ids of the snapshots that the newest catalogue lists, forgotten ones left out."""
    from fleet.backup_tables import CATALOG, CataloguedSnapshot

    rows = read_newest(settings, CATALOG, CataloguedSnapshot)
    return [row.snapshot_id for row in rows if row.status != "forgotten"]
